"""What the ear can check: pitch, loudness and speaking rate of a recording along its time.

    samples --frames of 64 ms, every 10 ms--> pitch (YIN) and how periodic the frame is
            --frames of 25 ms, every 10 ms--> loudness, dB of full scale
    loudness, smoothed --peaks in voiced sound--> syllable nuclei --how dense--> rate, nuclei per second

Measured in the sound alone, without any model: ground beside which a model's answer about a voice can be read. Pitch
is that of one voice; music, noise and two people at once give numbers that mean little. Nuclei are peaks of loudness,
close to syllables in clear speech; they are not counted from words.

Source: YIN, de Cheveigné and Kawahara (2002); nuclei after de Jong and Wempe (2009), with peaks of at least 2 dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.errors import AudioError

HOP = 160
"""Samples between two frames at 16 kHz: 10 ms."""
STEP_S = HOP / INPUT_SAMPLE_RATE_HZ
WINDOW = 512
"""Samples compared with their shifted selves, 32 ms: two periods of the lowest voice."""
FLOOR_HZ, CEILING_HZ = 60.0, 500.0
LONGEST_LAG = round(INPUT_SAMPLE_RATE_HZ / FLOOR_HZ)
PERIODIC = 0.15
"""A lag is a period when what it leaves over, as a share of what an average lag leaves, is below this."""
VOICED = 0.3
"""A frame whose best lag leaves more over than this has no pitch."""
QUIET_DB = 35.0
"""Frames this far below the loudest are not voiced: at the level of noise periods are found by chance."""
LOUDNESS_WINDOW = 400
FLOOR_DB = -100.0
"""Loudness of digital silence."""
NUCLEUS_DB = 2.0
"""How far a peak of loudness stands out from the dips beside it."""
NUCLEUS_GAP_S = 0.08
RATE_WIDTH_S = 0.4
"""Standard deviation of the bell that nuclei are counted under."""
FRAMES_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Prosody:
    """Three curves on one time axis."""

    time_s: np.ndarray
    """Middle of each frame, float64 [frame], 10 ms apart."""
    pitch_hz: np.ndarray
    """Fundamental frequency, float32 [frame], 60 to 500 Hz; NaN where nothing is voiced."""
    loudness_db: np.ndarray
    """Root mean square over 25 ms, dB of full scale, float32 [frame]; at least -100."""
    rate_per_s: np.ndarray
    """Syllable nuclei per second around each frame, float32 [frame]."""
    nuclei_s: np.ndarray
    """When each nucleus is, float64 [nucleus]."""
    duration_s: float

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("time_s", "pitch_hz", "loudness_db", "rate_per_s")}
        if len(set(lengths.values())) != 1 or not len(self.time_s):
            raise AudioError(
                "keep the prosody of a recording",
                found=f"curves of the lengths {lengths}",
                expected="one frame or more, equally many of each",
                todo="Use `measure_prosody`.",
            )

    @property
    def summary(self) -> dict[str, float]:
        """The curves in six numbers; NaN where there is nothing to measure.

        Pitch is the median of voiced frames, its range the 5th to 95th percentile in semitones; the rate counts nuclei
        from the first to the last one.
        """
        voiced = self.pitch_hz[np.isfinite(self.pitch_hz)]
        low, middle, high = np.percentile(voiced, (5, 50, 95)) if len(voiced) else (np.nan,) * 3
        loud = self.loudness_db[self.loudness_db > self.loudness_db.max() - QUIET_DB]
        span_s = float(np.ptp(self.nuclei_s)) if len(self.nuclei_s) > 1 else 0.0
        return {
            "pitch_hz": float(middle),
            "pitch_range_semitones": float(12 * np.log2(high / low)),
            "voiced_share": len(voiced) / len(self.pitch_hz),
            "loudness_db": float(10 * np.log10(np.mean(10 ** (loud / 10)))),
            "rate_per_s": (len(self.nuclei_s) - 1) / span_s if span_s else float("nan"),
            "nuclei": float(len(self.nuclei_s)),
        }

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each frame, None where there is no pitch; for CSV and JSON."""
        pitches = [round(float(hz), 2) if np.isfinite(hz) else None for hz in self.pitch_hz]
        columns = (self.time_s.round(3), pitches, self.loudness_db.round(2), self.rate_per_s.round(3))
        names = ("time_s", "pitch_hz", "loudness_db", "rate_per_s")
        return [
            {name: value if value is None else round(float(value), 3) for name, value in zip(names, row)}
            for row in zip(*columns)
        ]


def measure_prosody(waveform: Waveform) -> Prosody:
    """Measure pitch, loudness and rate of a recording.

    Args:
        waveform: At any rate; it is heard at 16 kHz, as by the model.

    Raises:
        AudioError: If there are no samples.
    """
    samples = waveform.resample(INPUT_SAMPLE_RATE_HZ).samples
    if not len(samples):
        raise AudioError(
            "measure the prosody of a recording", found="no samples", expected="some", todo="Record again."
        )
    loudness = loudness_db(samples)
    pitch = pitch_hz(samples)
    pitch[loudness < loudness.max() - QUIET_DB] = np.nan
    time_s = np.arange(len(pitch)) * STEP_S
    nuclei_s = time_s[nuclei(loudness, np.isfinite(pitch))]
    duration_s = len(samples) / INPUT_SAMPLE_RATE_HZ
    return Prosody(time_s, pitch, loudness, _density(nuclei_s, time_s, duration_s), nuclei_s, duration_s)


