"""How a sentence is said: labels of the voice, turned into sound, and the labels that truly hold afterwards.

    Delivery(emotion="sad")  --deliveries.tsv-->  amounts (pitch 0.9, rate 0.7, ...)  --WORLD-->  sound + labels

Pitch and speed are never taken on trust: the pitch of every delivered clip is read off its own contour, its speed off
its syllables and speaking time, and either label is given only inside a band of the table; between two bands there is
none. So every clip says something about pitch and speed, whatever it was made for.

Amounts of emotions follow relative medians of acted speech (EmoDB, CSEMOTIONS, RAVDESS); those of ages and styles are
conventions that were never checked against people.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np

from model.audio import Waveform
from model.training import augment
from model.training.augment import FRAME_S, RATE_HZ, WorldFrames

Word = tuple[str, float, float]
"""Text, start and end in seconds."""
USUAL_HZ = {"female": 205.0, "male": 118.0}
"""Pitch that counts as the middle of each sex; semitones of the table are from here."""
_AXES = {
    "pitch": "pitch", "f0": "pitch", "semitones": "pitch", "whisper": "pitch", "range": "pitch", "drift": "pitch",
    "final": "pitch", "tremor": "pitch", "formant": "colour", "tilt": "colour", "breath": "colour", "comb": "colour",
    "jitter": "colour", "shimmer": "colour", "press": "colour", "rate": "time", "syllables": "time",
    "pause": "rhythm", "sway": "rhythm",
}  # fmt: skip
"""What each amount changes; two labels of one delivery never change the same."""
_RATES = (0.45, 2.2)
_TREMOR_HZ = 5.5
_SWAY_S = 1.1
_UNEVEN_S = 1.5 * _SWAY_S
"""A shorter sentence never hurries and dawdles both."""
_COMB_S = 0.007


@cache
def table() -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """(dimension, label) -> amount -> (lowest, highest), from `deliveries.tsv`."""
    made = {}
    for line in (Path(__file__).parent / "deliveries.tsv").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            dimension, label, amounts = line.split("\t")
            pairs = (pair.split("=") for pair in amounts.split())
            made[dimension, label] = {name: tuple(map(float, span.split(".."))) for name, span in pairs}
    return made


def labels(dimension: str) -> tuple[str, ...]:
    """The labels that a dimension can be given, in the order of the table."""
    return tuple(label for d, label in table() if d == dimension)


@dataclass(frozen=True)
class Delivery:
    """How to say a sentence; None leaves a dimension open, and nobody is asked about it."""

    emotion: str | None = None
    age: str | None = None
    timbre: str | None = None
    pitch: str | None = None
    rhythm: str | None = None
    speed: str | None = None
    style: str | None = None
    vocal: str | None = None
    """A sound the speaker makes besides the words; a recording, mixed in by `scenes.mix`."""

    def __post_init__(self) -> None:
        """Refuse labels that the table does not know or that would change the same thing."""
        taken: dict[str, str] = {}
        for dimension, label in self.labels().items():
            if dimension == "vocal":
                continue
            if (dimension, label) not in table():
                raise ValueError(f"Could not deliver {dimension} {label!r}; the table has {labels(dimension)}.")
            for axis in {_AXES[amount] for amount in table()[dimension, label]}:
                if axis in taken:
                    raise ValueError(f"Could not deliver {dimension} {label!r} with {taken[axis]}: both change {axis}.")
                taken[axis] = f"{dimension} {label!r}"

    def labels(self) -> dict[str, str]:
        """Dimension -> label of what was asked for."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw every amount of the table that this delivery needs."""
        spans = [table()[item] for item in self.labels().items() if item[0] != "vocal"]
        return {name: float(rng.uniform(*span)) for amounts in spans for name, span in amounts.items()}


@dataclass(frozen=True)
class Delivered:
    """Speech as it was delivered.

    `labels` hold for this sound (dimension -> label); `f0_hz` is its median pitch, 0 without any voice; `rate` its
    syllables per second of speaking.
    """

    waveform: Waveform
    words: tuple[Word, ...]
    labels: dict[str, str]
    f0_hz: float
    rate: float


