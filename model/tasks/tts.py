"""Read a text aloud: right when a recogniser hears the text again.

    text ──model──> codes ──token2wav──> sound ──recogniser──> transcript ──score──> error rate against the text

The recogniser errs too, so a number means something only beside the same recogniser on other speech of the same texts.
"""

from model.messages import PLAIN, Control, Conversation, Message, Text
from model.options import GenerationOptions
from model.tasks import prompts
from model.tasks.asr import ASR
from model.tasks.base import Example, Score, Task
from model.tasks.normalize import is_chinese
from model.tokens import TTS_START


class TTS(Task):
    """Speech from text, as the base model is asked: one plain text without roles that ends in `<tts_start>`.

    The hypothesis of a score is the transcript of what was spoken. The score is an error rate, as for `ASR`.
    """

    name = "tts"
    prompt = prompts.BASE_SPEAK
    options = GenerationOptions(max_new_tokens=2048)

    @staticmethod
    def conversation(text: str, *, name: str = "") -> Conversation:  # type: ignore[override]
        """Ask for a text to be read; unlike other tasks, there is no recording to hear.

        Args:
            text: What to read.
            name: Unused; there for the sake of the other tasks.
        """
        return (Message(PLAIN, (Text(prompts.BASE_SPEAK + text), Control(TTS_START)), closed=False),)

    @classmethod
    def example(cls, text: str, *, id: str, language: str = "", **metadata: object) -> Example:
        """Make one text to read."""
        language = language or ("zh" if is_chinese(text) else "en")
        return Example(id, cls.conversation(text), text, {"language": language, **metadata})

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """Error rate of what a recogniser heard."""
        return ASR.score(hypothesis, example)

    @classmethod
    def reward(cls, hypothesis: str, example: Example) -> float:
        """One minus the error rate, at least 0."""
        return ASR.reward(hypothesis, example)
