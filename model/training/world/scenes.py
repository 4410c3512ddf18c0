"""Where something was said and what else sounds: speech, single sounds, a background and a room, with exact times.

    before           speech              after
    [ knock ] 0.2 s [ Please open ... ] 0.2 s [ knock ]        single sounds, loud and near
    ~~~~~~~~~~~~~~~~ rain ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~        background of the place, at a signal-to-noise ratio
    \\_____________________ room ______________________/        one reverberation for everything, or a telephone

Times are those of the direct sound; a room only adds behind it. Sounds come from recordings; only halls, telephones and
music (`tunes`) need none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from model.audio import Waveform
from model.training import augment
from model.training.augment import RATE_HZ
from model.training.recordings import Recordings, Row

OPEN, TELEPHONE = "open", "telephone"
VOCAL = {
    "coughing": "cough", "sneezing": "sneeze", "laughing": "laughter", "crying_baby": "crying",
    "breathing": "breathing", "snoring": "snoring",
}  # fmt: skip
"""Event of the recordings -> label of the sound a person makes besides talking."""
_SINGLE_SET = "esc"
MIN_SOUND_S, MAX_SOUND_S = 0.25, 1.8
_GAP_S = (0.12, 0.35)
_PEAK = 0.7
Position = Literal["before", "after", "during"]


@dataclass(frozen=True)
class Place:
    """One line of `scenes.tsv`."""

    name: str
    room: str
    backgrounds: tuple[str, ...]
    snr_db: tuple[float, float]
    sounds: tuple[str, ...]

    @property
    def reverberation_s(self) -> tuple[float, float] | None:
        """Span of reverberation times, or None where there is no room."""
        return None if self.room in (OPEN, TELEPHONE) else _span(self.room)


def _span(text: str) -> tuple[float, float]:
    low, high = map(float, text.split(".."))
    return low, high


@cache
def places() -> dict[str, Place]:
    """All places by name, in the order of the table."""
    made = {}
    for line in (Path(__file__).parent / "scenes.tsv").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, room, beds, snr, sounds = line.split("\t")
            made[name] = Place(name, room, _names(beds), _span(snr), _names(sounds))
    return made


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


@dataclass(frozen=True)
class SoundEvent:
    """One single sound of a scene: what it is, where it comes from, and when."""

    label: str
    recording: str
    """Id of the recording."""
    position: Position = "after"
    level_db: float = 0.0
    """Peak against the peak of the speech."""

    def __post_init__(self) -> None:
        """Refuse a position nobody knows."""
        if self.position not in ("before", "after", "during"):
            raise ValueError(f"Could not place {self.label!r}: found position {self.position!r}.")


@dataclass(frozen=True)
class Scene:
    """What surrounds a sentence."""

    place: str | None = None
    background: str | None = None
    """Id of a recording that lies under everything."""
    snr_db: float = 12.0
    events: tuple[SoundEvent, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a place that the table does not know, and one without the sound it is known by."""
        if self.place is not None and self.place not in places():
            raise ValueError(f"Could not build a scene: no place {self.place!r}; the table has {', '.join(places())}.")
        if self.place is not None and places()[self.place].backgrounds and self.background is None:
            raise ValueError(f"Could not build a scene: {self.place!r} needs a background recording to be heard.")


@dataclass(frozen=True)
class Heard:
    """A sound and when it is heard."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Mixed:
    """A scene as sound.

    `speech` and `events` say when each of them sounds; the waveform is at 16 kHz, peak 0.7.
    """

    waveform: Waveform
    speech: Heard
    events: tuple[Heard, ...]


Load = Callable[[str], np.ndarray]
"""Id of a recording -> its samples at 16 kHz."""


def mix(speech: Waveform, scene: Scene, load: Load, rng: np.random.Generator) -> Mixed:
    """Put a sentence into a scene.

    Args:
        speech: Dry speech at 16 kHz.
        scene: What surrounds it.
        load: Reads a recording.
        rng: Source of gaps, of places inside recordings and of the room.
    """
    samples, spoken, events = _lined_up(augment.to_peak(speech.samples), scene.events, load, rng)
    place = places().get(scene.place or "")
    if place and place.reverberation_s:
        samples = augment.reverberate(samples, _room(float(rng.uniform(*place.reverberation_s)), rng))
    if scene.background is not None:
        samples = augment.mix_noise(samples, _audible(load(scene.background)), scene.snr_db, rng)
    if place and place.room == TELEPHONE:
        samples = augment.telephone(samples)
    return Mixed(Waveform(augment.to_peak(samples, _PEAK), RATE_HZ), spoken, tuple(events))


def _lined_up(
    speech: np.ndarray, wanted: Sequence[SoundEvent], load: Load, rng: np.random.Generator
) -> tuple[np.ndarray, Heard, list[Heard]]:
    """Place the single sounds around and under the speech."""
    sounds = [(event, _near(load(event.recording), event.level_db)) for event in wanted]
    line: list[tuple[str, np.ndarray, bool]] = []
    for position in ("before", "speech", "after"):
        if position == "speech":
            line.append(("speech", speech, True))
        line += [(event.label, sound, False) for event, sound in sounds if event.position == position]
    at, placed, heard = 0, [], []
    for number, (label, sound, is_speech) in enumerate(line):
        at += int(rng.uniform(*_GAP_S) * RATE_HZ) if number else 0
        placed.append((at, sound))
        heard.append((Heard(label, at / RATE_HZ, (at + len(sound)) / RATE_HZ), is_speech))
        at += len(sound)
    spoken = next(h for h, is_speech in heard if is_speech)
    events = [h for h, is_speech in heard if not is_speech]
    for event, sound in sounds:
        if event.position == "during":
            start = int(spoken.start_s * RATE_HZ) + int(rng.integers(max(1, len(speech) - len(sound))))
            sound = sound[: at - start]
            placed.append((start, sound))
            events.append(Heard(event.label, start / RATE_HZ, (start + len(sound)) / RATE_HZ))
    samples = np.zeros(at, np.float32)
    for start, sound in placed:
        samples[start : start + len(sound)] += sound
    return samples, spoken, sorted(events, key=lambda h: h.start_s)


def _near(samples: np.ndarray, level_db: float) -> np.ndarray:
    """Cut a recording to its first clear sound, at a peak against the speech's."""
    return augment.to_peak(cut_out(samples), _PEAK * 10 ** (level_db / 20))