def syllables(text: str) -> int:
    """Syllables of an English or Mandarin text: Chinese characters, and groups of vowels but for a silent e."""
    count = len(re.findall(r"[\u3400-\u9fff]", text))
    for word in re.findall(r"[a-z']+", text.lower()):
        groups = len(re.findall(r"[aeiouy]+", word))
        silent = bool(re.search(r"[^aeiouyl]e$|[^aeiouydt]ed$|[^aeiouysxz]es$", word))
        count += max(1, groups - silent)
    return count


def speaking_s(samples: np.ndarray) -> float:
    """Seconds in which someone speaks: 20 ms blocks within 35 dB of the loud ones, short gaps included."""
    active = _active(samples)
    if not active.any():
        return 0.0
    gaps = np.diff(np.flatnonzero(active))
    short = gaps[gaps <= 10]  # up to 0.2 s belongs to the words
    return 0.02 * float(short.sum() + 1 + np.sum(gaps > 10))


def _active(samples: np.ndarray) -> np.ndarray:
    """Which 20 ms blocks sound, [block]."""
    n_blocks = len(samples) // 320
    power = np.square(samples[: n_blocks * 320].reshape(n_blocks, 320)).mean(axis=1)
    return power > np.quantile(power, 0.95) * 10**-3.5 if n_blocks else np.zeros(0, bool)


def pitch_label(f0_hz: float, gender: str) -> str | None:
    """Where a median pitch lies for a speaker of this sex; None between two bands or without a usual pitch."""
    if gender not in USUAL_HZ or f0_hz <= 0:
        return None
    return _band("pitch", "semitones", 12 * float(np.log2(f0_hz / USUAL_HZ[gender])), 0.3)


def speed_label(rate: float) -> str | None:
    """The step of a speed in syllables a second; None between two steps."""
    return _band("speed", "syllables", rate, 0.12)


def _band(dimension: str, amount: str, value: float, slack: float) -> str | None:
    """The label whose span, widened by `slack`, holds a value; the outermost spans have no outer end."""
    names = labels(dimension)
    for number, name in enumerate(names):
        low, high = table()[dimension, name][amount]
        above = number == 0 or value >= low - slack
        below = number == len(names) - 1 or value <= high + slack
        if above and below:
            return name
    return None


# --- delivering ---------------------------------------------------------------------------------------------------


def deliver(
    waveform: Waveform,
    delivery: Delivery,
    rng: np.random.Generator,
    *,
    text: str,
    gender: str,
    words: Sequence[Word] = (),
) -> Delivered:
    """Say a spoken sentence in another way.

    Args:
        waveform: Plain speech at 16 kHz, without noise.
        delivery: What the listener shall notice.
        rng: Source of every draw.
        text: The words, for the speed.
        gender: "female", "male" or anything else when nobody knows.
        words: Times of the words, if known; they move along.

    Returns:
        The sound and the labels that hold for it. Without anything to change the samples stay untouched.
    """
    amounts = delivery.draw(rng)
    frames = augment.world_analyse(waveform.samples)
    rate = _rate(amounts, waveform.samples, text)
    source = _time_map(len(frames), rate, amounts.get("sway", 0.0), rng)
    moved = tuple((w, _moved(source, a), _moved(source, b)) for w, a, b in words)
    frames = _with_pitch(frames.take(source), amounts, gender, rng)
    changed = bool(amounts.keys() - {"pause"})
    samples = _sound(frames, amounts, rng) if changed else waveform.samples
    uneven = delivery.rhythm in (None, "steady") or len(samples) >= _UNEVEN_S * RATE_HZ
    if "pause" in amounts:
        spoken_samples = len(samples)
        samples, moved = with_pauses(samples, moved, amounts["pause"], rng)
        uneven = len(samples) > spoken_samples
    voiced = frames.f0[frames.f0 > 0]
    f0_hz = 0.0 if "whisper" in amounts or len(voiced) < 20 else float(np.median(voiced))
    spoken = speaking_s(samples)
    spoken_rate = syllables(text) / spoken if spoken else 0.0
    held = _labels(delivery, gender, f0_hz, spoken_rate)
    if not uneven:  # too short for a pause or a change of pace
        del held["rhythm"]
    return Delivered(Waveform(samples, RATE_HZ), moved, held, f0_hz, spoken_rate)


