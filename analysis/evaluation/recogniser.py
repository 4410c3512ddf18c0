"""A recogniser that knows nothing of nano: pocketsphinx with its own US English model and vocabulary.

It mishears much itself, so a number from it means something only beside the same recogniser on other speech of the
same texts. It is a dependency of measuring only: `pip install -r requirements-train.txt`.
"""

from functools import cache

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.errors import StepAudioError


@cache
def _decoder():
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise StepAudioError(
            "listen with the independent recogniser",
            found="no pocketsphinx",
            expected="the Python package pocketsphinx, which brings its model along",
            todo="Run: pip install -r requirements-train.txt",
        ) from error
    return Decoder(samprate=float(INPUT_SAMPLE_RATE_HZ), loglevel="FATAL")


def listen(sound: Waveform) -> str:
    """Write down English speech; empty where nothing was recognised."""
    decoder, heard = _decoder(), sound.resample(INPUT_SAMPLE_RATE_HZ)
    decoder.start_utt()
    pcm = (np.clip(heard.samples, -1, 1) * 32767).astype(np.int16)
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr if found else ""