def pitch_hz(samples: np.ndarray) -> np.ndarray:
    """Return the pitch of frames every 10 ms by YIN, float32 [frame], NaN where no lag is a period.

    Args:
        samples: [time], 16 kHz; frames are centred, beyond the ends there is silence.
    """
    frames = _frames(np.asarray(samples, np.float64), WINDOW + LONGEST_LAG)
    found = [_yin(frames[k : k + FRAMES_AT_ONCE]) for k in range(0, len(frames), FRAMES_AT_ONCE)]
    return _without_jumps(np.concatenate(found)).astype(np.float32)


def _yin(frames: np.ndarray) -> np.ndarray:
    """Return the pitch of each frame, NaN without one."""
    left = _left_over(frames)
    lowest = int(INPUT_SAMPLE_RATE_HZ / CEILING_HZ)
    inside = left[:, lowest:-1]
    dip = (inside <= left[:, lowest - 1 : -2]) & (inside <= left[:, lowest + 1 :])
    good = dip & (inside < PERIODIC)
    first, best = good.argmax(axis=1), np.where(dip, inside, np.inf).argmin(axis=1)
    lag = np.where(good.any(axis=1), first, best) + lowest
    row = np.arange(len(frames))
    before, here, after = (left[row, lag + k] for k in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.where(bend > 0, (before - after) / (2 * np.where(bend > 0, bend, 1)), 0.0)
    hz = INPUT_SAMPLE_RATE_HZ / (lag + np.clip(shift, -0.5, 0.5))
    return np.where((here < VOICED) & dip.any(axis=1), hz, np.nan)


def _left_over(frames: np.ndarray) -> np.ndarray:
    """Return, for every lag, how much a frame differs from itself shifted, beside the mean of shorter lags."""
    n = 1 << (frames.shape[1] + WINDOW - 1).bit_length()
    spectrum = np.fft.rfft(frames, n)
    still = np.fft.rfft(frames[:, :WINDOW], n)
    alike = np.fft.irfft(spectrum * still.conj(), n)[:, : LONGEST_LAG + 1]
    power = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    moved = power[:, WINDOW : WINDOW + LONGEST_LAG + 1] - power[:, : LONGEST_LAG + 1]
    difference = np.maximum(moved[:, :1] + moved - 2 * alike, 0.0)
    lags = np.arange(1, LONGEST_LAG + 1)
    mean = np.cumsum(difference[:, 1:], axis=1) / lags
    silent = mean <= 1e-12
    share = np.where(silent, 1.0, difference[:, 1:] / np.where(silent, 1.0, mean))
    return np.concatenate([np.ones((len(frames), 1)), share], axis=1)


def _without_jumps(pitch: np.ndarray) -> np.ndarray:
    """Drop what stands alone: frames whose pitch is a third of an octave off the median of the 70 ms around them."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(pitch, 3, constant_values=np.nan), 7)
    some = np.isfinite(around).sum(axis=1) >= 3
    middle = np.full(len(pitch), np.nan)
    middle[some] = np.nanmedian(around[some], axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(np.log2(pitch / middle)) < 1 / 3, pitch, np.nan)


def loudness_db(samples: np.ndarray) -> np.ndarray:
    """Return the loudness of frames every 10 ms, float32 [frame], dB of full scale (a full-scale sine has -3)."""
    power = np.square(np.asarray(samples, np.float64))
    mean = _frames(power, LOUDNESS_WINDOW).mean(axis=1)
    return (10 * np.log10(np.maximum(mean, 10 ** (FLOOR_DB / 10)))).astype(np.float32)


def nuclei(loudness: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Return the frames of the peaks of loudness that lie in voiced sound, int [nucleus]."""
    from scipy.signal import find_peaks

    bell = np.hanning(9)[1:-1]
    smooth = np.convolve(np.pad(loudness, 3, mode="edge"), bell / bell.sum(), mode="valid")
    # Below the floor nothing is a dip: silence beside a word would make every ripple of its edge stand out.
    smooth = np.maximum(smooth, smooth.max() - QUIET_DB)
    edged = np.pad(smooth, 1, constant_values=smooth.min())
    peaks, _ = find_peaks(edged, prominence=NUCLEUS_DB, distance=max(1, round(NUCLEUS_GAP_S / STEP_S)))
    peaks -= 1
    near = np.convolve(voiced, np.ones(5), mode="same") > 0
    return peaks[near[peaks]]


def _density(nuclei_s: np.ndarray, time_s: np.ndarray, duration_s: float) -> np.ndarray:
    """Return nuclei per second under a bell around each frame; what of the bell lies outside the sound is left out."""
    from scipy.special import ndtr

    edges = np.append(time_s - STEP_S / 2, time_s[-1] + STEP_S / 2)
    counts, _ = np.histogram(nuclei_s, edges)
    reach = round(4 * RATE_WIDTH_S / STEP_S)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) * STEP_S / RATE_WIDTH_S) ** 2)
    bell /= bell.sum() * STEP_S
    sums = np.convolve(counts, bell, mode="full")[reach : reach + len(counts)]
    inside = ndtr((duration_s - time_s) / RATE_WIDTH_S) - ndtr(-time_s / RATE_WIDTH_S)
    return (sums / np.maximum(inside, 1e-3)).astype(np.float32)


def _frames(samples: np.ndarray, length: int) -> np.ndarray:
    """Return a view of centred frames every 10 ms, [1 + time // 160, length], with silence beyond the ends."""
    padded = np.pad(samples, (length // 2, length - length // 2))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[: len(samples) + 1 : HOP]
