"""What is measured on the recording of a voice: one feature for the speaker network, one for the flow.

    recording --16 kHz--> kaldi_fbank --centre--> [frame, 80] at 100 Hz --> speaker network --> 192 numbers
              --24 kHz--> prompt_mel           [80, frame] at 50 Hz  --> flow
              --16 kHz--> model.audio.log_mel  [128, frame] at 100 Hz --> speech tokenizer --> codes at 25 Hz

The official code takes the first channel for 16 kHz and the mean of all channels for 24 kHz; whoever loads the file
chooses. All features accept batches and let gradients through, so that training uses the very same code.

Source: Kaldi `feature-fbank` (HTK mel scale, Povey window) with dither 0; Step-Audio 2 `token2wav.py` and HiFi-GAN
(Kong et al., 2020) for the 24 kHz mel.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.audio import INPUT_SAMPLE_RATE_HZ, OUTPUT_SAMPLE_RATE_HZ, Waveform, mel_filters
from model.errors import AudioError

N_BINS = 80
"""Mel bins of both features."""
FBANK_WINDOW, FBANK_HOP, FBANK_FFT = 400, 160, 512
"""Samples at 16 kHz: 25 ms windows every 10 ms, padded to a power of two."""
FBANK_MIN_HZ, PREEMPHASIS, POVEY_POWER = 20.0, 0.97, 0.85
MEL_WINDOW, MEL_HOP, MEL_MAX_HZ = 1920, 480, 8_000.0
"""Samples at 24 kHz: 80 ms windows every 20 ms."""
MEL_PAD = (MEL_WINDOW - MEL_HOP) // 2
"""Samples mirrored at both ends, so that there are time // 480 frames, each centred on its 20 ms."""
FRAMES_PER_CODE = 2
"""Frames of the 24 kHz mel for one 25 Hz code."""


def kaldi_fbank(samples: Waveform | np.ndarray | Tensor) -> Tensor:
    """Return the log filter bank of a 16 kHz sound as Kaldi makes it from samples in -1..1.

    Args:
        samples: A 16 kHz Waveform, or its float samples, [..., time].

    Returns:
        float32 [..., frame, 80] at 100 Hz, frame = (time - 400) // 160 + 1: only whole windows, never padded.

    Raises:
        AudioError: If the rate is not 16 kHz or the sound is shorter than one window of 25 ms.
    """
    samples = _as_tensor(samples, INPUT_SAMPLE_RATE_HZ, FBANK_WINDOW, "make a filter bank")
    frames = samples.unfold(-1, FBANK_WINDOW, FBANK_HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    before = F.pad(frames.flatten(0, -2), (1, 0), mode="replicate")[:, :-1].view_as(frames)
    frames = (frames - PREEMPHASIS * before) * _povey_window().to(frames.device)
    spectrum = torch.fft.rfft(frames, FBANK_FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    banks = torch.from_numpy(_kaldi_banks()).to(power.device)
    return (power @ banks.T).clamp(min=torch.finfo(torch.float32).eps).log()


def speaker_features(samples: Waveform | np.ndarray | Tensor) -> Tensor:
    """Return what a speaker network hears, [..., frame, 80]: the filter bank minus its mean over time."""
    fbank = kaldi_fbank(samples)
    return fbank - fbank.mean(-2, keepdim=True)


def prompt_mel(samples: Waveform | np.ndarray | Tensor) -> Tensor:
    """Return the mel of a 24 kHz sound that the flow continues and the vocoder turns into sound.

    Args:
        samples: A 24 kHz Waveform, or its float samples, [..., time].

    Returns:
        float32 [..., 80, frame] at 50 Hz, natural logarithm of the magnitude (at least ln 1e-5); frame = time // 480.

    Raises:
        AudioError: If the rate is not 24 kHz or the sound is too short to be mirrored at its ends (30 ms).
    """
    samples = _as_tensor(samples, OUTPUT_SAMPLE_RATE_HZ, MEL_PAD + 1, "make a voice-prompt mel")
    flat = samples.reshape(-1, samples.shape[-1])
    flat = F.pad(flat[:, None], (MEL_PAD, MEL_PAD), mode="reflect")[:, 0]
    window = torch.hann_window(MEL_WINDOW, device=flat.device)
    spectrum = torch.stft(flat, MEL_WINDOW, MEL_HOP, window=window, center=False, return_complex=True)
    magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
    filters = mel_filters(N_BINS, sample_rate_hz=OUTPUT_SAMPLE_RATE_HZ, n_fft=MEL_WINDOW, max_hz=MEL_MAX_HZ)
    mel = (torch.tensor(filters, device=flat.device) @ magnitude).clamp(min=1e-5).log()
    return mel.view(*samples.shape[:-1], *mel.shape[-2:])


def fit_to_codes(mel: Tensor, n_codes: int) -> Tensor:
    """Cut a prompt mel, [..., frame], to two frames for each code, or repeat its last frame until it has them.

    Raises:
        AudioError: If the mel has no frame at all.
    """
    if not mel.shape[-1]:
        todo = "Record a longer voice prompt."
        raise AudioError("fit a voice-prompt mel to its codes", found="no frame", expected="at least one", todo=todo)
    frames = torch.arange(FRAMES_PER_CODE * n_codes, device=mel.device)
    return mel[..., frames.clamp(max=mel.shape[-1] - 1)]


def _as_tensor(samples: Waveform | np.ndarray | Tensor, rate_hz: int, shortest: int, tried: str) -> Tensor:
    """Return float32 [..., time] after the checks of rate, type and length."""
    if isinstance(samples, Waveform):
        if samples.sample_rate_hz != rate_hz:
            found, todo = f"a sample rate of {samples.sample_rate_hz} Hz", f"Call `.resample({rate_hz})` on it first."
            raise AudioError(tried, found=found, expected=f"{rate_hz} Hz", todo=todo)
        samples = samples.samples
    tensor = torch.as_tensor(samples)
    if not tensor.is_floating_point():
        todo = "Divide int16 samples by 32768 first."
        raise AudioError(tried, found=f"samples of dtype {tensor.dtype}", expected="float samples in -1..1", todo=todo)
    if tensor.shape[-1] < shortest:
        found, expected = f"{tensor.shape[-1]} samples", f"at least {shortest} ({1000 * shortest / rate_hz:.0f} ms)"
        raise AudioError(tried, found=found, expected=expected, todo="Record a longer piece of sound.")
    return tensor.float()


@functools.cache
def _povey_window() -> Tensor:
    return torch.hann_window(FBANK_WINDOW, periodic=False).pow(POVEY_POWER)


@functools.cache
def _kaldi_banks() -> np.ndarray:
    """Return triangles that are straight on the HTK mel scale, 20 Hz to 8 kHz, float32 [80, 257].

    Single precision on purpose: the official banks are, and are then closer to these than to exact ones.
    """
    low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (FBANK_MIN_HZ, INPUT_SAMPLE_RATE_HZ / 2))
    step = (high - low) / (N_BINS + 1)
    left, centre, right = (np.float32(low) + np.arange(k, N_BINS + k, dtype=np.float32) * step for k in range(3))
    hz = np.arange(FBANK_FFT // 2 + 1, dtype=np.float32) * np.float32(INPUT_SAMPLE_RATE_HZ / FBANK_FFT)
    mels = np.float32(1127.0) * np.log(np.float32(1.0) + hz / np.float32(700.0))
    rise = (mels - left[:, None]) / (centre - left)[:, None]
    fall = (right[:, None] - mels) / (right - centre)[:, None]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)
