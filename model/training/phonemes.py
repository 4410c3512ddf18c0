"""How English words are said: phonemes by espeak-ng's rules and dictionary, one pronunciation a word.

A small encoder learns to spell sounds much sooner than letters: English letters are half history, and an encoder that
must guess them leans on the sentences it has seen before (measured: 16 % symbol errors on sentences like those of its
training, 34 % on other ones in the same voices; pinyin 3 % and 17 %).
"""

import ctypes
import re
from functools import cache

from model.errors import StepAudioError

PHONEMES = tuple(
    "n t ɪ s d k m ə l ɹ æ z eɪ aɪ ð ʌ ɛ f w uː iː p oʊ b v ɚ h ɑː ŋ ɡ j aʊ ɔː ʃ ɜː ɔːɹ əl tʃ ɑːɹ dʒ ʊ θ iə oːɹ ɛɹ ʊɹ "
    "ɪɹ ɔɪ ʒ aɪə aɪɚ".split()
)
"""IPA as espeak-ng's en-us writes it, after `_MERGED`."""
_MERGED = {"r": "ɹ", "oː": "oʊ", "ɐ": "ʌ", "ᵻ": "ɪ", "ɾ": "t", "ʔ": "t", "i": "iː", "n̩": "n", "ɔ": "ɔː"}
_STRESS = re.compile("[ˈˌ]")
_SYNCHRONOUS, _UTF8, _IPA = 2, 1, 0x02
_SEPARATOR = "_"


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
        ready = library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0) >= 0
    except OSError:
        ready = False
    if not ready or library.espeak_SetVoiceByName(b"en-us") != 0:
        raise StepAudioError(
            "read English words aloud for training",
            found="no working espeak-ng",
            expected="libespeak-ng.so.1 with its voice en-us",
            todo="Run: apt-get install espeak-ng.",
        )
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    return library


@cache
def pronounce_word(word: str) -> tuple[str, ...]:
    """Phonemes of one lower-case English word, stress left out.

    Raises:
        StepAudioError: espeak-ng is not installed.
    """
    text = ctypes.c_char_p(word.encode())
    mode = _IPA | ord(_SEPARATOR) << 8
    written = _library().espeak_TextToPhonemes(ctypes.byref(text), _UTF8, mode).decode()
    pieces = [_MERGED.get(p, p) for p in re.split(rf"[{_SEPARATOR} ]", _STRESS.sub("", written))]
    return tuple(p for p in pieces if p in PHONEMES)
