"""Changes of voice and of place: what one spoken sentence can sound like.

Two kinds. The **voice** changes with WORLD (pitch, its range, formants, rate, breath, whisper), slow but free in
every direction, or with :func:`resize_voice`, a resampling that makes the speaker smaller or larger: pitch, formants
and rate together, in two milliseconds. The **place** changes with :func:`augment`: room, noise, telephone, level,
overload. It never moves anything in time, so word times stay true.

Source: WORLD (Morise et al. 2016) through pyworld; room responses are decaying noise after a few echoes.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.errors import AudioError, StepAudioError

RATE_HZ = INPUT_SAMPLE_RATE_HZ
FRAME_S = 0.005
ENVELOPE_DIMENSIONS = 48
_F0_FLOOR_HZ, _F0_CEILING_HZ = 60.0, 500.0
_FFT_SIZE = 1024
_PEAK = 0.7


@functools.cache
def world_library() -> ModuleType:
    """Load pyworld's compiled part.

    Its ``__init__`` asks ``pkg_resources`` for a version number and fails where setuptools no longer ships that module,
    so the extension is loaded by itself.

    Raises:
        StepAudioError: When pyworld is not installed.
    """
    package = importlib.util.find_spec("pyworld")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = Path(folder) / f"pyworld{suffix}"
            if path.exists():
                spec = importlib.util.spec_from_file_location("pyworld.pyworld", path)
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise StepAudioError(
        "load the WORLD vocoder",
        found="no compiled pyworld among the installed packages",
        expected="the package pyworld for " + sys.version.split()[0],
        todo="Run: pip install pyworld.",
    )


@dataclass(frozen=True)
class WorldFrames:
    """Speech as pitch, mel-cepstral envelope and noise share, one frame each 5 ms, small enough to keep thousands.

    Attributes:
        f0: Pitch in Hz, 0 where unvoiced, float32 [frame].
        envelope: Coded spectral envelope, float32 [frame, ENVELOPE_DIMENSIONS]; column 0 is the log level.
        aperiodicity: Coded noise share, dB, float32 [frame, band].
    """

    f0: np.ndarray
    envelope: np.ndarray
    aperiodicity: np.ndarray

    def __post_init__(self) -> None:
        """Refuse parts of different lengths."""
        if not len(self.f0) == len(self.envelope) == len(self.aperiodicity):
            lengths = [len(part) for part in (self.f0, self.envelope, self.aperiodicity)]
            raise ValueError(f"WORLD frames differ in length: {lengths}.")

    def __len__(self) -> int:
        return len(self.f0)

    def take(self, index: np.ndarray) -> WorldFrames:
        """Return the frames of this index, which may repeat or skip."""
        return WorldFrames(self.f0[index], self.envelope[index], self.aperiodicity[index])

    def stretched(self, n_frames: int) -> WorldFrames:
        """Return the same speech in ``n_frames`` frames."""
        return self.take(np.round(np.linspace(0, len(self) - 1, max(2, n_frames))).astype(int))

    def with_f0(self, f0: np.ndarray) -> WorldFrames:
        """Return the same speech with another pitch."""
        return WorldFrames(f0.astype(np.float32), self.envelope, self.aperiodicity)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self) * FRAME_S


def world_analyse(samples: np.ndarray) -> WorldFrames:
    """Analyse speech at 16 kHz; about 30 ms of work for each second."""
    world = world_library()
    x = np.ascontiguousarray(samples, dtype=np.float64)
    f0, times = world.dio(x, RATE_HZ, f0_floor=_F0_FLOOR_HZ, f0_ceil=_F0_CEILING_HZ, frame_period=1000 * FRAME_S)
    f0 = world.stonemask(x, f0, times, RATE_HZ)
    envelope = world.cheaptrick(x, f0, times, RATE_HZ, fft_size=_FFT_SIZE)
    noise = world.d4c(x, f0, times, RATE_HZ, fft_size=_FFT_SIZE)
    coded = world.code_spectral_envelope(envelope, RATE_HZ, ENVELOPE_DIMENSIONS)
    bands = world.code_aperiodicity(noise, RATE_HZ)
    return WorldFrames(f0.astype(np.float32), coded.astype(np.float32), bands.astype(np.float32))


def world_synthesise(
    frames: WorldFrames, *, formant: float = 1.0, breath: float = 0.0, whisper: bool = False
) -> np.ndarray:
    """Turn frames back into sound, peak 0.7.

    Args:
        frames: What to say.
        formant: Factor on all formants; above 1 is a shorter vocal tract.
        breath: Noise added to the voice, 0 to 1.
        whisper: Speak without any pitch.

    Returns:
        Float32 [time] at 16 kHz.
    """
    world = world_library()
    envelope = world.decode_spectral_envelope(np.ascontiguousarray(frames.envelope, np.float64), RATE_HZ, _FFT_SIZE)
    noise = world.decode_aperiodicity(np.ascontiguousarray(frames.aperiodicity, np.float64), RATE_HZ, _FFT_SIZE)
    if formant != 1.0:
        envelope = warp_envelope(envelope, formant)
    if breath:
        noise = np.clip(noise + breath * np.linspace(0.4, 1.0, noise.shape[1]), 0.001, 1.0)
    f0 = np.zeros(len(frames)) if whisper else frames.f0.astype(np.float64)
    samples = world.synthesize(f0, envelope, np.ones_like(noise) if whisper else noise, RATE_HZ, 1000 * FRAME_S)
    return to_peak(samples)


def warp_envelope(envelope: np.ndarray, formant: float) -> np.ndarray:
    """Stretch the frequency axis of a power spectrum [frame, bin] by ``formant``, interpolating its logarithm."""
    n_bins = envelope.shape[1]
    source = np.clip(np.arange(n_bins) / formant, 0, n_bins - 1)
    low = source.astype(int)
    high = np.minimum(low + 1, n_bins - 1)
    log = np.log(envelope + 1e-16)
    return np.ascontiguousarray(np.exp(log[:, low] + (log[:, high] - log[:, low]) * (source - low)))


def change_voice(
    waveform: Waveform,
    *,
    formant: float = 1.0,
    pitch: float = 1.0,
    pitch_range: float = 1.0,
    rate: float = 1.0,
    breath: float = 0.0,
    whisper: bool = False,
) -> Waveform:
    """Change who speaks, with WORLD (about 50 ms for each second of speech).

    Args:
        waveform: Speech at 16 kHz.
        formant: Factor on the formants; .8 to .9 turns a woman's vocal tract into a man's.
        pitch: Factor on the median pitch.
        pitch_range: Factor on the excursions around it; 0 is monotone.
        rate: Factor on the speed; word times divide by it.
        breath: Noise added to the voice, 0 to 1.
        whisper: Leave out all pitch.

    Raises:
        AudioError: When the sound is not at 16 kHz.
    """
    _need_16_khz(waveform, "change the voice of a clip")
    frames = world_analyse(waveform.samples)
    if rate != 1.0:
        frames = frames.stretched(round(len(frames) / rate))
    frames = shift_pitch(frames, pitch, pitch_range)
    return Waveform(world_synthesise(frames, formant=formant, breath=breath, whisper=whisper), RATE_HZ)


def shift_pitch(frames: WorldFrames, pitch: float, pitch_range: float = 1.0) -> WorldFrames:
    """Scale the pitch, and its excursions around the mean on a logarithmic scale."""
    voiced = frames.f0 > 0
    if not voiced.any() or (pitch == 1.0 and pitch_range == 1.0):
        return frames
    log = np.log(frames.f0[voiced])
    f0 = frames.f0.copy()
    f0[voiced] = np.clip(np.exp((log - log.mean()) * pitch_range + log.mean() + np.log(pitch)), 50.0, 800.0)
    return frames.with_f0(f0)


def resize_voice(waveform: Waveform, factor: float) -> Waveform:
    """Make the speaker smaller (above 1: higher, faster) or larger; word times divide by ``factor``."""
    import soxr

    if factor == 1.0:
        return waveform
    rate = waveform.sample_rate_hz
    samples = soxr.resample(waveform.samples, rate * factor, rate, quality="MQ")
    return Waveform(np.clip(samples, -1.0, 1.0).astype(np.float32), rate)


def room_response(reverberation_s: float, rng: np.random.Generator, *, n_echoes: int = 8) -> np.ndarray:
    """Draw an impulse response that falls by 60 dB in ``reverberation_s``; its first sample is the direct sound."""
    n_samples = max(int(1.1 * reverberation_s * RATE_HZ), int(0.06 * RATE_HZ))
    decay = np.exp(-6.9 * np.arange(n_samples, dtype=np.float32) / (reverberation_s * RATE_HZ))
    # The level of the tail is drawn too: how far away the speaker stands.
    response = rng.standard_normal(n_samples, dtype=np.float32) * decay * float(rng.uniform(0.03, 0.15))
    response[: int(0.004 * RATE_HZ)] = 0.0
    response[0] = 1.0
    response[rng.integers(30, int(0.05 * RATE_HZ), n_echoes)] += rng.uniform(-0.35, 0.4, n_echoes).astype(np.float32)
    return response


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Place speech in a room, at its own length and level; the direct sound stays where it was."""
    from scipy.signal import oaconvolve

    wet = oaconvolve(samples, response)[: len(samples)]
    return wet * (_rms(samples) / max(_rms(wet), 1e-9))


