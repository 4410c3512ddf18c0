"""Real recordings on disk: a manifest of clips, and the clips themselves, Opus files inside one zip per data set.

```
DIR/manifest.jsonl     one line a clip: id, dataset, split, dur, lang, text, speaker, licence, zip, member, ...
DIR/librispeech.zip    train/xyz.opus ...
```

Training works without recordings; what needs them says so. No clip is ever copied into this project.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.errors import StepAudioError

MANIFEST = "manifest.jsonl"
SOUND_SETS = ("esc", "sc_noise", "sonicpi")
# Laughing, speaking and music would be a second message in the clip rather than a background.
NOT_BACKGROUND = frozenset(
    {"laughing", "crying_baby", "coughing", "sneezing", "music loop", "cineboom", "cat imitation"}
)


@dataclass(frozen=True)
class Row:
    """One clip of the manifest.

    Attributes:
        id: Unique id, ``dataset/name``.
        dataset: Name of the set.
        split: "train", "dev" or "test".
        duration_s: Length in seconds.
        language: "en", "zh" or None for sounds.
        text: What is said, or None.
        speaker: Speaker id, or None.
        event: What sounds, for sound sets.
        archive: Name of the zip beside the manifest.
        member: Path inside the zip.
        more: Every other field of the manifest line (gender, emotion, slots, pinyin, text_src, license, ...).
    """

    id: str
    dataset: str
    split: str
    duration_s: float
    language: str | None
    text: str | None
    speaker: str | None
    event: str | None
    archive: str
    member: str
    more: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Row:
        """Build a row from one manifest line."""
        return cls(
            line["id"], line["dataset"], line["split"], float(line["dur"]), line.get("lang"), line.get("text"),
            line.get("speaker"), line.get("event"), line["zip"], line["member"], dict(line),
        )  # fmt: skip


class Recordings:
    """The clips of one folder.

    Zip handles stay open, one set of them per process, so a fork of a data loader gets its own.

    Args:
        folder: Folder with ``manifest.jsonl`` and the zips; None is an empty collection.

    Raises:
        StepAudioError: When a folder is given but holds no manifest.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.rows: tuple[Row, ...] = () if self.folder is None else tuple(_read_manifest(self.folder))
        self._archives: dict[tuple[int, str], zipfile.ZipFile] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind when a worker process receives a copy."""
        return {**self.__dict__, "_archives": {}}

    def select(
        self,
        *,
        dataset: str | Collection[str] | None = None,
        split: str | Collection[str] | None = None,
        language: str | None = None,
        with_text: bool = False,
        max_seconds: float | None = None,
    ) -> tuple[Row, ...]:
        """Return the rows that pass every given filter, in the manifest's order."""
        datasets, splits = _names(dataset), _names(split)
        return tuple(
            row
            for row in self.rows
            if (datasets is None or row.dataset in datasets)
            and (splits is None or row.split in splits)
            and (language is None or row.language == language)
            and (not with_text or bool(row.text))
            and (max_seconds is None or row.duration_s <= max_seconds)
        )

    def sounds(self, split: str = "train", *, background_only: bool = False) -> tuple[Row, ...]:
        """Return the rows of sound events and noises; ``background_only`` leaves out voices and music."""
        rows = self.select(dataset=SOUND_SETS, split=split)
        return tuple(row for row in rows if not background_only or row.event not in NOT_BACKGROUND)

    def noises(self, split: str = "train", *, limit: int | None = None, seed: int = 0) -> tuple[np.ndarray, ...]:
        """Load background clips for :func:`model.training.augment.augment`.

        Args:
            split: Which split; take noises of "test" only for testing.
            limit: At most this many, drawn with ``seed``; None is all of them.
            seed: Seed of that draw.

        Returns:
            Float32 arrays [time] at 16 kHz; empty without recordings.
        """
        rows = list(self.sounds(split, background_only=True))
        if limit is not None and limit < len(rows):
            rows = [rows[int(i)] for i in sorted(np.random.default_rng(seed).choice(len(rows), limit, replace=False))]
        return tuple(self.load(row).samples for row in rows)

    def load(self, row: Row) -> Waveform:
        """Decode one clip at 16 kHz.

        Raises:
            StepAudioError: When the zip or its member is missing or does not decode.
        """
        import soundfile

        try:
            data = self._archive(row.archive).read(row.member)
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except (OSError, KeyError, zipfile.BadZipFile, soundfile.LibsndfileError) as error:
            raise StepAudioError(
                f"read the recording {row.id!r}",
                found=f"{type(error).__name__}: {error}",
                expected=f"an Opus file {row.member!r} inside {row.archive!r}",
                todo="Check that the zip is whole and that libsndfile is 1.0.29 or newer.",
            ) from error
        waveform = Waveform(np.ascontiguousarray(samples.mean(axis=1)), int(rate))
        return waveform if rate == INPUT_SAMPLE_RATE_HZ else waveform.resample(INPUT_SAMPLE_RATE_HZ)

    def _archive(self, name: str) -> zipfile.ZipFile:
        """Return the open zip of this process."""
        key = (os.getpid(), name)
        if key not in self._archives:
            assert self.folder is not None
            self._archives[key] = zipfile.ZipFile(self.folder / name)
        return self._archives[key]


def _names(value: str | Collection[str] | None) -> frozenset[str] | None:
    """Turn one name or several into a set; None stays None."""
    if value is None:
        return None
    return frozenset([value] if isinstance(value, str) else value)


def _read_manifest(folder: Path) -> Iterator[Row]:
    """Yield the rows of a manifest, saying which line is broken when one is."""
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise StepAudioError(
            f"open the recordings in {str(folder)!r}",
            found=f"{type(error).__name__}: {error}",
            expected=f"a file {MANIFEST} beside the zips it names",
            todo="Pass the right --recordings folder, or leave the option out to train on synthetic sound alone.",
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            yield Row.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise StepAudioError(
                f"read line {number} of {str(path)!r}",
                found=f"{type(error).__name__}: {error}",
                expected="one JSON object with id, dataset, split, dur, zip and member",
                todo="Repair or remove that line.",
            ) from error
