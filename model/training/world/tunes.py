"""Simple music with exact labels: a few notes on one of five instruments, made from sines and noise.

For multiple-choice questions about music where no recording is there. Training and tests never share a key: a tune of
the tests starts on a note that training never starts on.
"""

from dataclasses import dataclass

import numpy as np

from model.audio import Waveform
from model.training import augment
from model.training.augment import RATE_HZ

INSTRUMENTS = ("piano", "organ", "flute", "bell", "drum")
DIRECTIONS = ("rising", "falling", "level")
TEMPOS = {"slow": (0.55, 0.7), "fast": (0.2, 0.27)}
"""Seconds from one note to the next."""
COUNTS = (2, 3, 4, 5)
TRAIN_KEYS, HELD_OUT_KEYS = (0, 2, 3, 5, 7, 8, 10), (1, 6, 11)
"""Semitones above middle C of the first note."""
_STEPS = (2, 3, 4)
_PARTIALS = {
    "piano": ((1, 1.0, 5), (2, 0.5, 7), (3, 0.25, 9), (4, 0.12, 12)),
    "organ": ((1, 1.0, 0), (2, 0.6, 0), (3, 0.4, 0), (4, 0.3, 0), (6, 0.2, 0)),
    "flute": ((1, 1.0, 0), (2, 0.08, 0)),
    "bell": ((1, 0.6, 3), (2.76, 1.0, 4), (5.4, 0.6, 6), (8.93, 0.3, 9)),
}
"""Instrument -> (multiple of the pitch, level, decay a second)."""


@dataclass(frozen=True)
class Tune:
    """What is played; a drum has no direction."""

    instrument: str
    direction: str
    tempo: str
    count: int
    key: int

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        known = self.instrument in INSTRUMENTS and self.direction in DIRECTIONS and self.tempo in TEMPOS
        if not known or self.count not in COUNTS:
            raise ValueError(f"Could not play {self}: see INSTRUMENTS, DIRECTIONS, TEMPOS and COUNTS.")

    @classmethod
    def draw(cls, rng: np.random.Generator, *, held_out: bool) -> "Tune":
        """Draw a tune of the training or of the test side."""
        keys = HELD_OUT_KEYS if held_out else TRAIN_KEYS
        instrument = INSTRUMENTS[rng.integers(len(INSTRUMENTS))]
        direction = "level" if instrument == "drum" else DIRECTIONS[rng.integers(len(DIRECTIONS))]
        tempo = tuple(TEMPOS)[rng.integers(len(TEMPOS))]
        return cls(instrument, direction, tempo, COUNTS[rng.integers(len(COUNTS))], keys[rng.integers(len(keys))])

    def labels(self) -> dict[str, str]:
        """What one can ask about it."""
        made = {"instrument": self.instrument, "tempo": self.tempo, "notes": str(self.count)}
        return made if self.instrument == "drum" else made | {"direction": self.direction}


def play(tune: Tune, rng: np.random.Generator) -> tuple[Waveform, tuple[float, ...]]:
    """Play a tune.

    Returns:
        The sound at 16 kHz and when each note starts, in seconds.
    """
    gap_s = float(rng.uniform(*TEMPOS[tune.tempo]))
    sign = {"rising": 1, "falling": -1, "level": 0}[tune.direction]
    semitones = tune.key + np.concatenate([[0], np.cumsum(rng.choice(_STEPS, tune.count - 1))]) * sign
    starts = tuple(0.1 + gap_s * n for n in range(tune.count))
    samples = np.zeros(int((starts[-1] + 1.0) * RATE_HZ), np.float32)
    for start, semitone in zip(starts, semitones, strict=True):
        note = _note(tune.instrument, 261.6 * 2 ** (semitone / 12), 0.94 * gap_s, rng)
        at = int(start * RATE_HZ)
        samples[at : at + len(note)] += note[: len(samples) - at]
    return Waveform(augment.to_peak(samples), RATE_HZ), starts


def _note(instrument: str, hz: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """One note, with its attack and its end."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    if instrument == "drum":
        noise = rng.standard_normal(len(t)) * np.exp(-30 * t)
        sound = noise + 2 * np.sin(2 * np.pi * (70 * t + 4 * (1 - np.exp(-20 * t)))) * np.exp(-12 * t)
    else:
        tremble = 0.004 * np.sin(2 * np.pi * 5 * t) / 5 if instrument == "flute" else 0.0
        sound = sum(
            level * np.exp(-decay * t) * np.sin(2 * np.pi * hz * multiple * (t + tremble))
            for multiple, level, decay in _PARTIALS[instrument]
            if hz * multiple < 0.45 * RATE_HZ
        )
    edge = 0.03 if instrument in ("flute", "organ") else 0.003
    sound = sound * np.minimum(1, t / edge) * np.minimum(1, (t[-1] - t) / 0.03)
    return np.asarray(sound, dtype=np.float32)
