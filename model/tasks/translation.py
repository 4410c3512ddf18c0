"""Say in the other language what was said: speech to text (S2TT) and speech to speech (S2ST), both directions.

    S2TT   BLEU of the text, case and punctuation as they are            tok:13a to English, tok:zh to Chinese
    S2ST   ASR-BLEU: the spoken reply is transcribed first, then compared without case and punctuation

A sentence has a BLEU only for its explanation and its reward; a table shows `corpus_bleu` with its interval.
"""

from collections.abc import Sequence

from model.audio import Waveform
from model.messages import Audio, Control, Conversation, Message, Text
from model.options import GenerationOptions
from model.tasks import prompts
from model.tasks.base import Example, Score, Task
from model.tasks.bleu import TOKENIZERS, Bleu, bleu, bleu_counts, bleu_interval
from model.tasks.normalize import is_chinese
from model.tokens import TTS_START

PROMPTS = {
    ("zh", False): prompts.TRANSLATE_TO_ZH,
    ("zh", True): prompts.TRANSLATE_TO_ZH_SPOKEN,
    ("en", False): prompts.TRANSLATE_TO_EN,
    ("en", True): prompts.TRANSLATE_TO_EN_SPOKEN,
}
"""(language of the translation, whether it is spoken) -> system prompt."""


class Translation(Task):
    """Translation with the official prompts: system, the recording, an open assistant that writes or speaks.

    Metadata: `language` is the language of the translation (else it follows from the reference); `spoken` says that
    the hypothesis is a transcript of a spoken reply.
    """

    name = "translation"
    prompt = prompts.TRANSLATE_TO_ZH
    options = GenerationOptions(max_new_tokens=256)

    @staticmethod
    def conversation(
        waveform: Waveform | str, *, name: str = "", target: str = "zh", speak: bool = False
    ) -> Conversation:
        """Ask for a translation; see `Task.conversation`.

        Args:
            waveform: The recording, or typed text.
            name: What people call it.
            target: Language of the translation, "en" or "zh".
            speak: Whether the translation is spoken.
        """
        return (
            Message("system", (Text(PROMPTS[target, speak]),)),
            Message("human", (Text(waveform) if isinstance(waveform, str) else Audio(waveform, name),)),
            Message("assistant", (Control(TTS_START),) if speak else (), closed=False),
        )

    @classmethod
    def example(
        cls, waveform: Waveform, reference: str, *, id: str, target: str, speak: bool = False, **metadata: object
    ) -> Example:
        """Make one question with its reference translation."""
        conversation = cls.conversation(waveform, name=id, target=target, speak=speak)
        return Example(id, conversation, reference, {"language": target, "spoken": speak, **metadata})

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """BLEU of one translation, 0 to 1, with orders it is too short for left out."""
        language = _target(example)
        if language not in TOKENIZERS:
            return Score.unscored(f"there is no tokenizer for the language {language!r}")
        spoken = bool(example.metadata.get("spoken"))
        found = bleu([example.reference], [hypothesis], language=language, normalize=spoken, effective_order=True)
        return Score(found.score / 100, hypothesis.strip(), f"{found}; expected: {example.reference}")


def corpus_bleu(hypotheses: Sequence[str], examples: Sequence[Example]) -> tuple[Bleu, tuple[float, float]]:
    """BLEU over examples of one direction, with its 95 % interval.

    Raises:
        ValueError: If the examples are none, or of more than one language or kind.
    """
    kinds = {(_target(example), bool(example.metadata.get("spoken"))) for example in examples}
    if len(kinds) != 1:
        raise ValueError(
            f"Could not compute BLEU: found {len(examples)} examples of the kinds {sorted(kinds)}, expected at least "
            "one and all into one language, all written or all spoken; split them by direction first."
        )
    ((language, spoken),) = kinds
    references = [example.reference for example in examples]
    rows = bleu_counts(references, hypotheses, language=language, normalize=spoken)
    return bleu(references, hypotheses, language=language, normalize=spoken), bleu_interval(rows)


def _target(example: Example) -> str:
    return example.metadata.get("language") or ("zh" if is_chinese(example.reference) else "en")
