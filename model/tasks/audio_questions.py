"""Multiple choice about speech, sound and music in MMAU's format.

    "How many knocks are there? Please choose the answer from the following options: [one, two, three, four].
     Output the final answer in <RESPONSE> </RESPONSE>."

The official score compares words: an answer must hold every word of the right choice and no word that only the wrong
ones have; "A. dog" or a sentence around the choice can fail it. So the choice is read from the answer first
(:func:`pick`), and the official comparison (:func:`word_match`) is made on that choice's own text.

Source: MMAU (Sakshi et al. 2024) and its public evaluation script's description; the official Step-Audio 2 example.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.audio import Waveform
from model.messages import Audio, Conversation, Message, Text
from model.options import GenerationOptions
from model.tasks import prompts
from model.tasks.base import Example, Score, Task

_RESPONSE = re.compile(r"<response>(.*?)(?:</response>|$)", re.IGNORECASE | re.DOTALL)
_LETTER = re.compile(r"^\W*([a-z])(?:[.):：、]\s*|\W*$)", re.IGNORECASE)


@dataclass(frozen=True)
class Choices:
    """The options of one question, in the order they are shown, and which one is right."""

    options: tuple[str, ...]
    right: int

    def __post_init__(self) -> None:
        """Refuse options that cannot be told apart."""
        if len({_plain(option) for option in self.options}) < len(self.options) or len(self.options) < 2:
            raise ValueError(f"Could not offer {self.options}: expected at least two options, all different.")
        if not 0 <= self.right < len(self.options):
            raise ValueError(f"Could not offer {self.options}: found no option number {self.right}.")

    @property
    def answer(self) -> str:
        """Text of the right option."""
        return self.options[self.right]

    @classmethod
    def shuffled(cls, answer: str, others: Sequence[str], rng: np.random.Generator, *, count: int = 4) -> "Choices":
        """Put the answer among at most `count - 1` of the others, every position equally likely.

        Args:
            answer: The right option.
            others: Wrong options; those equal to the answer are left out.
            rng: Source of the choice and of the order.
            count: Number of options; fewer if there are not enough.
        """
        wrong = [text for text in dict.fromkeys(others) if _plain(text) != _plain(answer)]
        taken = [wrong[i] for i in rng.permutation(len(wrong))[: count - 1]]
        options = [answer, *taken]
        order = rng.permutation(len(options))
        return cls(tuple(options[i] for i in order), int(np.flatnonzero(order == 0)[0]))


def ask(question: str, choices: Choices) -> str:
    """The question with its options, as the official example writes it."""
    listed = ", ".join(choices.options)
    return (
        f"{question} Please choose the answer from the following options: [{listed}] "
        "Output the final answer in <RESPONSE> </RESPONSE>."
    )


def respond(choices: Choices) -> str:
    """The perfect answer."""
    return f"<RESPONSE>{choices.answer}</RESPONSE>"


def _plain(text: str) -> str:
    """Lower-case words, or characters, without anything between."""
    return " ".join(re.findall(r"\w+", text.lower()))


def pick(answer: str, options: Sequence[str]) -> int | None:
    """Which option an answer chooses, or None when it names none or several.

    Tags are taken off; then the option's text, "B" or "B. text", or the one option that occurs in a sentence counts.
    """
    tagged = _RESPONSE.search(answer)
    text = (tagged[1] if tagged else answer).strip()
    plain = [_plain(option) for option in options]
    if _plain(text) in plain:
        return plain.index(_plain(text))
    if letter := _LETTER.match(text):
        index, rest = ord(letter[1].lower()) - ord("a"), _plain(text[letter.end() :])
        if index < len(options) and rest in ("", plain[index]):
            return index
        text = text[letter.end() :] if rest else text
    return _only_named(_plain(text), plain)


def _only_named(text: str, plain: Sequence[str]) -> int | None:
    """The one option inside a text; an option inside a longer named one does not count."""
    rest, found = text, []
    for index in sorted(range(len(plain)), key=lambda i: -len(plain[i])):
        pattern = rf"\b{re.escape(plain[index])}\b" if plain[index].isascii() else re.escape(plain[index])
        if plain[index] and re.search(pattern, rest):
            found.append(index)
            rest = re.sub(pattern, " | ", rest)
    return found[0] if len(found) == 1 else None


def word_match(answer: str, options: Sequence[str], right: int) -> bool:
    """The official comparison: every word of the right option, and no word that only wrong ones have."""
    words = [set(re.findall(r"\b\w+\b", option.lower())) for option in options]
    said = set(re.findall(r"\b\w+\b", answer.lower()))
    wrong = set().union(*(w for i, w in enumerate(words) if i != right)) - words[right]
    return bool(said) and words[right] <= said and not said & wrong


def chance(questions: Sequence[Choices]) -> float:
    """Expected share of right answers of a blind guess.

    Raises:
        ValueError: If there is no question.
    """
    if not questions:
        raise ValueError("Could not compute the chance level: found no question, expected some.")
    return sum(1 / len(q.options) for q in questions) / len(questions)


class AudioQuestions(Task):
    """Choose the right option about a recording, with the official prompt.

    Examples carry `options` (texts as shown) and `right` (index) in their metadata. The value of a score is 1 or 0; an
    answer that chooses nothing counts as wrong and is never skipped.
    """

    name = "audio_questions"
    prompt = prompts.AUDIO_ANALYSIS
    options = GenerationOptions(max_new_tokens=256)

    @staticmethod
    def conversation(waveform: Waveform, *, name: str = "", question: str = "") -> Conversation:
        """Ask about a recording; `question` is written by :func:`ask`. See `Task.conversation`."""
        asked = (Text(question),) if question else ()
        return (
            Message("system", (Text(prompts.AUDIO_ANALYSIS),)),
            Message("human", (Audio(waveform, name), *asked)),
            Message("assistant", (), closed=False),
        )

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """1 if the right option is chosen; the explanation adds what the bare official comparison says."""
        options, right = (example.metadata.get(key) for key in ("options", "right"))
        if not options or right is None:
            return Score.unscored("the example names no options")
        chosen = pick(hypothesis, options)
        answer = "" if chosen is None else options[chosen]
        official = "passes" if word_match(hypothesis, options, right) else "fails"
        said = f"chose {answer!r}" if answer else "chose nothing"
        explanation = f"{said}, right is {options[right]!r}; the bare word comparison {official}"
        return Score(float(chosen == right), answer, explanation)
