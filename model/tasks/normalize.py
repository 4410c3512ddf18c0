"""Text as two people would agree it was said: what must not count as a recognition error is taken out here.

    english   "It's 7:30, Mr. O'Neil!"  ->  "it's seven thirty mr o'neil"
    mandarin  "你好，ＡＢＣ 世界！"        ->  "你好abc世界"

Simple on purpose, and the same for reference and hypothesis: numbers are read plainly ("1999" as a quantity), spelling
variants and contractions stay as they are, and a Chinese digit is not the Arabic one.
"""

import re
import unicodedata
from collections.abc import Callable

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SYMBOLS = {"%": " percent ", "&": " and ", "°": " degrees "}
_APOSTROPHES = str.maketrans("’‘ʼ`´", "'" * 5)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def english(text: str) -> str:
    """Lower-case words separated by single spaces; apostrophes inside words stay."""
    text = unicodedata.normalize("NFKC", text).lower().translate(_APOSTROPHES)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\b(\d{1,2}):(\d\d)\b", _read_time, text)
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", lambda m: f" {_ordinal(int(m[1]))} ", text)
    text = re.sub(r"\d+(?:\.\d+)?", _read_number, text)
    text = re.sub(r"[^\w']|_", " ", text)
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if word)


def mandarin(text: str) -> str:
    """Characters without spaces or punctuation; full-width forms become half-width, Latin letters lower-case."""
    text = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in text if unicodedata.category(c)[0] in "LN")


def is_chinese(text: str) -> bool:
    """Whether any character of `text` is a Chinese one."""
    return bool(_HAN.search(text))


NORMALIZERS: dict[str, Callable[[str], str]] = {"en": english, "zh": mandarin}
"""By language code."""


def number_in_words(number: int) -> str:
    """Read a quantity: 1250 is "one thousand two hundred fifty"."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_UNITS[unit]}" if unit else "")
    size, name = next(pair for pair in _SCALES if number >= pair[0])
    count, rest = divmod(number, size)
    return f"{number_in_words(count)} {name}" + (f" {number_in_words(rest)}" if rest else "")


def _ordinal(number: int) -> str:
    *front, last = number_in_words(number).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    else:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return " ".join([*front, last])


def _read_time(match: re.Match) -> str:
    hour, minute = match[1], match[2]
    spoken = f"oh {int(minute)}" if minute.startswith("0") else minute
    return hour if minute == "00" else f"{hour} {spoken}"


def _read_number(match: re.Match) -> str:
    whole, _, decimals = match[0].partition(".")
    as_digits = len(whole) > 12 or (len(whole) > 1 and whole.startswith("0"))
    read = " ".join(_UNITS[int(d)] for d in whole) if as_digits else number_in_words(int(whole))
    tail = " ".join(["point", *(_UNITS[int(d)] for d in decimals)]) if decimals else ""
    return f" {read} {tail} "
