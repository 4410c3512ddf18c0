"""How Mandarin characters are read: pinyin with tone sandhi.

```
text --punctuation--> phrases --jieba--> words --pypinyin--> syllables --sandhi--> what is said
```
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from model.errors import StepAudioError

_PHRASES = re.compile(r"[^\u3400-\u9fff]+")
_PAUSES = re.compile(r"[\s，。？！、；：“”‘’《》（）…—,.?!;:\"'()-]*")
_ORDINAL_NEXT = "月日号楼班路一二三四五六七八九〇零"
_ORDINAL_BEFORE = "第十零〇期周初一二三四五六七八九"


@dataclass(frozen=True)
class Syllable:
    """One character with the tone it is spoken with here.

    Attributes:
        character: The written character.
        pinyin: Syllable with tone digit 1-5 and ``v`` for ü, after sandhi.
        lexical: The same before sandhi.
    """

    character: str
    pinyin: str
    lexical: str


def phrases(text: str) -> list[str]:
    """Split a text at its punctuation.

    Raises:
        StepAudioError: When it holds anything but Chinese characters and punctuation (digits must be written out).
    """
    strange = [piece for piece in _PHRASES.findall(text) if not _PAUSES.fullmatch(piece)]
    found = [piece for piece in _PHRASES.split(text) if piece]
    if strange or not found:
        raise StepAudioError(
            f"speak the Mandarin text {text!r}",
            found=f"characters that have no reading here: {strange}" if strange else "no character to speak",
            expected="Chinese characters and punctuation",
            todo="Write numbers and foreign words out in characters.",
        )
    return found


def pronounce(phrase: str) -> list[list[Syllable]]:
    """Read a phrase (characters only): words of syllables with tone sandhi.

    Third tones change inside words first, then between words; 一 and 不 follow the next tone, except in numbers, dates
    and ordinals, where 一 keeps its first tone.
    """
    words = cut_words(phrase)
    lexical = [syllable for word in words for syllable in dictionary_reading(word)]
    spoken = _one_and_not(phrase, lexical)
    position = 0
    spans = []
    for word in words:
        spans.append((position, position + len(word)))
        _third_tones(spoken, *spans[-1])
        position += len(word)
    _third_tones(spoken, 0, len(spoken))
    return [[Syllable(phrase[i], spoken[i], lexical[i]) for i in range(a, b)] for a, b in spans]


def as_pinyin(text: str) -> str:
    """Write Mandarin as the syllables to be spoken, "qing3 ba3 ..., ..."."""
    read = [" ".join(s.pinyin for word in pronounce(phrase) for s in word) for phrase in phrases(text)]
    return ", ".join(read)


@functools.cache
def _cutter() -> ModuleType:
    """Load jieba once, quietly."""
    import jieba

    jieba.setLogLevel(60)
    return jieba


def cut_words(phrase: str) -> list[str]:
    """Cut a phrase into dictionary words."""
    return [str(word) for word in _cutter().cut(phrase)]


@functools.lru_cache(maxsize=50_000)
def dictionary_reading(word: str) -> tuple[str, ...]:
    """Give the dictionary reading of a word, one syllable a character, before sandhi."""
    from pypinyin import Style, lazy_pinyin

    syllables = lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True, v_to_u=False)
    if len(syllables) != len(word):
        syllables = [lazy_pinyin(c, style=Style.TONE3, neutral_tone_with_five=True, v_to_u=False)[0] for c in word]
    return tuple(s.replace("ü", "v") for s in syllables)


def _one_and_not(phrase: str, lexical: Sequence[str]) -> list[str]:
    """Apply the sandhi of 一 and 不."""
    spoken = list(lexical)
    for i, character in enumerate(phrase[:-1]):
        falling = lexical[i + 1][-1] == "4" or phrase[i + 1] == "个"
        if character == "不":
            spoken[i] = "bu2" if falling else "bu4"
        elif character == "一":
            ordinal = phrase[i + 1] in _ORDINAL_NEXT or (i > 0 and phrase[i - 1] in _ORDINAL_BEFORE)
            spoken[i] = "yi1" if ordinal else ("yi2" if falling else "yi4")
    if phrase[-1] == "一":
        spoken[-1] = "yi1"
    return spoken


def _third_tones(spoken: list[str], start: int, end: int) -> None:
    """Turn a third tone before another third tone into a second one, from left to right, in place."""
    for i in range(start, end - 1):
        if spoken[i][-1] == "3" and spoken[i + 1][-1] == "3":
            spoken[i] = spoken[i][:-1] + "2"
