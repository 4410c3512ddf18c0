"""Prompt features equal the official ones; batches, lengths and refusals."""

import numpy as np
import pytest
import torch

from model.audio import Waveform
from model.errors import AudioError
from model.token2wav.features import fit_to_codes, kaldi_fbank, prompt_mel, speaker_features
from tests.golden_recipe import read_arrays, to_float_wave

GOLDEN = read_arrays("prompt.npz")
WAVE_16 = Waveform(to_float_wave(GOLDEN["wave16"]), 16_000)
WAVE_24 = Waveform(to_float_wave(GOLDEN["wave24"]), 24_000)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 0.1


# --- parity with the official code ---


def test_filter_bank_equals_official():
    np.testing.assert_allclose(kaldi_fbank(WAVE_16), GOLDEN["fbank16"], rtol=0, atol=5e-4)
    np.testing.assert_allclose(speaker_features(WAVE_16), GOLDEN["fbank16_centred"], rtol=0, atol=5e-4)


def test_prompt_mel_equals_official():
    np.testing.assert_allclose(prompt_mel(WAVE_24), GOLDEN["mel24"][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["prompt_mel_pad", "prompt_mel_crop"])
def test_mel_is_fitted_to_its_codes_as_officially(case):
    expected = GOLDEN[case][0]
    fitted = fit_to_codes(prompt_mel(WAVE_24), len(expected) // 2)
    np.testing.assert_allclose(fitted.T, expected, rtol=0, atol=1e-5)


# --- laws ---


@pytest.mark.parametrize("n_samples", [400, 559, 560, 16_000, 16_001])
def test_filter_bank_has_only_whole_windows(n_samples):
    assert kaldi_fbank(noise(n_samples)).shape == ((n_samples - 400) // 160 + 1, 80)


@pytest.mark.parametrize("n_samples", [721, 24_000, 24_479, 24_480])
def test_prompt_mel_has_50_frames_a_second(n_samples):
    assert prompt_mel(noise(n_samples)).shape == (80, n_samples // 480)


@pytest.mark.parametrize("feature", [kaldi_fbank, speaker_features, prompt_mel])
def test_batch_equals_single(feature):
    waves = noise(2, 3, 4_000)
    together = feature(waves)
    assert together.shape[:2] == (2, 3)
    torch.testing.assert_close(together[1, 2], feature(waves[1, 2]), rtol=0, atol=1e-5)


def test_filter_bank_does_not_change_when_sound_follows():
    wave = noise(8_000)
    torch.testing.assert_close(kaldi_fbank(wave)[:20], kaldi_fbank(wave[: 400 + 19 * 160]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("feature", [kaldi_fbank, prompt_mel])
def test_silence_is_finite_and_lets_gradients_through(feature):
    wave = torch.zeros(2_000, requires_grad=True)
    feature(wave).sum().backward()
    assert torch.isfinite(feature(wave)).all() and torch.isfinite(wave.grad).all()


def test_louder_sound_moves_every_bin_by_the_same():
    moved = kaldi_fbank(noise(4_000)) - kaldi_fbank(0.5 * noise(4_000))
    torch.testing.assert_close(moved, torch.full_like(moved, 2 * np.log(2)), rtol=0, atol=1e-3)


# --- refusals ---


@pytest.mark.parametrize(
    ("feature", "bad", "words"),
    [
        (kaldi_fbank, WAVE_24, "24000 Hz"),
        (prompt_mel, WAVE_16, "16000 Hz"),
        (kaldi_fbank, torch.zeros(399), "399 samples"),
        (prompt_mel, torch.zeros(720), "720 samples"),
        (kaldi_fbank, torch.zeros(0), "0 samples"),
        (prompt_mel, np.zeros(5_000, np.int16), "dtype torch.int16"),
    ],
)
def test_unusable_sound_is_refused_in_words(feature, bad, words):
    with pytest.raises(AudioError, match=words):
        feature(bad)


def test_an_empty_mel_cannot_be_fitted():
    with pytest.raises(AudioError, match="no frame"):
        fit_to_codes(torch.zeros(80, 0), 4)
