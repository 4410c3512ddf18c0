"""The world's sentences: aligned English and Mandarin, drawn from `slots.tsv` and `templates.tsv`.

Knows words and which combinations are kept for testing; knows nothing of sound. A sentence is *held out* when its
template is marked `held`, or when any two of its slot values form a held-out pair (a fixed hash of the two words
decides, so the split never depends on a seed or on the order of the files). A sentence for training holds no such
pair anywhere, not even one that its fixed words make.
"""

import re
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

HELD_PAIR_SHARE = 12
"""One pair of slot values in this many is never trained on."""
REPEATABLE = frozenset({"digit", "number"})
_HERE = Path(__file__).parent
_FIELD = re.compile(r"\{([a-z]+)(\d?)(?::([sm]))?\}")
_MARKS = re.compile(r"[,.?，。？]")
_PLURAL_ES = re.compile(r"(sh|ch|x|s|[^aeiou]o)$")


@dataclass(frozen=True)
class SlotValue:
    """One word of a slot: English, Chinese and, for counted things, the Chinese measure word."""

    english: str
    chinese: str
    measure: str = ""


@dataclass(frozen=True)
class Template:
    """A sentence with slots. `held` templates are used for tests only."""

    index: int
    held: bool
    domain: str
    english: str
    chinese: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Slot names with their number, in order of first use: ("city", "city2")."""
        found = [a + b for a, b, _ in _FIELD.findall(self.english + self.chinese)]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Sentence:
    """One aligned sentence pair; `values` maps each slot field to its English word."""

    english: str
    chinese: str
    domain: str
    template: int
    values: tuple[tuple[str, str], ...]
    held_out: bool

    def text(self, language: str) -> str:
        """The sentence in `language` ("en" or "zh")."""
        return {"en": self.english, "zh": self.chinese}[language]


def _lines(name: str) -> list[list[str]]:
    rows = (_HERE / name).read_text(encoding="utf-8").splitlines()
    return [row.split("\t") for row in rows if row and not row.startswith("#")]


@cache
def slots() -> dict[str, tuple[SlotValue, ...]]:
    """All slots and their values, in file order."""
    table: dict[str, list[SlotValue]] = {}
    for slot, *words in _lines("slots.tsv"):
        table.setdefault(slot, []).append(SlotValue(*words))
    return {slot: tuple(values) for slot, values in table.items()}


@cache
def templates() -> tuple[Template, ...]:
    """All templates, in file order."""
    return tuple(
        Template(i, use == "held", domain, en, zh) for i, (use, domain, en, zh) in enumerate(_lines("templates.tsv"))
    )


def is_held_pair(first: str, second: str) -> bool:
    """Whether two slot words may never stand together in a training sentence."""
    key = "|".join(sorted((first, second)))
    return zlib.crc32(key.encode()) % HELD_PAIR_SHARE == 0


@cache
def _written_values() -> tuple[tuple[str, str, str], ...]:
    """(English or its plural in lower case with spaces around it, Chinese, English as `is_held_pair` wants it)."""
    values = {value for slot in slots().values() for value in slot}
    forms = {(form.lower(), v) for v in values for form in (v.english, plural(v.english))}
    return tuple(sorted((f" {form} ", v.chinese, v.english) for form, v in forms))


def holds_held_pair(text: str) -> bool:
    """Whether two slot words that are kept apart for testing both stand in `text`, English or Chinese."""
    spaced = f" {_MARKS.sub('', text).lower()} "
    present = dict.fromkeys(name for en, zh, name in _written_values() if en in spaced or zh in spaced)
    pairs = combinations(present, 2)
    # "on Saturday" is no pair of "on" and "on Saturday".
    return any(is_held_pair(a, b) for a, b in pairs if f" {a} " not in f" {b} " and f" {b} " not in f" {a} ")


def plural(noun: str) -> str:
    """The regular English plural of the world's nouns."""
    return noun + ("es" if _PLURAL_ES.search(noun) else "s")


def _fill_english(pattern: str, values: dict[str, SlotValue]) -> str:
    def word(match: re.Match) -> str:
        noun = values[match[1] + match[2]].english
        return plural(noun) if match[3] == "s" else noun

    text = re.sub(r"\s+", " ", _FIELD.sub(word, pattern)).strip()
    text = re.sub(r"\ba (?=[aeiouAEIOU])", "an ", text)
    return text[0].upper() + text[1:]


def _fill_chinese(pattern: str, values: dict[str, SlotValue]) -> str:
    def word(match: re.Match) -> str:
        value = values[match[1] + match[2]]
        return value.measure if match[3] == "m" else value.chinese

    return _FIELD.sub(word, pattern)


def fill(template: Template, values: dict[str, SlotValue]) -> Sentence:
    """Put `values` into `template`."""
    words = [value.english for value in values.values()]
    held = template.held or any(is_held_pair(a, b) for a, b in combinations(words, 2))
    return Sentence(
        english=_fill_english(template.english, values),
        chinese=_fill_chinese(template.chinese, values),
        domain=template.domain,
        template=template.index,
        values=tuple((field, value.english) for field, value in values.items()),
        held_out=held,
    )


def _draw(template: Template, rng: np.random.Generator) -> dict[str, SlotValue]:
    chosen: dict[str, SlotValue] = {}
    for field in template.fields:
        slot = field.rstrip("0123456789")
        taken = set() if slot in REPEATABLE else {v for f, v in chosen.items() if f.rstrip("0123456789") == slot}
        free = [value for value in slots()[slot] if value not in taken]
        chosen[field] = free[rng.integers(len(free))]
    return chosen


@cache
def _weights(table: tuple[Template, ...]) -> np.ndarray:
    """Templates with more combinations are drawn more often, but only slowly more (cube root)."""
    counts = [np.prod([len(slots()[f.rstrip("0123456789")]) for f in t.fields] or [1]) for t in table]
    weights = np.minimum(np.cbrt(np.asarray(counts, dtype=float)), 9.0)
    return weights / weights.sum()


def sample(rng: np.random.Generator, *, held_out: bool = False, tries: int = 10_000) -> Sentence:
    """Draw one sentence of the training or of the held-out side.

    Raises:
        RuntimeError: no sentence of that side was found in `tries` draws (the tables are broken).
    """
    table = templates()
    weights = _weights(table)
    for _ in range(tries):
        template = table[rng.choice(len(table), p=weights)]
        sentence = fill(template, _draw(template, rng))
        if sentence.held_out == held_out and (held_out or not holds_held_pair(sentence.english)):
            return sentence
    raise RuntimeError(
        f"Drawing a sentence (held_out={held_out}) failed {tries} times: check slots.tsv and templates.tsv."
    )


def sample_many(count: int, seed: int, *, held_out: bool = False, salad_share: float = 0.0) -> list[Sentence]:
    """Draw `count` different sentences (by English text), the same for the same seed.

    `salad_share` of them are word salad (`world.salad`), which belongs to the training side only.

    Raises:
        RuntimeError: the world has fewer sentences than asked for.
    """
    from model.training.world import salad

    if held_out and salad_share:
        raise ValueError("Word salad is for training; held-out sentences are drawn without it.")
    rng = np.random.default_rng(seed)
    found: dict[str, Sentence] = {}
    for _ in range(60 * count + 1000):
        mixed = salad_share > 0 and rng.random() < salad_share
        sentence = salad.sample(rng) if mixed else sample(rng, held_out=held_out)
        found.setdefault(sentence.english, sentence)
        if len(found) == count:
            return list(found.values())
    raise RuntimeError(f"Asked for {count} different sentences, found {len(found)}; ask for fewer.")
