"""How something was said, by whom and where: the eleven dimensions of StepEval-Audio-Paralinguistic.

    labels.tsv      every candidate label: what counts as the same, how an answer says it in English and Mandarin
    questions.tsv   how one asks; the lines marked `held` are for tests only

The rules are deterministic readings of the official ones, which ask a language model whether an answer is "the same":

| dimension | an answer passes when it names |
|---|---|
| gender, timbre, style, scenario, vocal | the same label, in any of its words |
| age | an age, or age group, within ten years of the middle of the right one |
| speed | the right one of five steps or one beside it |
| emotion | an emotion of the same polarity: positive, neutral, negative |
| pitch, rhythm, event | a label of the same group (both kinds of high; steady, pauses, changes; one kind of thing) |

Naming two labels of different groups is wrong, and so is naming none. Such rules give a constant answer up to 60 %, so
a result means little without :func:`constant_baseline` beside it; :func:`exact` asks for the label itself.

Source: the public description of StepEval-Audio-Paralinguistic and the rules of its second implementation, lmms-eval.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from model.audio import Waveform
from model.messages import Audio, Control, Conversation, Message, Text
from model.options import GenerationOptions
from model.tasks import prompts
from model.tasks.base import Example, Score, Task
from model.tokens import TTS_START

DIMENSIONS = (
    "gender", "age", "timbre", "scenario", "event", "emotion", "pitch", "rhythm", "speed", "style", "vocal",
)  # fmt: skip
"""In the order of the official table."""
AGE_TOLERANCE_YEARS = 10
_REPLIES = {
    "gender": ("The speaker is {}.", "说话人是{}。"),
    "age": ("The speaker sounds like {}.", "说话人听起来是{}。"),
    "timbre": ("The voice sounds {}.", "说话人的音色是{}的。"),
    "scenario": ("It sounds like {}.", "听起来是在{}。"),
    "event": ("I hear {}.", "我听到了{}。"),
    "emotion": ("The speaker sounds {}.", "说话人听起来很{}。"),
    "pitch": ("The pitch is {}.", "说话人的音调是{}。"),
    "rhythm": ("The rhythm is {}.", "说话的节奏{}。"),
    "speed": ("The speed is {}.", "说话的速度是{}。"),
    "style": ("The speaker is {}.", "说话的风格是{}。"),
    "vocal": ("I hear {}.", "我听到了{}。"),
}
"""Dimension -> the sentence around a label, in English and in Mandarin."""


class Label(NamedTuple):
    """One possible answer."""

    dimension: str
    name: str
    group: str
    """What passes for the same; a number of years for ages, a step for speeds."""
    english: str
    chinese: str
    words: tuple[str, ...]
    """Everything that names it, in both languages."""

    def word(self, language: str) -> str:
        """How an answer in `language` ("en" or "zh") says it."""
        return {"en": self.english, "zh": self.chinese}[language]


def _table(name: str) -> list[list[str]]:
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


@cache
def labels(dimension: str) -> dict[str, Label]:
    """The candidate labels of one dimension by name, in the order of the table.

    Raises:
        KeyError: When there is no such dimension; the message lists those there are.
    """
    found = [
        Label(d, name, group, english, chinese, (english, chinese, *map(str.strip, words.split(","))))
        for d, name, group, english, chinese, words in _table("labels.tsv")
        if d == dimension
    ]
    if not found:
        raise KeyError(f"No dimension is called {dimension!r}. Known: {', '.join(DIMENSIONS)}.")
    return {label.name: label for label in found}


@cache
def questions(dimension: str, language: str, *, held_out: bool = False) -> tuple[str, ...]:
    """How one asks for a dimension; those of `held_out` are never trained on."""
    use = "held" if held_out else "train"
    return tuple(text for d, u, lang, text in _table("questions.tsv") if (d, u, lang) == (dimension, use, language))


def reply(dimension: str, label: str, language: str) -> str:
    """The answer that names a label: "The speaker sounds happy."."""
    return _REPLIES[dimension][language == "zh"].format(labels(dimension)[label].word(language))


# --- what an answer names -----------------------------------------------------------------------------------------


@cache
def _pattern(dimension: str) -> tuple[re.Pattern, dict[str, str]]:
    """One expression for all words of a dimension, the longest first, and which label each word names."""
    owner = {word.lower(): label.name for label in labels(dimension).values() for word in label.words}
    longest = sorted(owner, key=len, reverse=True)
    parts = [rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word) for word in longest]
    return re.compile("|".join(parts)), owner


def named(dimension: str, answer: str) -> tuple[str, ...]:
    """The labels that an answer names, each once, in order; a word inside a longer one does not count."""
    pattern, owner = _pattern(dimension)
    return tuple(dict.fromkeys(owner[match] for match in pattern.findall(answer.lower())))


_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2}
_DECADES = {
    "teens": 15, "twenties": 25, "thirties": 35, "forties": 45, "fifties": 55, "sixties": 65, "seventies": 75,
    "eighties": 85,
}  # fmt: skip
_NUMBERS = {
    "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twenty": 20, "thirty": 30, "forty": 40,
    "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
}  # fmt: skip


def years(answer: str) -> float | None:
    """The age that an answer names, in years: the middle of a range, a number in digits or words, or an age group."""
    text = answer.lower()
    if digits := re.search(r"(\d{1,2})(?:\s*(?:-|–|~|to|到|至)\s*(\d{1,2}))?", text):
        ends = [float(end) for end in digits.groups() if end]
        return sum(ends) / len(ends)
    for word, age in _DECADES.items():
        if word in text:
            return float(age)
    if chinese := re.search(r"([二三四五六七八九]?)(十?)([一二三四五六七八九]?)(多?)岁", text):
        tens, ten, ones, more = chinese.groups()
        if tens or ten or ones:
            low = 10 * _DIGITS.get(tens, 1) if ten else _DIGITS.get(tens, 0)
            return float(low + _DIGITS.get(ones, 0) + (5 if more else 0))
    if words := [_NUMBERS[word] for word in re.findall(r"[a-z]+", text) if word in _NUMBERS]:
        return float(sum(words[:2]) if words[0] >= 20 and len(words) > 1 and words[1] < 10 else words[0])
    groups = [float(labels("age")[name].group) for name in named("age", text)]
    return groups[0] if len(groups) == 1 else None


def same(dimension: str, found: str, right: str) -> bool:
    """Whether naming label `found` passes where `right` is true."""
    first, second = (labels(dimension)[name].group for name in (found, right))
    if dimension == "age":
        return abs(float(first) - float(second)) <= AGE_TOLERANCE_YEARS
    if dimension == "speed":
        return abs(int(first) - int(second)) <= 1
    return first == second


def passes(dimension: str, answer: str, right: str) -> bool:
    """Whether an answer passes where the label `right` is true, by the rules at the top."""
    if dimension == "age":
        age = years(answer)
        return age is not None and abs(age - float(labels("age")[right].group)) <= AGE_TOLERANCE_YEARS
    found = named(dimension, answer)
    groups = {labels(dimension)[name].group for name in found}
    return len(groups) == 1 and same(dimension, found[0], right)


def exact(dimension: str, answer: str, right: str) -> bool:
    """Whether an answer names the label itself and no other."""
    if dimension == "age":
        age = years(answer)
        nearest = min(labels("age").values(), key=lambda label: abs(float(label.group) - (age or 0)))
        return age is not None and nearest.name == right
    return named(dimension, answer) == (right,)


@dataclass(frozen=True)
class Baseline:
    """The best that an answer without listening reaches."""

    label: str
    accuracy: float
    """Share of right answers, 0 to 1."""


def constant_baseline(dimension: str, right: Sequence[str]) -> Baseline:
    """The one label that passes most often when it is always the answer.

    Args:
        dimension: One of `DIMENSIONS`.
        right: True labels of the examples.

    Raises:
        ValueError: If there is no example.
    """
    if not right:
        raise ValueError(f"Could not compute the constant answer of {dimension!r}: found no example, expected some.")
    shares = {name: sum(same(dimension, name, label) for label in right) / len(right) for name in labels(dimension)}
    best = max(shares, key=shares.__getitem__)
    return Baseline(best, shares[best])


# --- the task -----------------------------------------------------------------------------------------------------


class Paralinguistics(Task):
    """Name one of eleven properties of a recording; asked in writing or by a second, spoken clip.

        system | human: recording, question | assistant, open          (`<tts_start>` first when it shall speak)

    Examples carry `dimension` and `label` in their metadata. The value of a score is 1 or 0.
    """

    name = "paralinguistics"
    prompt = prompts.PARALINGUISTIC
    options = GenerationOptions(max_new_tokens=64)

    @staticmethod
    def conversation(
        waveform: Waveform,
        *,
        name: str = "",
        question: str | Waveform | None = None,
        speak: bool = False,
        question_first: bool = False,
    ) -> Conversation:
        """Ask about a recording; see `Task.conversation`.

        Args:
            waveform: The recording.
            name: What people call it.
            question: The question in writing or spoken; None if the recording contains it, as in StepEval.
            speak: Whether the answer shall be spoken, with the official prompt for that.
            question_first: Ask before the recording is heard.
        """
        parts: list = [Audio(waveform, name)]
        if question is not None:
            asked = Audio(question, "question") if isinstance(question, Waveform) else Text(question)
            parts.insert(0 if question_first else 1, asked)
        return (
            Message("system", (Text(prompts.PARALINGUISTIC if speak else prompts.CHAT),)),
            Message("human", tuple(parts)),
            Message("assistant", (Control(TTS_START),) if speak else (), closed=False),
        )

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """Pass or fail by the dimension's rule; the explanation says what was named."""
        dimension, right = (example.metadata.get(key) for key in ("dimension", "label"))
        if dimension not in DIMENSIONS or right not in labels(dimension):
            return Score.unscored(f"there is no rule for dimension {dimension!r} with label {right!r}")
        value = float(passes(dimension, hypothesis, right))
        found = named(dimension, hypothesis)
        answer = f"{years(hypothesis):g} years" if dimension == "age" and years(hypothesis) else ", ".join(found)
        verdict = "passes for" if value else "is not"
        return Score(value, answer, f"{answer or 'no label'} {verdict} {right}")
