"""Write down what was said: word error rate for English, character error rate for Mandarin."""

from model.audio import Waveform
from model.messages import Audio, Conversation, Message, Text
from model.options import GenerationOptions
from model.tasks import prompts
from model.tasks.base import Example, Score, Task
from model.tasks.metrics import Edit, align
from model.tasks.normalize import NORMALIZERS, is_chinese


class ASR(Task):
    """Speech recognition with the official prompt: system, the recording, an open assistant turn; greedy, 256 ids.

    The score is an error rate, so lower is better, and its weight is the number of reference words (characters for
    Mandarin): the weighted mean over examples is the corpus rate. The language is `metadata["language"]`, or follows
    from the reference.
    """

    name = "asr"
    prompt = prompts.ASR
    options = GenerationOptions(max_new_tokens=256)

    @staticmethod
    def conversation(waveform: Waveform, *, name: str = "") -> Conversation:
        """Ask for the words of a recording; see `Task.conversation`."""
        return (
            Message("system", (Text(prompts.ASR),)),
            Message("human", (Audio(waveform, name),)),
            Message("assistant", (), closed=False),
        )

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """Error rate of a transcript, with the differing words in the explanation."""
        language = example.metadata.get("language") or ("zh" if is_chinese(example.reference) else "en")
        if language not in NORMALIZERS:
            return Score.unscored(f"there is no normaliser for the language {language!r}")
        said, heard = (NORMALIZERS[language](text) for text in (example.reference, hypothesis))
        as_units = list if language == "zh" else str.split
        edits = align(as_units(said), as_units(heard))
        n_reference = sum(edit.operation != "insert" for edit in edits)
        n_errors = sum(edit.operation != "equal" for edit in edits)
        explanation = _explain(edits, n_errors, n_reference, "characters" if language == "zh" else "words")
        return Score(n_errors / max(1, n_reference), heard, explanation, weight=float(max(1, n_reference)))

    @classmethod
    def reward(cls, hypothesis: str, example: Example) -> float:
        """One minus the error rate, at least 0."""
        return max(0.0, 1.0 - super().reward(hypothesis, example))


def _explain(edits: list[Edit], n_errors: int, n_reference: int, unit: str) -> str:
    """Name the differences: `1 error in 3 words: cat→hat`."""
    head = f"{n_errors} error{'s' * (n_errors != 1)} in {n_reference} {unit}"
    marks = {"substitute": "{0}→{1}", "delete": "−{0}", "insert": "+{1}"}
    named = [marks[e.operation].format(e.reference, e.hypothesis) for e in edits if e.operation != "equal"]
    return head + (f": {', '.join(named)}" if named else "")