def mix_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise from a random place of a recording, repeated if it is short, at a signal-to-noise ratio.

    The level of the speech is taken where it is loud (the louder half), so that pauses do not make the noise weaker.
    """
    start = int(rng.integers(len(noise)))
    if len(noise) < len(samples):
        piece = np.resize(np.roll(noise, -start), len(samples))
    else:
        piece = _cut(noise, start, len(samples))
    gain = _active_rms(samples) / max(_rms(piece), 1e-6) * 10 ** (-snr_db / 20)
    return samples + np.float32(gain) * piece


def coloured_noise(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw noise whose spectrum falls by a random amount: between white and deep rumble."""
    from scipy.signal import lfilter

    pole = float(rng.uniform(0.0, 0.98))
    return lfilter([1.0 - pole], [1.0, -pole], rng.standard_normal(n_samples, dtype=np.float32)).astype(np.float32)


@functools.cache
def _telephone_filter() -> np.ndarray:
    """Band-pass of the telephone, 300-3400 Hz."""
    from scipy.signal import butter

    return butter(4, [300, 3400], "band", fs=RATE_HZ, output="sos")


def telephone(samples: np.ndarray) -> np.ndarray:
    """Send speech through a telephone: its band, and eight-bit mu-law steps."""
    from scipy.signal import sosfilt

    band = sosfilt(_telephone_filter(), samples)
    peak = max(float(np.abs(band).max()), 1e-9)
    steps = np.round(np.sign(band) * np.log1p(255 * np.abs(band) / peak) / np.log(256) * 127) / 127
    return (np.sign(steps) * (256 ** np.abs(steps) - 1) / 255 * peak).astype(np.float32)


