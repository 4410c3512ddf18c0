"""Augmentation keeps time, length and level in bounds; WORLD changes what it is asked to change."""

import numpy as np
import pytest

from model.audio import Waveform
from model.errors import AudioError
from model.training import augment as a


def buzz(pitch_hz: float = 150.0, seconds: float = 1.0) -> Waveform:
    """A voiced sound: harmonics that fall by 6 dB an octave."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    x = sum(np.sin(2 * np.pi * k * pitch_hz * t + k) / k for k in range(1, int(7000 / pitch_hz)))
    return Waveform(a.to_peak(np.asarray(x)), 16_000)


def median_pitch(waveform: Waveform) -> float:
    f0 = a.world_analyse(waveform.samples).f0
    return float(np.median(f0[f0 > 0]))


def test_strength_zero_returns_the_clip_itself():
    clip = buzz()
    assert a.augment(clip, np.random.default_rng(0), strength=0.0) is clip


def test_augment_keeps_length_and_bounds_and_repeats_with_its_seed():
    clip = buzz(seconds=0.7)
    noises = [np.random.default_rng(9).standard_normal(5_000).astype(np.float32), np.ones(90_000, np.float32)]
    for seed in range(60):
        out = a.augment(clip, np.random.default_rng(seed), noises, strength=2.0)
        again = a.augment(clip, np.random.default_rng(seed), noises, strength=2.0)
        assert len(out.samples) == len(clip.samples) and out.samples.dtype == np.float32
        assert np.abs(out.samples).max() <= 1.0
        assert np.array_equal(out.samples, again.samples)


def test_augment_survives_silence():
    silent = Waveform(np.zeros(8_000, np.float32), 16_000)
    for seed in range(20):
        assert np.isfinite(a.augment(silent, np.random.default_rng(seed), strength=2.0).samples).all()


def test_noise_is_mixed_at_the_asked_ratio():
    rng = np.random.default_rng(0)
    clip = buzz().samples
    noise = rng.standard_normal(48_000).astype(np.float32)
    added = a.mix_noise(clip, noise, 10.0, rng) - clip
    ratio_db = 10 * np.log10(np.mean(clip**2) / np.mean(added**2))
    assert ratio_db == pytest.approx(10.0, abs=0.5)


def test_reverberation_does_not_move_the_onset():
    click = np.zeros(8_000, np.float32)
    click[1_000] = 1.0
    wet = a.reverberate(click, a.room_response(0.4, np.random.default_rng(1)))
    assert int(np.argmax(np.abs(wet))) == 1_000
    assert np.abs(wet[1_100:3_000]).sum() > 0


def test_telephone_removes_what_lies_outside_its_band():
    t = np.arange(16_000) / 16_000
    low, middle = (np.sin(2 * np.pi * f * t).astype(np.float32) for f in (80.0, 1_000.0))
    spectrum = np.abs(np.fft.rfft(a.telephone(low + middle)))
    assert spectrum[80] < 0.03 * spectrum[1_000]


@pytest.mark.usefixtures("vocoder")
def test_change_voice_changes_pitch_and_rate():
    clip = buzz(150.0)
    changed = a.change_voice(clip, pitch=1.3, rate=1.25, formant=0.9)
    assert median_pitch(changed) == pytest.approx(195.0, rel=0.03)
    assert changed.duration_s == pytest.approx(clip.duration_s / 1.25, rel=0.03)


@pytest.mark.usefixtures("vocoder")
def test_whisper_has_no_pitch():
    whispered = a.change_voice(buzz(), whisper=True)
    peaks = np.abs(np.fft.rfft(whispered.samples[:16_000]))
    assert peaks[150] < 0.5 * peaks.max()


@pytest.mark.usefixtures("vocoder")
def test_resize_voice_divides_time_and_raises_pitch():
    clip = buzz(150.0)
    small = a.resize_voice(clip, 1.1)
    assert small.duration_s == pytest.approx(1 / 1.1, abs=0.001)
    assert median_pitch(small) == pytest.approx(165.0, rel=0.02)
    assert a.resize_voice(clip, 1.0) is clip


def test_other_rates_are_refused():
    with pytest.raises(AudioError, match="24000 Hz"):
        a.augment(Waveform(np.zeros(2_400, np.float32), 24_000), np.random.default_rng(0))