def _labels(delivery: Delivery, gender: str, f0_hz: float, rate: float) -> dict[str, str]:
    """What holds: the asked labels, but pitch and speed as measured, and the sex where it can be heard."""
    held = {name: label for name, label in delivery.labels().items() if name not in ("pitch", "speed", "vocal")}
    grown = delivery.age != "child"
    measured = {"pitch": pitch_label(f0_hz, gender) if grown else None, "speed": speed_label(rate)}
    if gender in USUAL_HZ and grown and delivery.style != "whisper":
        measured["gender"] = gender
    return held | {name: label for name, label in measured.items() if label}


def _rate(amounts: dict[str, float], samples: np.ndarray, text: str) -> float:
    """Factor on the speed: drawn, or what brings the sentence to the wanted syllables a second."""
    rate = amounts.get("rate", 1.0)
    if "syllables" in amounts and (spoken := speaking_s(samples)):
        rate = amounts["syllables"] * spoken / max(1, syllables(text))
    return float(np.clip(rate, *_RATES))


def _time_map(n_frames: int, rate: float, sway: float, rng: np.random.Generator) -> np.ndarray:
    """Which frame of the plain sentence sounds at each frame of the delivered one."""
    t = np.arange(n_frames) * FRAME_S
    # Swaying speech hurries and dawdles by turns: stretches at exp(+-sway) of the usual speed.
    turns = np.sign(np.sin(2 * np.pi * t / (2 * _SWAY_S) + rng.uniform(0, 2 * np.pi)))
    ends = np.cumsum(np.exp(-sway * turns) / rate)
    wanted = np.arange(max(2, int(ends[-1])))
    return np.clip(np.searchsorted(ends, wanted, side="right"), 0, n_frames - 1)


def _moved(source: np.ndarray, time_s: float) -> float:
    """Where a time of the plain sentence has gone."""
    return float(np.searchsorted(source, time_s / FRAME_S)) * FRAME_S


def _with_pitch(frames: WorldFrames, amounts: dict[str, float], gender: str, rng: np.random.Generator) -> WorldFrames:
    """Give the frames their pitch contour."""
    voiced = frames.f0 > 0
    if not voiced.any():
        return frames
    log = np.log(frames.f0[voiced])
    middle = float(np.median(log))
    level = middle + np.log(amounts.get("pitch", 1.0))
    if "f0" in amounts:
        level = np.log(amounts["f0"])
    if "semitones" in amounts:
        level = np.log(USUAL_HZ.get(gender, np.exp(middle))) + amounts["semitones"] * np.log(2) / 12
    t = np.arange(len(frames))[voiced] * FRAME_S
    place = t / max(frames.duration_s, 1e-3)
    # Trackers err by octaves at times; a wider range must not turn that into a shriek.
    contour = np.clip(log - middle, -0.6, 0.6) * amounts.get("range", 1.0)
    contour += amounts.get("drift", 0.0) * 2 * (place - 0.5)
    contour += amounts.get("final", 0.0) * np.clip((place - 0.75) / 0.25, 0, 1)
    contour += amounts.get("tremor", 0.0) * np.sin(2 * np.pi * _TREMOR_HZ * t + rng.uniform(0, 2 * np.pi))
    contour += amounts.get("jitter", 0.0) * rng.standard_normal(len(t))
    f0 = frames.f0.copy()
    f0[voiced] = np.clip(np.exp(level + contour), 50.0, 700.0)
    return frames.with_f0(f0)


