"""Word salad: words of the world in an order that no grammar foretells, so that whoever writes them down must listen.

    phrases    slot phrases and the fixed parts of training templates at random    "Kitchen by bus I would like purple."
    broken     sentences with words dropped, swapped, replaced, put in     "Turn left the light window kitchen."

A salad never holds a held-out word pair, and one that happens to look like a held-out template is thrown away. It is no
translation to learn from. Phrases alone were not enough in English: with them, patterns never trained on still had
41 % word errors where known ones had 4 %, for whole phrases had become words of their own.
"""

import re
from functools import cache

import numpy as np

from model.training.pronunciation import cut_words
from model.training.world import grammar

TEMPLATE = -1
"""`Sentence.template` of a salad."""
MAX_PHRASES = 5
BROKEN_SHARE = 0.7
_EDIT_SHARE = 0.35
"""Share of the words of a broken sentence that something happens to."""
_FIELD = re.compile(r"\{[^}]+\}")
_MARKS = re.compile(r"[,.?，。？]")


@cache
def _phrases() -> tuple[tuple[str, str], ...]:
    """(English, Chinese): every slot value once, and whole templates that have no slot."""
    values = {(v.english, v.chinese) for values in grammar.slots().values() for v in values}
    fixed = {
        (_MARKS.sub("", _lower(t.english)), _MARKS.sub("", t.chinese))
        for t in grammar.templates()
        if not t.held and not t.fields
    }
    return tuple(sorted(values | fixed))


@cache
def _capitalised() -> frozenset[str]:
    """First words that stay as they are: names and I."""
    values = (value.english.split()[0] for values in grammar.slots().values() for value in values)
    return frozenset({"I", "I'm", "I'd", *(word for word in values if word[0].isupper())})


def _lower(text: str) -> str:
    return text if text.split(" ")[0].rstrip(",.?") in _capitalised() else text[:1].lower() + text[1:]


@cache
def _parts() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fixed parts of the training templates between their slots, English and Chinese apart."""
    found = []
    for pattern in ("english", "chinese"):
        parts: set[str] = set()
        for template in grammar.templates():
            if not template.held:
                pieces = _FIELD.split(getattr(template, pattern))
                parts |= {_MARKS.sub("", _lower(piece.strip())).strip() for piece in pieces}
        found.append(tuple(sorted(parts - {""})))
    return found[0], found[1]


@cache
def _held_patterns() -> re.Pattern:
    whole = [
        ".+".join(re.escape(_MARKS.sub("", part).lower()) for part in _FIELD.split(text))
        for template in grammar.templates()
        if template.held
        for text in (template.english, template.chinese)
    ]
    return re.compile("|".join(whole) or "(?!)")


def looks_held(text: str) -> bool:
    """Whether `text` could be a held-out template with something in its slots."""
    return _held_patterns().fullmatch(_MARKS.sub("", text).lower()) is not None


@cache
def _words(language: str) -> tuple[str, ...]:
    """Every word of the training side, English in lower case but for I and names."""
    parts, values = _parts(), {v for values in grammar.slots().values() for v in values}
    if language == "en":
        return tuple(sorted({word for text in (*parts[0], *(v.english for v in values)) for word in text.split()}))
    return tuple(sorted({word for text in (*parts[1], *(v.chinese for v in values)) for word in cut_words(text)}))


def _broken(words: list[str], vocabulary: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    made: list[str] = []
    for word in words:
        kind = rng.integers(4) if rng.random() < _EDIT_SHARE else -1
        other = vocabulary[rng.integers(len(vocabulary))]
        if kind == 0:
            made.append(other)
        elif kind == 1:
            made += [word, other]
        elif kind == 2 and made:
            made.insert(-1, word)
        elif kind != 3:
            made.append(word)
    return made or [vocabulary[rng.integers(len(vocabulary))]]


def _broken_pair(rng: np.random.Generator) -> tuple[str, str]:
    """Two sentences, broken each on its own."""
    sentence = grammar.sample(rng)
    english = _broken(_MARKS.sub("", _lower(sentence.english)).split(), _words("en"), rng)
    chinese = _broken(cut_words(_MARKS.sub("", sentence.chinese)), _words("zh"), rng)
    return " ".join(english), "".join(chinese) + "。"


def _phrased(rng: np.random.Generator) -> tuple[str, str]:
    english, chinese = [], []
    for _ in range(int(rng.integers(1, MAX_PHRASES + 1))):
        if rng.random() < 0.35:
            for texts, parts in zip((english, chinese), _parts(), strict=True):
                texts.append(parts[rng.integers(len(parts))])
        else:
            en, zh = _phrases()[rng.integers(len(_phrases()))]
            english.append(en)
            chinese.append(zh)
    return " ".join(english), "".join(chinese) + "。"


def sample(rng: np.random.Generator) -> grammar.Sentence:
    """Draw one salad; its two languages say different things."""
    while True:
        text, spoken = _broken_pair(rng) if rng.random() < BROKEN_SHARE else _phrased(rng)
        text = text[0].upper() + text[1:] + "."
        if not any(grammar.holds_held_pair(each) or looks_held(each) for each in (text, spoken)):
            return grammar.Sentence(text, spoken, "salad", TEMPLATE, (), held_out=False)