def cut_out(samples: np.ndarray) -> np.ndarray:
    """The loudest stretch of a recording, from where it begins to where it has faded, at most `MAX_SOUND_S`.

    Returns:
        Float32 [time], both ends faded over 10 ms.
    """
    n_blocks = max(1, len(samples) // 160)
    power = np.square(samples[: n_blocks * 160]).reshape(n_blocks, -1).mean(axis=1)
    loud = power > power.max() * 10**-2.5
    first = int(np.argmax(power))
    while first > 0 and loud[max(0, first - 10) : first].any() and first * 160 > np.argmax(power) * 160 - RATE_HZ // 2:
        first -= 1
    last, limit = first, first + int(MAX_SOUND_S * 100)
    # A sound may pause for half a second (steps, knocks, a dog that barks twice) and go on.
    while last < min(n_blocks, limit) and loud[last : last + 55].any():
        last += 1
    last = min(n_blocks, max(last, first + int(MIN_SOUND_S * 100)))
    cut = np.array(samples[first * 160 : last * 160], dtype=np.float32)
    ramp = np.linspace(0, 1, min(160, max(1, len(cut) // 4)), dtype=np.float32)
    cut[: len(ramp)] *= ramp
    cut[-len(ramp) :] *= ramp[::-1]
    return cut


def _audible(samples: np.ndarray) -> np.ndarray:
    """A background without its silent stretches: a place must be heard all the time."""
    n_blocks = max(1, len(samples) // 1600)
    blocks = samples[: n_blocks * 1600].reshape(n_blocks, -1)
    power = np.square(blocks).mean(axis=1)
    return np.ascontiguousarray(blocks[power > power.max() * 10**-3].reshape(-1))


def _room(reverberation_s: float, rng: np.random.Generator) -> np.ndarray:
    """A room's response; long ones are heard from further away."""
    response = augment.room_response(reverberation_s, rng)
    tail = np.sqrt(np.sum(np.square(response[1:])))
    wanted = float(np.clip(0.5 * reverberation_s, 0.2, 0.9))
    response[1:] *= wanted / max(float(tail), 1e-9)
    return response


# --- drawing scenes from recordings -------------------------------------------------------------------------------


class SoundLibrary:
    """The sound recordings of some splits, by what sounds.

    Args:
        recordings: All recordings.
        splits: "train", or ("dev", "test") for what training never hears.
    """

    def __init__(self, recordings: Recordings, splits: Sequence[str]) -> None:
        self.rows: dict[str, list[Row]] = {}
        for split in splits:
            for row in recordings.sounds(split):
                self.rows.setdefault(str(row.event), []).append(row)

    def events(self) -> tuple[str, ...]:
        """Single sounds that no person makes."""
        return tuple(e for e, rows in self.rows.items() if e not in VOCAL and rows[0].dataset == _SINGLE_SET)

    def vocals(self) -> tuple[str, ...]:
        """Labels of the sounds a person makes."""
        return tuple(label for event, label in VOCAL.items() if event in self.rows)

    def places(self) -> tuple[str, ...]:
        """Places that can be heard with these recordings."""
        return tuple(
            p.name for p in places().values() if not p.backgrounds or any(b in self.rows for b in p.backgrounds)
        )

    def draw(self, event: str, rng: np.random.Generator) -> Row:
        """One recording of an event, or of the vocal label."""
        names = [e for e, label in VOCAL.items() if label == event] or [event]
        rows = self.rows[names[0]]
        return rows[int(rng.integers(len(rows)))]

    def place_scene(self, name: str, rng: np.random.Generator) -> Scene:
        """A scene at a place: a background it is known by, at times one of its single sounds."""
        place = places()[name]
        beds = [b for b in place.backgrounds if b in self.rows]
        background = self.draw(beds[int(rng.integers(len(beds)))], rng).id if beds else None
        singles = [s for s in place.sounds if s in self.rows]
        events: tuple[SoundEvent, ...] = ()
        if singles and rng.random() < 0.5:
            events = (self.single(singles[int(rng.integers(len(singles)))], rng),)
        return Scene(name, background, float(rng.uniform(*place.snr_db)), events)

    def single(self, event: str, rng: np.random.Generator, position: Position | None = None) -> SoundEvent:
        """One single sound, before, after or (at times) under the speech; people never speak while they cough."""
        choices: tuple[Position, ...] = (
            ("before", "after") if event in VOCAL.values() else ("before", "after", "during")
        )
        drawn = position or choices[int(rng.integers(len(choices)))]
        level = float(rng.uniform(-3, 3) if drawn == "during" else rng.uniform(-6, 0))
        return SoundEvent(event, self.draw(event, rng).id, drawn, level)
