"""The one door for sound: any file in, 16 kHz mono out, cut into 25 s chunks, turned into log-mels.

    file, bytes, upload --load_waveform--> Waveform --split_chunks--> <= 25 s each --log_mel--> [128, frames]
                                                                       |
                                                                       '--n_audio_tokens--> 12.5 per second

How many positions a chunk takes in the prompt follows from its length alone:

    samples S --n_frames--> T = (S + 479) // 160       100 Hz mel frames, 479 zeros added on the right
              --usable_length--> T - 2                 what the official code tells the encoder
              --encoder_length--> (T - 1) // 2 // 2    25 Hz, after a strided convolution and pooling
              --adaptor_length--> (n - 1) // 2 + 1     12.5 Hz: the audio tokens

This file knows nothing of prompts, tokenizers or networks; how files are decoded is in `audio_file.py`, which only
this file calls. torch is imported only where a mel is made, so that the app starts fast.

Source: Step-Audio 2 `utils.py` (mel, lengths), Whisper `audio.py`; resampling is the Hann-windowed sinc
(width 6, roll-off 0.99) that torchaudio uses by default.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.audio_file import Source, decode_mono, unreadable
from model.errors import AudioError

if TYPE_CHECKING:
    import torch

INPUT_SAMPLE_RATE_HZ = 16_000
"""What the model hears."""
OUTPUT_SAMPLE_RATE_HZ = 24_000
"""What the model speaks."""
N_FFT = 400
HOP_SAMPLES = 160
N_MELS = 128
PAD_SAMPLES = 479
"""Zeros added to the right of every chunk before the mel, as the official front end does."""
FRAME_RATE_HZ = INPUT_SAMPLE_RATE_HZ // HOP_SAMPLES
"""Mel frames per second."""
FRAMES_PER_TOKEN = 8
"""Three halvings: the second convolution, the pooling, the adaptor."""
TOKEN_RATE_HZ = FRAME_RATE_HZ / FRAMES_PER_TOKEN
"""Audio positions per second in the prompt."""
CHUNK_S = 25
CHUNK_SAMPLES = CHUNK_S * INPUT_SAMPLE_RATE_HZ
assert FRAME_RATE_HZ * HOP_SAMPLES == INPUT_SAMPLE_RATE_HZ and TOKEN_RATE_HZ == 12.5

_SINC_WIDTH, _SINC_ROLLOFF = 6, 0.99


@dataclass(frozen=True, eq=False)
class Waveform:
    """One mono recording with its rate; two rates live in this project, so a bare array is refused everywhere."""

    samples: np.ndarray
    """float32 [time], nominally -1..1, finite."""
    sample_rate_hz: int
    """Samples per second; 16 000 in, 24 000 out."""

    def __post_init__(self) -> None:
        problem = _samples_problem(self.samples) or _rate_problem(self.sample_rate_hz)
        if problem:
            raise AudioError(
                "make a Waveform",
                found=problem,
                expected="finite float32 samples [time] in -1..1 and a positive whole sample rate in Hz",
                todo="Convert with `samples.astype(np.float32)` (int16: divide by 32768); repair or drop bad samples.",
            )

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def resample(self, sample_rate_hz: int) -> Waveform:
        """Return the same sound at another rate, `ceil(n * new / old)` samples long."""
        problem = _rate_problem(sample_rate_hz)
        if problem:
            todo = f"Name a rate such as {INPUT_SAMPLE_RATE_HZ}."
            raise AudioError("resample a sound", found=problem, expected="a positive whole number of Hz", todo=todo)
        return Waveform(_resample(self.samples, self.sample_rate_hz, sample_rate_hz), sample_rate_hz)

    def slice_s(self, start_s: float, end_s: float) -> Waveform:
        """Return the part between two times in seconds; times outside the sound are cut to it."""
        if not start_s <= end_s:
            raise AudioError(
                "cut a piece out of a sound",
                found=f"a start of {start_s} s and an end of {end_s} s",
                expected="a start that is not after the end",
                todo="Swap or correct the two times.",
            )
        start, end = (max(0, round(t * self.sample_rate_hz)) for t in (start_s, min(end_s, self.duration_s)))
        return Waveform(self.samples[start:end], self.sample_rate_hz)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Waveform):
            return NotImplemented
        return self.sample_rate_hz == other.sample_rate_hz and np.array_equal(self.samples, other.samples)

    def __hash__(self) -> int:
        return hash((self.sample_rate_hz, len(self.samples)))


def _samples_problem(samples: object) -> str | None:
    if not isinstance(samples, np.ndarray):
        return f"samples of type {type(samples).__name__}"
    if samples.dtype != np.float32:
        return f"samples of dtype {samples.dtype}"
    if samples.ndim != 1:
        return f"samples of shape {samples.shape}"
    bad = _count_bad(samples)
    return f"{bad} samples that are NaN or infinite" if bad else None


def _count_bad(samples: np.ndarray) -> int:
    return int(samples.size - np.count_nonzero(np.isfinite(samples)))


def _rate_problem(rate: object) -> str | None:
    good = isinstance(rate, (int, np.integer)) and not isinstance(rate, bool) and rate > 0
    return None if good else f"a sample rate of {rate!r}"


# --- lengths ------------------------------------------------------------------------------------------------------


def n_frames(n_samples: int, *, pad_samples: int = PAD_SAMPLES) -> int:
    """Count the mel frames of `n_samples` samples at 16 kHz."""
    return (n_samples + pad_samples) // HOP_SAMPLES


def usable_length(frames: int) -> int:
    """Count the mel frames the encoder is told are valid: the last two of every chunk never are."""
    return frames - 2


def encoder_length(usable: int) -> int:
    """Count the valid 25 Hz encoder rows of a chunk with `usable` valid mel frames."""
    return (usable + 1) // 2 // 2


def adaptor_length(encoder_rows: int) -> int:
    """Count the 12.5 Hz adaptor rows, which are the audio tokens; no rows give no token."""
    return (encoder_rows - 1) // 2 + 1


def n_audio_tokens(n_samples_of_chunk: int) -> int:
    """Count the prompt positions of one chunk of at most 25 s; up to 320 samples take none."""
    if not 0 <= n_samples_of_chunk <= CHUNK_SAMPLES:
        raise AudioError(
            "count the audio tokens of a chunk",
            found=f"{n_samples_of_chunk} samples",
            expected=f"0 to {CHUNK_SAMPLES} samples ({CHUNK_S} s at 16 kHz)",
            todo="Cut the sound with `split_chunks` first and add the counts of its chunks.",
        )
    return adaptor_length(encoder_length(usable_length(n_frames(n_samples_of_chunk))))


def token_time_s(index: int, *, chunk_index: int = 0) -> tuple[float, float]:
    """Return start and end in seconds of one 12.5 Hz position.

    The convolutions centre position i at 0.08 i + 0.01 s of its chunk, so positions are 80 ms cells around that
    centre; the first one starts at 0. With `chunk_index` the times count from the start of the whole sound.
    """
    start_s = max(0.0, (index - 0.375) / TOKEN_RATE_HZ)
    offset_s = float(CHUNK_S * chunk_index)
    return offset_s + start_s, offset_s + (index + 0.625) / TOKEN_RATE_HZ


def split_chunks(waveform: Waveform) -> list[Waveform]:
    """Cut a 16 kHz sound into chunks of at most 25 s, without overlap; an empty sound has none."""
    if waveform.sample_rate_hz != INPUT_SAMPLE_RATE_HZ:
        raise _wrong_rate("cut a sound into chunks", waveform)
    starts = range(0, len(waveform.samples), CHUNK_SAMPLES)
    return [Waveform(waveform.samples[start : start + CHUNK_SAMPLES], INPUT_SAMPLE_RATE_HZ) for start in starts]


def _wrong_rate(tried: str, waveform: Waveform) -> AudioError:
    return AudioError(
        tried,
        found=f"a sample rate of {waveform.sample_rate_hz} Hz",
        expected=f"{INPUT_SAMPLE_RATE_HZ} Hz",
        todo=f"Call `.resample({INPUT_SAMPLE_RATE_HZ})` on it first.",
    )


# --- log-mel ------------------------------------------------------------------------------------------------------


def log_mel(
    samples: Waveform | np.ndarray | torch.Tensor, *, pad_samples: int = PAD_SAMPLES, n_mels: int = N_MELS
) -> torch.Tensor:
    """Return the log-mel of one chunk, equal to the official front end.

    Args:
        samples: A 16 kHz Waveform, or its float samples as array or tensor, [time] or [batch, time] (equal lengths).
        pad_samples: Zeros added on the right: 479 for the model, 0 for the speech tokenizer.
        n_mels: Number of mel bins.

    Returns:
        float32 [n_mels, frames] (or [batch, n_mels, frames]) at 100 Hz, at most 2 below its own maximum, on the
        samples' device; frames = (time + pad_samples) // 160.

    Raises:
        AudioError: If the rate is not 16 kHz or there are too few samples for one window.
    """
    import torch

    samples = _as_tensor(samples)
    if samples.shape[-1] == 0 or samples.shape[-1] + pad_samples <= N_FFT // 2:
        raise AudioError(
            "make a log-mel",
            found=f"{samples.shape[-1]} samples and {pad_samples} of padding",
            expected=f"at least one sample, and more than {N_FFT // 2} with the padding",
            todo="Leave out empty pieces of sound.",
        )
    padded = torch.nn.functional.pad(samples, (0, pad_samples))
    window = torch.hann_window(N_FFT, device=padded.device)
    spectrum = torch.stft(padded, N_FFT, HOP_SAMPLES, window=window, center=True, return_complex=True)
    power = spectrum[..., :-1].abs() ** 2  # the frame centred at the very end is dropped
    filters = torch.tensor(mel_filters(n_mels), device=padded.device)
    log_power = (filters @ power).clamp(min=1e-10).log10()
    floor = log_power.amax(dim=(-2, -1), keepdim=True) - 8.0
    return (torch.maximum(log_power, floor) + 4.0) / 4.0


def _as_tensor(samples: Waveform | np.ndarray | torch.Tensor) -> torch.Tensor:
    import torch

    if isinstance(samples, Waveform):
        if samples.sample_rate_hz != INPUT_SAMPLE_RATE_HZ:
            raise _wrong_rate("make a log-mel", samples)
        samples = samples.samples
    tensor = torch.as_tensor(samples)
    if not tensor.is_floating_point():
        raise AudioError(
            "make a log-mel",
            found=f"samples of dtype {tensor.dtype}",
            expected="float samples in -1..1",
            todo="Divide int16 samples by 32768 first.",
        )
    return tensor.float()


@functools.lru_cache(maxsize=4)
def mel_filters(
    n_mels: int = N_MELS,
    *,
    sample_rate_hz: int = INPUT_SAMPLE_RATE_HZ,
    n_fft: int = N_FFT,
    max_hz: float = INPUT_SAMPLE_RATE_HZ / 2,
) -> np.ndarray:
    """Return Slaney's area-normalised triangular mel filters from 0 to `max_hz`, float32 [n_mels, n_fft // 2 + 1]."""
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(max_hz), n_mels + 2))
    bins_hz = np.arange(n_fft // 2 + 1) * (sample_rate_hz / n_fft)
    distance = edges_hz[:, None] - bins_hz[None, :]
    widths = np.diff(edges_hz)[:, None]
    triangles = np.maximum(0, np.minimum(-distance[:-2] / widths[:-1], distance[2:] / widths[1:]))
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return (triangles.astype(np.float32) * area[:, None]).astype(np.float32)


_MEL_LINEAR_HZ, _MEL_BREAK_HZ, _MEL_LOG_STEP = 200.0 / 3, 1000.0, math.log(6.4) / 27
"""Slaney's scale: linear up to 1 kHz, then 27 steps for a factor of 6.4."""


def _hz_to_mel(hz: float) -> float:
    if hz < _MEL_BREAK_HZ:
        return hz / _MEL_LINEAR_HZ
    return _MEL_BREAK_HZ / _MEL_LINEAR_HZ + math.log(hz / _MEL_BREAK_HZ) / _MEL_LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    above = np.maximum(0, mel - _MEL_BREAK_HZ / _MEL_LINEAR_HZ)
    return np.minimum(mel * _MEL_LINEAR_HZ, _MEL_BREAK_HZ) * np.exp(_MEL_LOG_STEP * above)


# --- resampling ---------------------------------------------------------------------------------------------------


def _resample(samples: np.ndarray, old_hz: int, new_hz: int) -> np.ndarray:
    """Resample float32 [time] with a Hann-windowed sinc; length ceil(n * new / old), silence beyond the ends."""
    from scipy.signal import upfirdn

    divisor = math.gcd(int(old_hz), int(new_hz))
    old, new = int(old_hz) // divisor, int(new_hz) // divisor
    if old == new or not len(samples):
        return samples
    kernel, delay = _sinc_kernel(old, new)
    start, length = delay // old, -(-len(samples) * new // old)
    return upfirdn(kernel, samples, up=new, down=old)[start : start + length].astype(np.float32, copy=False)


@functools.lru_cache(maxsize=16)
def _sinc_kernel(old: int, new: int) -> tuple[np.ndarray, int]:
    """Return the low-pass on the common fine grid (`new` points per old sample) and its centre, a multiple of `old`."""
    cutoff = min(old, new) * _SINC_ROLLOFF
    half = math.ceil(_SINC_WIDTH * old * new / cutoff)
    delay = -(-half // old) * old
    crossings = np.arange(-delay, half + 1) * (cutoff / (old * new))
    window = np.where(np.abs(crossings) < _SINC_WIDTH, np.cos(crossings * (np.pi / (2 * _SINC_WIDTH))) ** 2, 0.0)
    return (np.sinc(crossings) * window * (cutoff / old)).astype(np.float32), delay


# --- files ------------------------------------------------------------------------------------------------------------


def load_waveform(
    source: Source,
    *,
    sample_rate_hz: int = INPUT_SAMPLE_RATE_HZ,
    max_seconds: float = 1800.0,
    channel: Literal["mean", "first"] = "mean",
    min_seconds: float = 0.0,
) -> Waveform:
    """Read any sound as one mono channel at the wanted rate.

    libsndfile reads WAV, FLAC, MP3, OGG and others; what it cannot (m4a, webm, ...) goes through ffmpeg if there.

    Args:
        source: Path, bytes of a file, or binary file object.
        sample_rate_hz: Rate of the result.
        max_seconds: Longer files are refused, from the header where it tells, else as soon as decoding passes it.
        channel: "mean" of all channels, or the "first" one as the official code takes.
        min_seconds: Shorter files are refused; an empty one always is.

    Raises:
        AudioError: Missing, empty, too long, too short, damaged, cut short, unknown, or NaN inside; a sentence each.
    """
    if channel not in ("mean", "first"):
        raise AudioError(
            "read a sound",
            found=f"channel={channel!r}",
            expected='"mean" or "first"',
            todo="Use `mean` unless the official front end has to be matched.",
        )
    samples, rate, name = decode_mono(source, max_seconds=max_seconds, channel=channel)
    if len(samples) == 0 or len(samples) < min_seconds * rate:
        found, expected = f"{len(samples) / rate:.2f} s of sound", f"at least {max(min_seconds, 0.01):g} s"
        raise unreadable(name, found, expected, "Record again, or check that the file is complete.")
    bad = _count_bad(samples)
    if bad:
        found = f"{bad} of {samples.size} samples that are NaN or infinite"
        raise unreadable(name, found, "finite samples", "The program that wrote it failed: export it again as PCM.")
    return Waveform(samples, rate).resample(sample_rate_hz)


def save_waveform(path: str | os.PathLike, waveform: Waveform) -> None:
    """Write a sound as 16-bit WAV, FLAC or OGG, by the ending of `path`; louder than full scale is clipped.

    Raises:
        AudioError: If the ending is unknown or the file cannot be written.
    """
    import soundfile

    try:
        soundfile.write(os.fspath(path), np.clip(waveform.samples, -1.0, 1.0), waveform.sample_rate_hz)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        raise AudioError(
            f"write {os.fspath(path)!r}",
            found=f"this problem: {str(error).rstrip('.')}",
            expected="a writable path that ends in .wav, .flac or .ogg",
            todo="Choose another name or folder, or free some disk space.",
        ) from error


def to_pcm16(waveform: Waveform) -> bytes:
    """Return 16-bit little-endian samples as the official client sends them: clipped, times 32767, cut towards zero."""
    return (np.clip(waveform.samples, -1.0, 1.0) * np.float32(32767)).astype("<i2").tobytes()


def quality_note(waveform: Waveform) -> str | None:
    """Say in a few words what will keep a sound from being understood; None if nothing stands out.

    The thresholds are plain: under 0.1 s, peak under -60 dB, RMS under -50 dB, 0.1 % of samples at full scale.
    """
    size = np.abs(waveform.samples)
    if waveform.duration_s < 0.1:
        return f"too short: {1000 * waveform.duration_s:.0f} ms"
    if size.max() < 1e-3:
        return "silent"
    if math.sqrt(float(np.mean(np.square(size, dtype=np.float64)))) < 10 ** (-50 / 20):
        return "very quiet"
    return "clipped" if np.mean(size >= 0.999) > 1e-3 else None