def augment(
    waveform: Waveform, rng: np.random.Generator, noises: Sequence[np.ndarray] = (), strength: float = 1.0
) -> Waveform:
    """Put a clip into a random place: room, noise, telephone, level, overload. Times stay as they are.

    Args:
        waveform: Speech at 16 kHz.
        rng: Source of every draw.
        noises: Background sounds, float32 [time] at 16 kHz (``Recordings.noises``); without any, coloured noise.
        strength: 0 returns the clip untouched; 1 is the training recipe: how often and how much.

    Raises:
        AudioError: When the sound is not at 16 kHz.
    """
    _need_16_khz(waveform, "augment a clip")
    if strength <= 0:
        return waveform
    samples = waveform.samples
    if rng.random() < 0.3 * strength:
        samples = reverberate(samples, room_response(float(rng.uniform(0.1, 0.2 + 0.4 * strength)), rng))
    if rng.random() < 0.5 * strength:
        snr_db = float(rng.uniform(30.0 - 22.0 * min(strength, 1.2), 35.0))
        recorded = len(noises) > 0 and rng.random() < 0.8
        noise = noises[int(rng.integers(len(noises)))] if recorded else coloured_noise(len(samples), rng)
        samples = mix_noise(samples, noise, snr_db, rng)
    if rng.random() < 0.1 * strength:
        samples = telephone(samples)
    overload = float(rng.uniform(1.0, 2.5)) if rng.random() < 0.05 * strength else 0.0
    return Waveform(_set_level(samples, rng, strength, overload), RATE_HZ)


def _set_level(samples: np.ndarray, rng: np.random.Generator, strength: float, overload: float) -> np.ndarray:
    """Draw the peak level; an overload factor cuts the peaks off first."""
    samples = to_peak(samples)
    if overload:
        samples = np.clip(samples * np.float32(overload), -_PEAK, _PEAK)
    return samples * np.float32(10 ** (float(rng.uniform(-22.0 * min(strength, 1.0), 2.5)) / 20))


def to_peak(samples: np.ndarray, peak: float = _PEAK) -> np.ndarray:
    """Scale to a peak; silence stays silence."""
    top = float(np.abs(samples).max(initial=0.0))
    return (samples * (peak / top) if top > 1e-6 else samples).astype(np.float32)


def _cut(noise: np.ndarray, start: int, n_samples: int) -> np.ndarray:
    """Return ``n_samples`` of a long noise, starting early enough to fit."""
    start = min(start, len(noise) - n_samples)
    return noise[start : start + n_samples]


def _rms(samples: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(samples), dtype=np.float64))) if len(samples) else 0.0


def _active_rms(samples: np.ndarray) -> float:
    """Level of the louder half of the 20 ms blocks."""
    n_blocks = max(1, len(samples) // 320)
    power = np.square(samples[: n_blocks * 320]).reshape(n_blocks, -1).mean(axis=1)
    return float(np.sqrt(power[power >= np.median(power)].mean()))


def _need_16_khz(waveform: Waveform, tried: str) -> None:
    """Refuse other rates: every constant here is made for 16 kHz."""
    if waveform.sample_rate_hz != RATE_HZ:
        found = f"{waveform.sample_rate_hz} Hz"
        raise AudioError(tried, found=found, expected=f"{RATE_HZ} Hz", todo=f"Call waveform.resample({RATE_HZ}) first.")
