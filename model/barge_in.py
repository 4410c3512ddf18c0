"""Does the person interrupt the reply, or does the microphone only hear the reply itself?

    microphone ──TurnDetector, stricter──> speech? ──does the reply explain it?──> no: the person, stop the reply
    loudspeaker ── the reply, as far as it was handed out ────^                    yes: an echo, go on

A raw microphone (no echo cancellation, which would spoil the sound for the model) hears the loudspeaker. The echo is
the reply, a little later, coloured by the room: over time, its bands rise and fall as those of the reply do. A person
puts sound where the reply has none, even on top of an echo. No delay has to be known: every lag is tried.
"""

from dataclasses import dataclass

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.turn_detection import TurnDetector, TurnSettings
from model.voice_activity import VoiceActivity

WHILE_PLAYING = TurnSettings(start_probability=0.6, min_speech_s=0.4, end_silence_s=0.6, pre_roll_s=0.1)
"""Stricter than for a turn: stopping the reply for a cough is worse than stopping it a moment later."""
LEAST_UNEXPLAINED = 0.24
"""Share from which it is the person. With the example sounds of nano and a made-up room (reverberation 0.3 and 0.6 s)
an echo had 0.05 in the median and 0.23 at the 95th percentile; another voice had 0.35 and more; another voice on top
of an equally loud echo 0.26 in the median, so it is noticed within a look or two."""
COMPARED_S = 1.2
"""Length of the latest sound that is compared."""
PLAYED_S = 40.0
"""How much of the reply is remembered."""
AGAIN_S = 0.32
"""While somebody speaks, the question is asked again this often."""
DECAY_DB = 1.5
"""How fast a room lets a sound die away, per 16 ms."""
EXCESS_DB = 8.0
_TAIL = 24
_HOP, _WIDTH = 256, 512
_EDGES_HZ = np.geomspace(200, 4000, 13)


@dataclass(frozen=True)
class Verdict:
    """Whether the reply should stop."""

    interrupts: bool
    unexplained: float
    """Share of what is heard that is not the reply, 0 to 1; 0 if nothing was heard."""


class BargeIn:
    """Listens while one reply plays.

    Args:
        activity: Judges frames; fresh. None takes the best that is at hand.
        settings: What counts as speech.
        least_unexplained: From this share on, it is not the reply that is heard.
    """

    def __init__(
        self,
        activity: VoiceActivity | None = None,
        settings: TurnSettings = WHILE_PLAYING,
        *,
        least_unexplained: float = LEAST_UNEXPLAINED,
    ) -> None:
        self._detector, self._least = TurnDetector(settings, activity), least_unexplained
        self._played = np.zeros(0, np.float32)
        self._asked_s = -AGAIN_S

    def play(self, waveform: Waveform) -> None:
        """Note more of the reply as it is handed to the loudspeaker."""
        more = waveform.resample(INPUT_SAMPLE_RATE_HZ).samples
        self._played = np.concatenate([self._played, more])[-round(PLAYED_S * INPUT_SAMPLE_RATE_HZ) :]

    def push(self, waveform: Waveform) -> Verdict:
        """Take the next piece from the microphone.

        Raises:
            AudioError: If its rate is not that of the pieces before.
        """
        self._detector.push(waveform)
        if not self._detector.speaking or self._detector.time_s - self._asked_s < AGAIN_S:
            return Verdict(False, 0.0)
        self._asked_s = self._detector.time_s
        share = unexplained(self._detector.heard(COMPARED_S), Waveform(self._played, INPUT_SAMPLE_RATE_HZ))
        return Verdict(share >= self._least, share)


def unexplained(heard: Waveform, played: Waveform) -> float:
    """Share of what is heard that no stretch of `played` explains, 0 (an echo) to 1 (something else).

    Both at 16 kHz. Compared are levels of twelve bands over time: the lag is the one with the best correlation, the
    loss on the way is the median difference of each band, and rooms let every sound die away slowly.
    """
    levels, n_around = _levels(heard), len(heard.samples)
    if len(levels) < 2 or not np.any(played.samples):
        return float(len(levels) > 1)
    n, reply = len(levels), _levels(Waveform(np.pad(played.samples, n_around), played.sample_rate_hz))
    lag = _best_lag(levels, reply)
    echo = reply[max(0, lag - _TAIL) : lag + n].copy()
    for before, here in zip(echo, echo[1:], strict=False):
        np.maximum(here, before - DECAY_DB, out=here)
    echo = echo[-n:]
    loud = echo > echo.max() - 25.0
    rise = levels - echo
    bands = zip(rise.T, loud.T, strict=True)
    loss = np.array([np.median(band[there]) if there.any() else 0.0 for band, there in bands])
    clear = levels > levels.max() - 25.0
    return float(np.mean((rise - loss > EXCESS_DB)[clear]))


def _best_lag(levels: np.ndarray, reply: np.ndarray) -> int:
    """The frame of the reply at which the pattern of `levels` fits best; neither loudness nor colour counts."""
    n = len(levels)
    pattern = levels - levels.mean(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(reply, n, axis=0)  # [lag, band, frame]
    means = windows.mean(axis=2)
    products = np.einsum("lbt,tb->l", windows, pattern)
    spread = np.einsum("lbt,lbt->l", windows, windows) - n * np.einsum("lb,lb->l", means, means)
    return int(np.argmax(products / np.sqrt(np.maximum(spread, 1e-9))))


def _levels(waveform: Waveform) -> np.ndarray:
    """Levels in dB, [frame, band], at most 40 dB under the loudest, 16 ms apart."""
    samples = waveform.samples
    if len(samples) < _WIDTH:
        return np.zeros((0, len(_EDGES_HZ) - 1))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WIDTH)[::_HOP] * np.hanning(_WIDTH)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.searchsorted(np.fft.rfftfreq(_WIDTH, 1 / INPUT_SAMPLE_RATE_HZ), _EDGES_HZ)
    bands = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    levels = 10 * np.log10(bands + 1e-10)
    return np.maximum(levels, levels.max() - 40.0)
