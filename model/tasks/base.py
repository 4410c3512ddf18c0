"""A task owns its prompt, its examples, its score and its reward."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from model.audio import Waveform
from model.messages import Conversation
from model.options import GenerationOptions


@dataclass(frozen=True, eq=False)
class Example:
    """One question with its right answer."""

    id: str
    conversation: Conversation
    """Ends in an open assistant turn."""
    reference: str
    """What a perfect answer says."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the example: language ("en", "zh"), speaker, source ..."""


@dataclass(frozen=True)
class Score:
    """How good an answer is."""

    value: float | None
    """In the unit of the task (an error rate, a share of right answers); None if it could not be scored."""
    answer: str
    """The answer as it was compared, after normalisation."""
    explanation: str
    """One sentence on how the value came about."""
    weight: float = 1.0
    """Share of this example in a mean over many, such as its reference words."""

    @classmethod
    def unscored(cls, reason: str) -> "Score":
        """A score that says why there is none; it counts neither as right nor as wrong."""
        return cls(None, "", reason, weight=0.0)


class Task(ABC):
    """What a model can be asked to do with a recording."""

    name: ClassVar[str]
    prompt: ClassVar[str]
    """System prompt, from `model.tasks.prompts`."""
    options: ClassVar[GenerationOptions]
    """How the official examples write the answer."""

    @staticmethod
    @abstractmethod
    def conversation(waveform: Waveform, *, name: str = "") -> Conversation:
        """Ask about a recording; the last turn is the assistant's, open.

        Args:
            waveform: The recording.
            name: What people call it, such as its file name.
        """

    @staticmethod
    @abstractmethod
    def score(hypothesis: str, example: Example) -> Score:
        """Compare an answer with the example's reference."""

    @classmethod
    def reward(cls, hypothesis: str, example: Example) -> float:
        """The score as training wants it: higher is better, 0 to 1; here the score itself.

        Raises:
            ValueError: If the example cannot be scored: a reward must not be invented.
        """
        score = cls.score(hypothesis, example)
        if score.value is None:
            raise ValueError(f"Could not reward the answer to {example.id!r}: {score.explanation}.")
        return score.value
