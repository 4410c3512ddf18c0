"""Think before answering: name what is in the sound, then what follows from it, then answer.

    <think>                                          prompt ends here; the model goes on
    The speaker is a woman. I hear a dog.            what was heard: one line, a sentence for each property
    Three plus five is eight.                        what follows
    </think>

    It is eight.                                     the answer, which is scored as a chat reply is

A trace is grounded when its first line claims nothing but what the labels of the sound say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from model.audio import Waveform
from model.chat import THINK_PREFIX, split_thought
from model.messages import Conversation, Message, Text
from model.options import GenerationOptions
from model.tasks import paralinguistics, prompts
from model.tasks.base import Example, Score, Task
from model.tasks.chat import Chat
from model.tasks.normalize import NORMALIZERS, is_chinese

MAX_THOUGHT_UNITS = 60
"""Words (characters for Mandarin) from which a thought counts as too long."""
RIGHT_SHARE, THOUGHT_SHARE = 0.8, 0.2
"""Parts of the reward: a right answer; a grounded thought of good length."""
_UNSURE = ("gender", "age", "emotion", "event", "vocal", "scenario")
"""Dimensions that are looked for in sentences of free form."""


@dataclass(frozen=True)
class Claim:
    """One thing that a thought says it heard."""

    dimension: str
    labels: tuple[str, ...]
    """Labels that the words may mean; any of them will do."""


class Thinking(Task):
    """Chat with a thought first; the hypothesis is what the model wrote after `<think>`, thought and answer.

    Metadata: as for `Chat`, and `sound`: the labels of the recording, dimension -> label.
    """

    name = "thinking"
    prompt = prompts.THINK
    options = GenerationOptions(max_new_tokens=512, think=True)

    @staticmethod
    def conversation(
        waveform: Waveform | str, *, name: str = "", history: Sequence[tuple[Waveform | str, str]] = ()
    ) -> Conversation:
        """Say something; the assistant's turn is open inside a thought. See `Chat.conversation`."""
        asked = Chat.conversation(waveform, name=name, history=history, system=prompts.THINK)
        return (*asked[:-1], Message("assistant", (Text(THINK_PREFIX),), closed=False))

    @classmethod
    def example(
        cls,
        said: Waveform | str,
        reference: str,
        *,
        id: str,
        language: str,
        sound: Mapping[str, str] | None = None,
        history: Sequence[tuple[Waveform | str, str]] = (),
        **metadata: object,
    ) -> Example:
        """Make one question.

        Args:
            said: The recording, or typed text.
            reference: The answer, without the thought.
            id: Name of the example.
            language: "en" or "zh".
            sound: What is truly in the recording.
            history: What was said before.
            metadata: `key`, `others`, `register` of the answer, and whatever else is known.
        """
        data = {"language": language, "sound": dict(sound or {}), **metadata}
        return Example(id, cls.conversation(said, name=id, history=history), reference, data)

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """Whether the answer is right, 1 or 0; the explanation also judges the thought."""
        split = split_thought(hypothesis, opened=True)
        if not split.finished:
            return Score(0.0, "", "the thought never ended, so there is no answer")
        score = Chat.score(split.answer, example)
        false = false_claims(split.thought, example)
        heard = f"claims what is not there: {', '.join(false)}" if false else "thought is grounded"
        return Score(score.value, score.answer, f"{score.explanation}; {heard}; {thought_units(split.thought)} units")

    @classmethod
    def reward(cls, hypothesis: str, example: Example) -> float:
        """A right answer is worth `RIGHT_SHARE`, a grounded thought of good length the rest."""
        right = cls.score(hypothesis, example).value or 0.0
        split = split_thought(hypothesis, opened=True)
        good = length_reward(hypothesis) and not false_claims(split.thought, example)
        return RIGHT_SHARE * right + THOUGHT_SHARE * float(good)


def length_reward(hypothesis: str, *, max_units: int = MAX_THOUGHT_UNITS) -> float:
    """The binary reward of the first PPO stage: 1 for a thought that is not empty, not too long, and ended.

    Source: Step-Audio 2 technical report, section on reinforcement learning.
    """
    split = split_thought(hypothesis, opened=True)
    return float(split.finished and 0 < thought_units(split.thought) <= max_units)


def thought_units(thought: str) -> int:
    """Length of a thought in English words, or Chinese characters where there are any."""
    chinese = is_chinese(thought)
    normal = NORMALIZERS["zh" if chinese else "en"](thought)
    return len(normal) if chinese else len(normal.split())


def claims(thought: str) -> tuple[Claim, ...]:
    """Find what the first line of a thought says was heard."""
    heard = thought.strip().splitlines()[:1]
    sentences = [s.strip() for text in heard for s in text.replace("。", ".").split(".") if s.strip()]
    return tuple(claim for sentence in sentences for claim in _claims_of(sentence))


def false_claims(thought: str, example: Example) -> tuple[str, ...]:
    """Name the claims that the labels of the sound do not bear out, such as `emotion: sad`."""
    sound = example.metadata.get("sound", {})
    return tuple(
        f"{claim.dimension}: {'/'.join(claim.labels)}"
        for claim in claims(thought)
        if sound.get(claim.dimension) not in claim.labels
    )


def _claims_of(sentence: str) -> list[Claim]:
    """Read one sentence: as the sentences of the paralinguistics task, else by the words of each dimension."""
    exact = _sentences().get(sentence)
    if exact:
        return [exact]
    found = {dimension: paralinguistics.named(dimension, sentence) for dimension in _UNSURE}
    return [Claim(dimension, tuple(names)) for dimension, names in found.items() if names]


@cache
def _sentences() -> dict[str, Claim]:
    """Every sentence that names a label, without its mark."""
    return {
        paralinguistics.reply(dimension, label, language).rstrip(".。"): Claim(dimension, (label,))
        for dimension in paralinguistics.DIMENSIONS
        for label in paralinguistics.labels(dimension)
        for language in ("en", "zh")
    }
