"""Speak a text with any of the voices, with a random rate and pitch, and say when each word sounds.

The engines are called in :mod:`model.training.engines`, recordings are joined in :mod:`model.training.mandarin`.
The text must be written as it is spoken: numbers, abbreviations and symbols are the caller's to spell out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.training.augment import resize_voice, to_peak
from model.training.engines import ENGINES, Prosody, Sound, WordTime, failure
from model.training.mandarin import Mandarin
from model.training.voices import CONCATENATION, VoiceSpec


@dataclass(frozen=True)
class Speech:
    """One spoken sentence.

    Attributes:
        waveform: At the rate asked for, peak 0.7.
        words: Times of every word in order, or None where the engine does not tell.
        voice: Who spoke.
        prosody: How.
    """

    waveform: Waveform
    words: tuple[WordTime, ...] | None
    voice: VoiceSpec
    prosody: Prosody


def synthesize(
    text: str,
    voice: VoiceSpec,
    *,
    rng: np.random.Generator,
    prosody: Prosody | None = None,
    mandarin: Mandarin | None = None,
    sample_rate_hz: int = INPUT_SAMPLE_RATE_HZ,
) -> Speech:
    """Speak a text.

    Args:
        text: What to say, spelled out; Mandarin in characters.
        voice: One of :func:`model.training.voices.available_voices`.
        rng: Source of every draw.
        prosody: How to say it; None draws it.
        mandarin: The recordings' engine, needed by concatenation voices only.
        sample_rate_hz: Rate of the result; an engine that works at this rate (`voice.sample_rate`) keeps all it has.

    Raises:
        StepAudioError: When the engine is missing, fails, or has no sound for the text.
    """
    prosody = Prosody.draw(rng) if prosody is None else prosody
    if not text.strip():
        raise failure(voice, text, "an empty text", "at least one word")
    raw = _speak(text, voice, prosody, rng, mandarin)
    waveform = Waveform(np.ascontiguousarray(raw.samples, dtype=np.float32), raw.rate_hz)
    if len(raw.samples) < raw.rate_hz // 20 or not np.abs(raw.samples).max() > 1e-4:
        raise failure(voice, text, "silence", "sound")
    if raw.rate_hz != sample_rate_hz:
        waveform = waveform.resample(sample_rate_hz)
    waveform = resize_voice(waveform, prosody.size)
    waveform = Waveform(to_peak(waveform.samples), sample_rate_hz)
    words = raw.words
    if words is not None:
        end = waveform.duration_s
        scale = 1.0 / prosody.size
        words = tuple(WordTime(w.text, min(w.start_s * scale, end), min(w.end_s * scale, end)) for w in words)
    return Speech(waveform, words, voice, prosody)


def _speak(text: str, voice: VoiceSpec, prosody: Prosody, rng: np.random.Generator, mandarin: Mandarin | None) -> Sound:
    """Call the engine of a voice."""
    if voice.engine == CONCATENATION:
        return _concatenation(text, voice, prosody, rng, mandarin)
    return ENGINES[voice.engine](text, voice, prosody)


def _concatenation(
    text: str, voice: VoiceSpec, prosody: Prosody, rng: np.random.Generator, mandarin: Mandarin | None
) -> Sound:
    """Join recordings; the voice's own formant and pitch ranges are drawn here."""
    if mandarin is None:
        expected = "synthesize(..., mandarin=Mandarin(recordings, cache_dir))"
        raise failure(voice, text, "no Mandarin engine", expected, "Pass --recordings to the command.")
    formant, pitch = (float(rng.uniform(*bounds)) for bounds in (voice.formant, voice.pitch))
    samples, times = mandarin.speak(
        text, voice.speaker, rng, rate=prosody.rate, pitch=pitch * prosody.pitch, formant=formant
    )
    return Sound(samples, INPUT_SAMPLE_RATE_HZ, tuple(WordTime(*time) for time in times))
