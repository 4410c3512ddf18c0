"""What the spoken view is given: codes, words and mel of speech, as plain JSON values that grow while it is made.

    words   |la       |le          |lu                [text, number of codes before it]
    codes   ▒▓░▒▓░▓▒░▒▓░▒▓░▒▓░▒▓░▒▓░▒▓░▒▓░            whole numbers, 25 a second, drawn as digits to base 3
    mel     ░▒▓▒░░▒▓▓▒░                               uint8 [bin, frame], 50 a second, once all sound is there
    sound   what the player has

The words stand where they were written. A model writes each one before its codes, and often ahead of its sound.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.audio import OUTPUT_SAMPLE_RATE_HZ, Waveform
from model.tasks.normalize import is_chinese

MEL_RANGE = math.log(1000)
"""How far below its maximum the mel is shown: 60 dB of a natural logarithm of magnitudes."""


def spoken_payload(
    codes: Sequence[int], words: Sequence[tuple[str, int]], n_codes: int, sound: Waveform | None = None
) -> dict[str, Any]:
    """Return what the spoken view draws beside the samples.

    Args:
        codes: Speech codes so far.
        words: Pieces of text as they came, each with the number of codes before it.
        n_codes: Size of the codebook.
        sound: All of the sound, once it is there, for the mel.
    """
    return {
        "codes": [int(code) for code in codes],
        "digits": code_digits(n_codes),
        "words": [list(word) for word in whole_words(words)],
        "mel": None if sound is None else mel_payload(sound),
    }


def code_digits(n_codes: int) -> int:
    """Return how many digits to base 3 a codebook needs: 6 for 729, 8 for 6561.

    >>> [code_digits(n) for n in (1, 3, 4, 729, 6561)]
    [1, 1, 2, 6, 8]
    """
    digits = 1
    while 3**digits < n_codes:
        digits += 1
    return digits


def whole_words(pieces: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Join pieces of text to words, each at the place of its first piece; Chinese stays as it came.

    >>> whole_words([("turn", 0), (" li", 4), ("ght", 8), ("开", 12), ("灯", 16)])
    [('turn', 0), (' light', 4), ('开', 12), ('灯', 16)]
    """
    words: list[tuple[str, int]] = []
    for text, place in pieces:
        begins = not words or text[:1].isspace() or is_chinese(text[:1]) or is_chinese(words[-1][0][-1:])
        if begins or words[-1][0][-1:].isspace():
            words.append((text, place))
        else:
            words[-1] = (words[-1][0] + text, words[-1][1])
    return words


def mel_payload(sound: Waveform) -> dict[str, Any] | None:
    """Return the mel that the flow writes, measured on the sound: uint8 [bin, frame], lowest bin first.

    The loudest place is 255, 60 dB below it 0. None if the sound is too short to have one.
    """
    from model.token2wav.features import MEL_HOP, MEL_PAD, prompt_mel  # torch, which the page can start without

    sound = sound.resample(OUTPUT_SAMPLE_RATE_HZ)
    if len(sound.samples) <= MEL_PAD:
        return None
    mel = prompt_mel(sound).numpy()
    codes = np.rint(255 * np.clip((mel - mel.max()) / MEL_RANGE + 1, 0, 1)).astype("u1")
    return {
        "bins": int(mel.shape[0]),
        "columns": int(mel.shape[1]),
        "column_s": MEL_HOP / OUTPUT_SAMPLE_RATE_HZ,
        "codes": base64.b64encode(codes.tobytes()).decode("ascii"),
    }
