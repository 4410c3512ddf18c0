"""Mandarin from recordings: words and toned syllables of one person, joined in WORLD's frames.

```
text --pronunciation--> syllables --inventory--> units --time, pitch, join--> one sentence
```

Free engines speak Mandarin tones badly, so sentences are built from recordings of people: whole HSK words (inventory
``yuetan``) or toned syllables (``davinfifield``, ``chenwang``). Units are taken from every split of the recordings,
also "test", so a model trained on these sentences must not be scored on isolated words of the same person.

Known limits: sandhi does not reach inside recorded words; pitch is joined, not planned, so questions do not rise.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ
from model.errors import StepAudioError
from model.training.augment import FRAME_S, WorldFrames, shift_pitch, world_analyse, world_synthesise
from model.training.pronunciation import Syllable, dictionary_reading, phrases, pronounce
from model.training.recordings import Recordings, Row

DATASETS = {"yuetan": "cmn_hsk_words", "davinfifield": "pinyin_sounds", "chenwang": "cmn_syllables"}
# Where a syllable is borrowed when nothing in the inventory comes near; never from the person kept out of training.
LENDERS = ("davinfifield",)
SYLLABLE_S = 0.215
_CACHE_VERSION = "v1"
_UNIT_LEVEL = 0.08
_JOIN_FRAMES = 4
# Pitch contours around the speaker's mean (natural logarithm), for tones that no recording has.
_CONTOURS = {
    "1": (0.12, 0.12, 0.11),
    "2": (-0.12, -0.05, 0.2),
    "3": (-0.15, -0.32, -0.15),
    "4": (0.28, 0.08, -0.25),
    "5": (-0.08, -0.16),
}


@dataclass(frozen=True)
class Unit:
    """One recording that is about to be spoken.

    Attributes:
        text: Characters it covers.
        row: The recording.
        tone: Tone to impose on it, or None to leave its own.
        half_third: Cut the rise of a third tone that another syllable follows.
        neutral: Speak it short and low.
        final: Last unit of its phrase.
    """

    text: str
    row: Row
    tone: str | None = None
    half_third: bool = False
    neutral: bool = False
    final: bool = False


@dataclass(frozen=True)
class Inventory:
    """What one person recorded.

    Attributes:
        words: Recordings by written word; empty for a syllable inventory.
        syllables: Recordings by toned syllable; for words, the single characters by their first reading.
        f0_hz: Median pitch of the person.
    """

    words: Mapping[str, Row]
    syllables: Mapping[str, Row]
    f0_hz: float


def _inventory(rows: Sequence[Row]) -> Inventory:
    """Sort the recordings of one person."""
    words = {row.text: row for row in rows if row.text}
    syllables: dict[str, Row] = {}
    for row in rows:
        pinyin = str(row.more.get("pinyin") or "").replace("uu", "v").replace("ü", "v").replace("u:", "v")
        if not pinyin and row.text and len(row.text) == 1:
            pinyin = dictionary_reading(row.text)[0]
        if pinyin[-1:].isdigit():
            syllables.setdefault(re.sub(r"^([jqxy])v", r"\1u", pinyin), row)
    pitches = [float(row.more["f0_med"]) for row in rows if row.more.get("f0_med")]
    return Inventory(words, syllables, float(np.median(pitches)) if pitches else 230.0)


class Mandarin:
    """Speak Mandarin sentences from recordings.

    Args:
        recordings: The clips; inventories that are not among them are left out.
        cache_dir: Folder for analysed units (about 20 kB each), shared by processes; None keeps them in memory only.
    """

    def __init__(self, recordings: Recordings, cache_dir: str | os.PathLike[str] | None = None) -> None:
        self._recordings = recordings
        self._cache = None if cache_dir is None else Path(cache_dir) / f"mandarin-{_CACHE_VERSION}"
        if self._cache is not None:
            self._cache.mkdir(parents=True, exist_ok=True)
        self._inventories = {
            name: _inventory(rows) for name, dataset in DATASETS.items() if (rows := recordings.select(dataset=dataset))
        }
        self._frames: dict[str, np.ndarray] = {}

    @property
    def inventories(self) -> tuple[str, ...]:
        """Names of the inventories that can speak."""
        return tuple(self._inventories)

    def speak(
        self,
        text: str,
        inventory: str,
        rng: np.random.Generator,
        *,
        rate: float = 1.0,
        pitch: float = 1.0,
        formant: float = 1.0,
    ) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
        """Speak a text.

        Args:
            text: Chinese characters and punctuation.
            inventory: One of :attr:`inventories`.
            rng: Source of the small variations of time and pitch.
            rate: Factor on the speed, 1 is about 4.5 syllables a second.
            pitch: Factor on the pitch.
            formant: Factor on the formants.

        Returns:
            Float32 samples [time] at 16 kHz, and ``(characters, start_s, end_s)`` of each unit: whole words for the
            word inventory, single characters for syllables.

        Raises:
            StepAudioError: When a character or the whole inventory is missing.
        """
        plan = [self._plan(phrase, inventory) for phrase in phrases(text)]
        track = _Track()
        track.pause(float(rng.uniform(0.03, 0.15)))
        n_units = sum(len(units) for units in plan)
        done = 0
        for number, units in enumerate(plan):
            if number:
                track.pause(float(rng.uniform(0.10, 0.25)) / rate)
            for unit in units:
                frames = self._shape(unit, inventory, rate * float(rng.uniform(0.93, 1.08)))
                slope = 0.10 * (0.5 - done / max(1, n_units - 1)) + float(rng.normal(0.0, 0.015))
                track.add(unit.text, shift_pitch(frames, pitch * float(np.exp(slope))))
                done += 1
        track.pause(float(rng.uniform(0.05, 0.18)))
        return track.render(formant), track.times

    def _plan(self, phrase: str, inventory: str) -> list[Unit]:
        """Choose the recordings of one phrase."""
        known = self._known(inventory)
        units: list[Unit] = []
        for word in pronounce(phrase):
            rest = word
            while rest:
                length = self._longest(rest, known)
                if length > 1:
                    text = "".join(s.character for s in rest[:length])
                    units.append(Unit(text, known.words[text]))
                else:
                    units.append(self._syllable(rest[0], known, inventory))
                rest = rest[length:]
        units[-1] = replace(units[-1], final=True, half_third=False)
        return units

    @staticmethod
    def _longest(syllables: Sequence[Syllable], known: Inventory) -> int:
        """Return how many characters the longest recorded word at this place has, at least 1.

        A word whose own first reading differs from the one wanted is still taken: its speaker knew the word.
        """
        text = "".join(s.character for s in syllables)
        return next((length for length in range(len(text), 1, -1) if text[:length] in known.words), 1)

    def _syllable(self, syllable: Syllable, known: Inventory, inventory: str) -> Unit:
        """Find one syllable: as written, as a homophone, with another tone, or borrowed from another person."""
        wanted = syllable.pinyin
        base, tone = wanted[:-1], wanted[-1]
        flags = {"half_third": tone == "3", "neutral": tone == "5"}
        own = known.words.get(syllable.character)
        if own is not None and dictionary_reading(syllable.character)[0] == wanted:
            return Unit(syllable.character, own, **flags)
        for source in (known, *(self._inventories[name] for name in LENDERS if name in self._inventories)):
            if wanted in source.syllables:
                return Unit(syllable.character, source.syllables[wanted], **flags)
            for other in ("1", "4", "2", "3", "5"):
                row = source.syllables.get(base + other)
                if row is not None:
                    return Unit(syllable.character, row, tone=tone, neutral=tone == "5")
        if own is not None:
            return Unit(syllable.character, own, **flags)
        raise StepAudioError(
            f"speak {syllable.character!r} with the inventory {inventory!r}",
            found=f"no recording of {wanted!r} with any tone",
            expected=f"one of {len(known.syllables)} recorded syllables",
            todo="Leave this sentence out or write it with another character.",
        )

    def _known(self, inventory: str) -> Inventory:
        """Return an inventory that is present."""
        if inventory in self._inventories:
            return self._inventories[inventory]
        raise StepAudioError(
            f"speak Mandarin with the inventory {inventory!r}",
            found=f"inventories {list(self._inventories)}",
            expected=f"the recordings {DATASETS.get(inventory, '(unknown inventory)')!r}",
            todo="Pass --recordings with a folder that holds them, or choose another voice.",
        )

    def _shape(self, unit: Unit, inventory: str, rate: float) -> WorldFrames:
        """Give one unit its length, tone and pitch level."""
        frames = self._analysed(unit.row)
        if unit.half_third:
            frames = frames.take(np.arange(max(2, round(0.65 * len(frames)))))
        mean_hz = self._inventories[inventory].f0_hz
        speaker = self._inventories.get(str(unit.row.speaker))
        if unit.tone is not None:
            frames = _impose_tone(frames, unit.tone, mean_hz)
        elif speaker is not None and speaker.f0_hz != mean_hz:
            frames = shift_pitch(frames, mean_hz / speaker.f0_hz)
        if unit.neutral and unit.tone is None:
            frames = shift_pitch(frames, 0.92, 0.6)
        return frames.stretched(round(_seconds(unit, frames.duration_s) / rate / FRAME_S))

    def _analysed(self, row: Row) -> WorldFrames:
        """Return the frames of a recording: from memory, from the cache folder, or analysed now."""
        packed = self._frames.get(row.id)
        if packed is None:
            name = hashlib.sha1(row.id.encode()).hexdigest()[:16] + ".npy"
            path = None if self._cache is None else self._cache / name
            packed = _load_unit(path)
            if packed is None:
                packed = _pack(world_analyse(trim(self._recordings.load(row).samples)))
                _save_unit(path, packed)
            self._frames[row.id] = packed
        return _unpack(packed)


def _seconds(unit: Unit, recorded_s: float) -> float:
    """Choose the length of a unit at rate 1; isolated words are spoken far slower than in a sentence."""
    if unit.neutral:
        return min(recorded_s, 0.65 * SYLLABLE_S * (1.2 if unit.final else 1.0))
    target = SYLLABLE_S * len(unit.text) * (1.2 if unit.final else 1.0) + 0.06 * (len(unit.text) > 1)
    return min(recorded_s, target)


def _impose_tone(frames: WorldFrames, tone: str, mean_hz: float) -> WorldFrames:
    """Replace the pitch contour by the usual one of a tone."""
    voiced = np.flatnonzero(frames.f0 > 0)
    if not len(voiced):
        return frames
    knots = _CONTOURS[tone]
    place = np.linspace(0, len(knots) - 1, len(voiced))
    f0 = frames.f0.copy()
    f0[voiced] = mean_hz * np.exp(np.interp(place, np.arange(len(knots)), knots))
    return frames.with_f0(f0)


class _Track:
    """A sentence under construction: frames in a row, pauses, and where each unit lies."""

    def __init__(self) -> None:
        self._parts: list[WorldFrames | int] = []
        self._length = 0
        self.times: list[tuple[str, float, float]] = []

    def pause(self, seconds: float) -> None:
        """Add silence."""
        n_frames = max(1, round(seconds / FRAME_S))
        self._parts.append(n_frames)
        self._length += n_frames

    def add(self, text: str, frames: WorldFrames) -> None:
        """Add a unit; its first 20 ms grow out of the unit before."""
        before = self._parts[-1] if self._parts else 0
        if isinstance(before, WorldFrames):
            n_join = min(_JOIN_FRAMES, len(frames))
            weight = np.linspace(0.5, 0.0, n_join, dtype=np.float32)[:, None]
            envelope = frames.envelope.copy()
            envelope[:n_join] = envelope[:n_join] * (1 - weight) + before.envelope[-1:] * weight
            frames = replace(frames, envelope=envelope)
        self.times.append((text, self._length * FRAME_S, (self._length + len(frames)) * FRAME_S))
        self._parts.append(frames)
        self._length += len(frames)

    def render(self, formant: float) -> np.ndarray:
        """Synthesise everything and silence the pauses, float32 [time] at 16 kHz."""
        spoken = [part for part in self._parts if isinstance(part, WorldFrames)]
        filler, parts, open_ = spoken[0], [], []
        for part in self._parts:
            if isinstance(part, WorldFrames):
                filler = part
                parts.append(part)
                open_.append(np.ones(len(part), np.float32))
            else:
                # A pause repeats the last frame without pitch; the gate below makes it silent.
                frame = filler.take(np.full(part, len(filler) - 1))
                parts.append(frame.with_f0(np.zeros(part)))
                open_.append(np.zeros(part, np.float32))
        fields = ("f0", "envelope", "aperiodicity")
        joined = WorldFrames(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))
        samples = world_synthesise(joined, formant=formant)
        gate = np.repeat(np.concatenate(open_), round(FRAME_S * INPUT_SAMPLE_RATE_HZ))
        samples = samples[: len(gate)]
        return samples * np.convolve(gate, np.full(161, 1 / 161, np.float32), "same")[: len(samples)]


def trim(samples: np.ndarray) -> np.ndarray:
    """Cut the silence around one recorded word and bring it to a common level; 15 ms before and 25 ms after stay."""
    sharp = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    n_blocks = max(1, len(sharp) // 80)
    energy = np.sqrt(np.square(sharp[: n_blocks * 80]).reshape(n_blocks, -1).mean(axis=1))
    energy = np.convolve(energy, np.full(5, 0.2), "same")
    threshold = max(0.045 * energy.max(), min(2.5 * float(np.percentile(energy, 12)), 0.2 * energy.max()))
    loud = np.flatnonzero(energy > threshold)
    if len(loud):
        samples = samples[max(0, loud[0] * 80 - 240) : (loud[-1] + 1) * 80 + 400]
    level = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    return samples * np.float32(_UNIT_LEVEL / max(level, 1e-5))


def _pack(frames: WorldFrames) -> np.ndarray:
    """Store frames as one float16 array [frame, 1 + envelope + bands]."""
    return np.concatenate([frames.f0[:, None], frames.envelope, frames.aperiodicity], axis=1).astype(np.float16)


def _unpack(packed: np.ndarray) -> WorldFrames:
    """Reverse :func:`_pack`."""
    values = packed.astype(np.float32)
    n_bands = 1  # WORLD codes the noise of 16 kHz sound in one band
    return WorldFrames(values[:, 0], values[:, 1:-n_bands], values[:, -n_bands:])


def _load_unit(path: Path | None) -> np.ndarray | None:
    """Read an analysed unit; a torn file counts as absent."""
    try:
        return None if path is None else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _save_unit(path: Path | None, packed: np.ndarray) -> None:
    """Write an analysed unit in one step, so that other processes never read half of it."""
    if path is None:
        return
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as file:
        np.save(file, packed)
    draft.replace(path)
