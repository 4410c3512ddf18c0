"""Word salad: phrases of the world in an order that no grammar foretells, so that whoever writes them down must listen.

    slot phrases and the fixed parts of training templates, drawn at random      "Kitchen by bus I would like purple."

A salad never holds a held-out word pair, and one that happens to look like a held-out template is thrown away. Both
languages say the same phrases in the same order, but it is no translation to learn from.
"""

import re
from functools import cache
from itertools import combinations

import numpy as np

from model.training.world import grammar

TEMPLATE = -1
"""`Sentence.template` of a salad."""
MAX_PHRASES = 5
_FIELD = re.compile(r"\{[^}]+\}")
_MARKS = re.compile(r"[,.?，。？]")


@cache
def _phrases() -> tuple[tuple[str, str, bool], ...]:
    """(English, Chinese, is it a slot value): every slot value once, and whole templates that have no slot."""
    values = {(v.english, v.chinese, True) for values in grammar.slots().values() for v in values}
    fixed = {
        (_MARKS.sub("", _lower(t.english)), _MARKS.sub("", t.chinese), False)
        for t in grammar.templates()
        if not t.held and not t.fields
    }
    return tuple(sorted(values | fixed))


def _lower(text: str) -> str:
    return text if text.startswith(("I ", "I'")) else text[:1].lower() + text[1:]


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


def sample(rng: np.random.Generator) -> grammar.Sentence:
    """Draw one salad of one to `MAX_PHRASES` phrases, of which about a third are fixed parts of templates."""
    while True:
        english, chinese, words = [], [], []
        for _ in range(int(rng.integers(1, MAX_PHRASES + 1))):
            if rng.random() < 0.35:
                for texts, parts in zip((english, chinese), _parts(), strict=True):
                    texts.append(parts[rng.integers(len(parts))])
            else:
                en, zh, is_value = _phrases()[rng.integers(len(_phrases()))]
                english.append(en)
                chinese.append(zh)
                words += [en] if is_value else []
        text, spoken = " ".join(english), "".join(chinese) + "。"
        text = text[0].upper() + text[1:] + "."
        if any(grammar.is_held_pair(a, b) for a, b in combinations(words, 2)):
            continue
        if not looks_held(text) and not looks_held(spoken):
            return grammar.Sentence(text, spoken, "salad", TEMPLATE, (), held_out=False)
