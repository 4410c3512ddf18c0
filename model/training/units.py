"""The symbols that the encoder is trained to spell (CTC): English phonemes, and Mandarin initials and toned finals.

They exist in training only; the model itself never sees them. Pinyin lets words that were recorded with one character
teach every character that sounds the same; phonemes do so for English letters (`phonemes` says what that is worth).
"""

import re
from functools import cache

from model.training.phonemes import PHONEMES, pronounce_word

BLANK = 0
_INITIALS = tuple("b p m f d t n l g k h j q x zh ch sh r z c s y w".split())
_FINALS = tuple(
    "a o e i u v ai ei ui ao ou iu ie ve er an en in un vn ang eng ing ong ia iao ian iang iong ua uo uai uan uang ue "
    "ueng io van".split()
)
_SYLLABLE = re.compile(rf"^({'|'.join(sorted(_INITIALS, key=len, reverse=True))})?([a-z]+?)([1-5])$")
_HANZI = re.compile(r"[一-鿿]+")


@cache
def symbols() -> tuple[str, ...]:
    """Every symbol; index 0 is the CTC blank."""
    return ("<blank>", *PHONEMES, *(f"{i}-" for i in _INITIALS), *(f"{f}{t}" for f in _FINALS for t in range(1, 6)))


@cache
def _index() -> dict[str, int]:
    return {symbol: i for i, symbol in enumerate(symbols())}


@cache
def _pronounced(text: str) -> tuple[int, ...]:
    words = re.sub(r"[^a-z' ]+", " ", text.lower()).split()
    return tuple(_index()[phoneme] for word in words for phoneme in pronounce_word(word))


def english_units(text: str) -> list[int]:
    """Ids of the phonemes of `text`, word by word (needs espeak-ng; case and punctuation ignored)."""
    return list(_pronounced(text))


def syllable_units(syllable: str) -> list[int]:
    """Ids of one numbered pinyin syllable such as "zhong1"; an unknown spelling gives no ids."""
    match = _SYLLABLE.match(syllable.replace("ü", "v").replace("u:", "v"))
    if not match:
        return []
    initial, final, tone = match.groups()
    names = ([f"{initial}-"] if initial else []) + [final + tone]
    return [_index()[n] for n in names] if all(n in _index() for n in names) else []


@cache
def _reading(text: str) -> tuple[int, ...]:
    from pypinyin import Style, lazy_pinyin

    hanzi = "".join(_HANZI.findall(text))
    syllables = lazy_pinyin(hanzi, style=Style.TONE3, neutral_tone_with_five=True)
    return tuple(unit for syllable in syllables for unit in syllable_units(syllable))


def mandarin_units(text: str) -> list[int]:
    """Ids of the pinyin of the Chinese characters of `text` (needs the package pypinyin)."""
    return list(_reading(text))


def units(text: str, language: str) -> list[int]:
    """CTC target of `text` in `language` ("en", "zh", or "pinyin" for spaced numbered syllables)."""
    if language == "pinyin":
        return [unit for syllable in text.split() for unit in syllable_units(syllable)]
    return mandarin_units(text) if language == "zh" else english_units(text)


def greedy_symbols(ids: list[int]) -> str:
    """Spell a frame-wise best path: repeats merged, blanks removed, symbols set apart by spaces."""
    merged = [i for k, i in enumerate(ids) if i != BLANK and (k == 0 or ids[k - 1] != i)]
    return " ".join(symbols()[i] for i in merged)