def _sound(frames: WorldFrames, amounts: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Turn frames into sound and give it its colour; peak 0.7."""
    samples = augment.world_synthesise(
        frames, formant=amounts.get("formant", 1.0), breath=amounts.get("breath", 0.0), whisper="whisper" in amounts
    )
    level = amounts.get("shimmer", 0.0) * rng.standard_normal(len(frames))
    t = np.arange(len(frames)) * FRAME_S
    level += 1.5 * amounts.get("tremor", 0.0) * np.sin(2 * np.pi * _TREMOR_HZ * t + rng.uniform(0, 2 * np.pi))
    samples = samples * np.exp(np.interp(np.arange(len(samples)) / RATE_HZ, t, level))
    if "tilt" in amounts:
        samples = tilted(samples, amounts["tilt"])
    if "comb" in amounts:
        delay = int(_COMB_S * RATE_HZ)
        samples[delay:] = samples[delay:] + amounts["comb"] * samples[:-delay].copy()
    if "press" in amounts:
        samples = np.tanh(amounts["press"] * augment.to_peak(samples))
    return augment.to_peak(samples)


def tilted(samples: np.ndarray, db_per_octave: float) -> np.ndarray:
    """Tilt a spectrum around 1 kHz, at most 18 dB up and 30 dB down."""
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    gain_db = np.clip(db_per_octave * np.log2(np.maximum(hz, 60.0) / 1000.0), -30.0, 18.0)
    return np.fft.irfft(np.fft.rfft(samples) * 10 ** (gain_db / 20), len(samples))


def with_pauses(
    samples: np.ndarray, words: tuple[Word, ...], pause_s: float, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[Word, ...]]:
    """Stop after every few words: between words where their times are known, else where the voice is weakest.

    Returns the sound and the words at their new times.
    """
    cuts = _cuts(samples, words, rng)
    pieces, at, moved = [], 0, []
    ends = [*cuts, len(samples)]
    for number, end in enumerate(ends):
        pieces.append(_faded(samples[at:end]))
        if number < len(cuts):
            quiet = int(pause_s * rng.uniform(0.85, 1.15) * RATE_HZ)
            pieces.append(rng.standard_normal(quiet).astype(np.float32) * np.float32(1e-4))
        at = end
    starts = np.cumsum([0] + [len(piece) for piece in pieces])[::2]
    for word, start_s, end_s in words:
        piece = int(np.searchsorted(cuts, 0.5 * (start_s + end_s) * RATE_HZ))
        shift = (starts[piece] - ([0, *cuts][piece])) / RATE_HZ
        moved.append((word, start_s + shift, end_s + shift))
    return np.concatenate(pieces).astype(np.float32), tuple(moved)


def _cuts(samples: np.ndarray, words: tuple[Word, ...], rng: np.random.Generator) -> list[int]:
    """Samples at which to stop, at least 0.35 s apart and away from both ends."""
    last = len(samples) - int(0.25 * RATE_HZ)
    if words:
        places = [int(start * RATE_HZ) for _, start, _ in words[1:]]
    else:
        n_blocks = len(samples) // 320
        power = np.square(samples[: n_blocks * 320].reshape(n_blocks, 320)).mean(axis=1)
        smooth = np.convolve(power, np.ones(3) / 3, mode="same")
        places = [320 * b + 160 for b in range(1, n_blocks - 1) if smooth[b] == smooth[max(0, b - 6) : b + 7].min()]
    cuts: list[int] = []
    for place in places:
        far = place - (cuts[-1] if cuts else 0) >= int(rng.uniform(0.35, 0.6) * RATE_HZ)
        if far and place < last:
            cuts.append(place)
    return cuts


def _faded(samples: np.ndarray, fade_s: float = 0.008) -> np.ndarray:
    """Soften both ends of a piece, against clicks."""
    n = min(int(fade_s * RATE_HZ), len(samples) // 2)
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    faded = np.array(samples, dtype=np.float32)
    if n:
        faded[:n] *= ramp
        faded[-n:] *= ramp[::-1]
    return faded
