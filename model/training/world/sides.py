"""Which side of the split a piece of talk belongs to, and whether a text gives a test sentence away.

    talk is held out  <-  its pattern is marked `held`
                      or  two of its drawn words form a held-out pair (grammar.is_held_pair)
                      or  one of its texts is a held-out sentence of the grammar

So nothing that is trained on, neither what people say nor what they are answered, holds a sentence that is tested.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import combinations
from typing import TypeVar

import numpy as np

from model.training.world import grammar
from model.training.world.grammar import SlotValue, Template

MAX_TRIES = 5_000
_FIELD = re.compile(r"\{([a-z]+)(\d?)(?::([sm]))?\}")
_SENTENCE = re.compile(r"[^.?!。？！]+[.?!。？！]?")
_MARKS = re.compile(r"[,.?!;:，。？！；：]")
_T = TypeVar("_T")


def fill(pattern: tuple[str, str], values: Mapping[str, SlotValue]) -> tuple[str, str]:
    """Put words into an English and a Chinese pattern."""
    english, chinese = pattern
    sentence = grammar.fill(Template(-1, False, "", english or "-", chinese), dict(values))
    return (re.sub(r"\bA (?=[aeiou])", "An ", sentence.english) if english else ""), sentence.chinese


def fields(*patterns: str) -> tuple[str, ...]:
    """Name the slots of patterns with their numbers, in order of first use."""
    return tuple(dict.fromkeys(a + b for text in patterns for a, b, _ in _FIELD.findall(text)))


def draw(names: Iterable[str], rng: np.random.Generator, fixed: Mapping[str, SlotValue] | None = None) -> dict:
    """Draw a word of the world for each slot; the same slot twice gives two words, but for digits."""
    chosen: dict[str, SlotValue] = dict(fixed or {})
    for name in names:
        if name not in chosen:
            slot = name.rstrip("0123456789")
            same = () if slot in grammar.REPEATABLE else chosen
            taken = {chosen[other] for other in same if other.rstrip("0123456789") == slot}
            free = [value for value in grammar.slots()[slot] if value not in taken]
            chosen[name] = free[rng.integers(len(free))]
    return chosen


def has_held_pair(words: Iterable[str]) -> bool:
    """Whether two of these words (English) may never stand together in training."""
    return any(grammar.is_held_pair(a, b) for a, b in combinations(words, 2))


def gives_away(text: str) -> bool:
    """Whether a text, or a sentence in it, is one that the grammar keeps for testing."""
    pieces = [text, *(piece.strip() for piece in _SENTENCE.findall(text))]
    return any(_is_test_sentence(plain(piece)) for piece in dict.fromkeys(pieces) if plain(piece))


def draw_on_side(make: Callable[[], tuple[_T, bool | None]], held_out: bool, what: str) -> _T:
    """Draw until one of the wanted side comes.

    Args:
        make: Draws one and says whether it is held out; None if it is of no use.
        held_out: Which side is wanted.
        what: Name for the message.

    Raises:
        RuntimeError: If none comes; the tables are broken then.
    """
    for _ in range(MAX_TRIES):
        made, is_held = make()
        if is_held == held_out:
            return made
    raise RuntimeError(f"Drawing {what} (held_out={held_out}) failed {MAX_TRIES} times: check the tables of the world.")


def plain(text: str) -> str:
    """Small letters without marks, and one article, so that all ways to write a sentence meet."""
    return re.sub(r"\ban\b", "a", " ".join(_MARKS.sub(" ", text).lower().split()))


@lru_cache(maxsize=20_000)
def _is_test_sentence(text: str) -> bool:
    return any(is_held or has_held_pair(words) for is_held, words in _readings(text))


def _readings(text: str) -> Iterator[tuple[bool, list[str]]]:
    """All ways to read a text as a template of the grammar: whether it is held, the English words in its slots."""
    for is_held, longest, pattern, names in _templates(bool(re.search(r"[\u4e00-\u9fff]", text))):
        found = pattern.fullmatch(text) if longest in text else None
        if found:
            yield is_held, [_by_text()[name][word] for name, word in zip(names, found.groups(), strict=True)]


@cache
def _templates(chinese: bool) -> tuple[tuple[bool, str, re.Pattern, tuple[str, ...]], ...]:
    """Templates that are held or have two slots: held?, a fixed part that must be there, a pattern, its slots."""
    found = []
    for template in grammar.templates():
        text = template.chinese if chinese else template.english
        slots = _FIELD.findall(text)
        names = tuple(name for name, _, kind in slots if kind != "m")
        if template.held or len(names) >= 2:
            # After the split, every fourth piece is fixed text; a slot's name, number and kind stand between.
            fixed = [_plain_part(part) for part in _FIELD.split(text)[::4]]
            choices = [_choices(name, kind) for name, _, kind in slots] + [""]
            pattern = "".join(re.escape(part) + choice for part, choice in zip(fixed, choices, strict=True))
            pattern = re.sub(r"^(\\ )+|(\\ )+$", "", pattern)
            found.append((template.held, max(fixed, key=len).strip(), re.compile(pattern), names))
    return tuple(found)


def _plain_part(part: str) -> str:
    """Fixed words of a template as `plain` leaves them, with the spaces to its slots."""
    return re.sub(r"\ban\b", "a", re.sub(r"\s+", " ", _MARKS.sub(" ", part).lower()))


@cache
def _choices(slot: str, kind: str) -> str:
    """One word of a slot as a group; a measure word, which its noun decides, without one."""
    values = grammar.slots()[slot]
    texts = {v.measure for v in values} if kind == "m" else {text for v in values for text in _forms(v)}
    return ("(?:" if kind == "m" else "(") + "|".join(map(re.escape, sorted(texts, key=len, reverse=True))) + ")"


def _forms(value: SlotValue) -> set[str]:
    return {plain(text) for text in (value.english, grammar.plural(value.english), value.chinese)}


@cache
def _by_text() -> dict[str, dict[str, str]]:
    """slot -> how a word is written -> its English form."""
    return {
        slot: {text: value.english for value in values for text in _forms(value)}
        for slot, values in grammar.slots().items()
    }
