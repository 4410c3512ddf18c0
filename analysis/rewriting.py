"""Other words for a thought, by rule: the same said differently, something false, or nothing at all.

    paraphrase("I hear a dog.")                      -> "There is the sound of a dog."
    mistake("I hear a dog.")                         -> "I hear a cat."
    filler("I hear a dog.")                          -> "... ... ... ..."

There is no second language model here, so only what the rules know can be rewritten: numbers, labels of the eleven
paralinguistic dimensions and a few opposites for mistakes, a table of phrases for paraphrases. Where no rule fits the
answer is None, never a guess. Whoever has a better rewriter hands its function to `analysis.faithfulness`.
"""

from __future__ import annotations

import re
from functools import cache

from model.tasks.normalize import is_chinese, number_in_words
from model.tasks.paralinguistics import DIMENSIONS, labels

FILLER = "..."
PHRASES = (
    ("The speaker is", "Whoever is speaking is"),
    ("The speaker sounds like", "By the sound of it the speaker is"),
    ("The speaker sounds", "By the voice the speaker seems"),
    ("The voice sounds", "The timbre of the voice is"),
    ("It sounds like", "The place seems to be"),
    ("I hear", "There is the sound of"),
    ("I can hear", "One can make out"),
    ("The pitch is", "The tone of the voice is"),
    ("The rhythm is", "The flow of the words is"),
    ("The speed is", "The pace is"),
    ("They ask", "The question is"),
    ("So the answer is", "That makes it"),
    ("说话人听起来是", "从声音听，说话的人是"),
    ("说话人听起来", "从声音听，说话的人"),
    ("说话人是", "说话的人是"),
    ("我听到了", "能听见"),
    ("听起来是在", "好像是在"),
)
"""Phrases that mean the same; each is replaced in both directions."""
OPPOSITES = (
    ("yes", "no"), ("left", "right"), ("hot", "cold"), ("before", "after"), ("more", "fewer"), ("morning", "evening"),
    ("today", "tomorrow"), ("on", "off"), ("open", "close"),
    ("是的", "不是"), ("左", "右"), ("今天", "明天"), ("早上", "晚上"),
)  # fmt: skip
_ARTICLE = re.compile(r"(?:an?|the) ")
_LARGEST = 120
"""Numbers in words up to here are known as numbers."""


def filler(text: str) -> str:
    """Return as many filler marks as the text has words, or Chinese characters."""
    n = sum(1 for letter in text if is_chinese(letter)) or len(text.split())
    return " ".join([FILLER] * max(1, n))


def paraphrase(text: str) -> str | None:
    """Return the same in other words, or None if no phrase of the table is in it."""
    table = {one: other for pair in PHRASES for one, other in (pair, pair[::-1])}
    changed = _pattern(tuple(table)).sub(lambda match: table[match[0]], text)
    return changed if changed != text else None


def mistake(text: str) -> str | None:
    """Return the text with its last changeable word made false, or None if there is none.

    A number becomes the next one, a label another label of its dimension, a word its opposite. The last one counts
    most: "three plus five is eight" becomes "three plus five is nine".
    """
    wrong = _false_words()
    found = list(_pattern(tuple(wrong), whole=True).finditer(text)) + list(re.finditer(r"\d+", text))
    if not found:
        return None
    last = max(found, key=lambda match: match.start())
    put = str(int(last[0]) + 1) if last[0].isdigit() else _cased(wrong[last[0].lower()], last[0])
    return text[: last.start()] + put + text[last.end() :]


@cache
def _false_words() -> dict[str, str]:
    """Return every word that can be made false, in lower case, and what it becomes."""
    words = {number_in_words(n): number_in_words(n + 1) for n in range(_LARGEST)}
    digits = "零一二三四五六七八九十"
    words |= dict(zip(digits, digits[1:])) | {"十": "九"}
    for dimension in DIMENSIONS:
        known = list(labels(dimension).values())
        for label in known:
            other = next(one for one in [*known[known.index(label) + 1 :], *known] if one.group != label.group)
            for word in label.words:
                put = other.word("zh" if is_chinese(word) else "en")
                words.setdefault(word.lower(), put if _ARTICLE.match(word) else _ARTICLE.sub("", put))
    return words | {one: other for pair in OPPOSITES for one, other in (pair, pair[::-1])}


@cache
def _pattern(words: tuple[str, ...], whole: bool = False) -> re.Pattern:
    """Return an expression for any of the words, the longest first, in any case."""
    bounded = [rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word) for word in words]
    return re.compile("|".join(sorted(bounded, key=len, reverse=True)), re.IGNORECASE if whole else 0)


def _cased(word: str, like: str) -> str:
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
