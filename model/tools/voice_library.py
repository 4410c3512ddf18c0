"""A library of voices: recordings with descriptions and transcripts, found by words and by filters, in SQLite FTS5.

    folder/voices.db       one row per voice, and the index over its words
    folder/recordings/     <id>.flac, mono, 24 kHz

A library belongs to whoever names its folder: one per user for what users add, one that ships with a model. Users' ids
come from the sound itself, so that the same recording added twice is one voice. Words in a library are somebody's and
stay data; sounds are read with limits, and stored as FLAC that was written here, never as the bytes that came.

    voices.tsv in a model's folder:  id  name  gender  age  style  language  description  描述  transcript  file
"""

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from model.audio import OUTPUT_SAMPLE_RATE_HZ, Waveform, load_waveform, quality_note, save_waveform
from model.audio_file import Source
from model.errors import ToolError
from model.tools.base import one_line
from model.tools.knowledge import read_table
from model.tools.text_index import TextIndex, terms

GENDERS = ("female", "male")
AGES = ("child", "young", "adult", "elderly")
MIN_SECONDS, MAX_SECONDS = 1.0, 30.0
MAX_VOICES = 100
"""Voices one user may add."""
_LIMITS = {"name": 60, "style": 100, "language": 20, "description": 500, "description_zh": 500, "transcript": 1000}
_SPOKEN_AS = {
    "female": "female woman 女 女声 女性 女人 女生",
    "male": "male man 男 男声 男性 男人 男生",
    "child": "child kid 儿童 小孩 孩子 童声",
    "young": "young youth 年轻 青年",
    "adult": "adult grown-up 成年 成人",
    "elderly": "old elderly senior 老年 老人",
}
"""Words that find a gender or an age."""


@dataclass(frozen=True)
class VoiceEntry:
    """One voice, by its words; its sound is asked for with `VoiceLibrary.recording`."""

    id: str
    """Unique in its library; small letters, digits and dashes."""
    name: str
    gender: str = ""
    """One of `GENDERS`, or empty where nobody knows."""
    age: str = ""
    """One of `AGES`, or empty."""
    style: str = ""
    """A few words: `calm`, `news`, `温柔`."""
    language: str = ""
    description: str = ""
    description_zh: str = ""
    transcript: str = ""
    """What the recording says."""
    file: str = ""
    """Name of its sound inside the library's recordings."""

    def __post_init__(self) -> None:
        """Refuse ids that are no plain names, unknown genders and ages, and words that are too long."""
        problem = self._problem()
        if problem:
            raise ToolError(
                "describe a voice",
                found=problem,
                expected=f"a name, a gender of {GENDERS} and an age of {AGES} or none, and a short description",
                todo="Correct that field",
            )

    def _problem(self) -> str | None:
        if not self.id or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in self.id):
            return f"the id {self.id!r:.60}"
        if not self.name.strip():
            return "no name"
        if self.gender not in ("", *GENDERS) or self.age not in ("", *AGES):
            return f"gender {self.gender!r:.30} and age {self.age!r:.30}"
        if self.file and (Path(self.file).name != self.file or self.file.startswith(".")):
            return f"the file {self.file!r:.60}"
        long = [name for name, limit in _LIMITS.items() if len(getattr(self, name)) > limit]
        return f"more than {_LIMITS[long[0]]} characters of {long[0]}" if long else None

    def words(self) -> tuple[str, ...]:
        """Everything it is found by."""
        spoken = (_SPOKEN_AS.get(self.gender, ""), _SPOKEN_AS.get(self.age, ""))
        return (self.name, self.style, self.description, self.description_zh, self.transcript, *spoken)

    def tags(self) -> tuple[str, ...]:
        """What filters insist on."""
        return _tags(self.gender, self.age, self.style)


@dataclass(frozen=True)
class VoiceHit:
    """A voice that was found."""

    entry: VoiceEntry
    coverage: float
    """Share of the words asked for that its words have, 0 to 1; 0 where no words were asked for."""


def _tags(gender: str, age: str, style: str) -> tuple[str, ...]:
    styles = (f"style{term}" for term in terms(style))
    return (*filter(None, (gender, age)), *styles)


_COLUMNS = tuple(field.name for field in fields(VoiceEntry))


class VoiceLibrary:
    """The voices of one folder; several threads may use it."""

    def __init__(self, folder: str | Path | None = None, *, sounds: str | Path | None = None) -> None:
        """Open a library, or start one.

        Args:
            folder: Where it lies, made if need be and readable by its owner only; None keeps it in memory.
            sounds: Where sounds lie that are only read; None where users may add theirs.

        Raises:
            ToolError: If the folder cannot be used or holds something else.
        """
        self.folder = None if folder is None else Path(folder)
        self._sounds = Path(sounds) if sounds else self.folder / "recordings" if self.folder else None
        self._may_add = not sounds and self.folder is not None
        self._lock = threading.RLock()
        with self._using():
            if self._may_add:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._sounds.mkdir(mode=0o700, exist_ok=True)
            path = ":memory:" if self.folder is None else self.folder / "voices.db"
            self._db = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
            columns = ", ".join(f"{name} TEXT NOT NULL" for name in _COLUMNS[1:])
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS voices (key INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, {columns})"
            )
            self._index = TextIndex(self._db, "voice_words")
            self._db.commit()

    @classmethod
    def from_table(cls, folder: str | Path) -> "VoiceLibrary":
        """Read the voices that ship with a model: `voices.tsv` and, beside it, the sounds it names.

        Raises:
            ToolError: If the table is damaged, or names a sound that is not there.
        """
        folder = Path(folder)
        library = cls(sounds=folder)
        for row in read_table(folder / "voices.tsv", len(_COLUMNS)):
            entry = VoiceEntry(*row)
            if not (folder / entry.file).is_file():
                found = f"no file {entry.file!r} for the voice {entry.id!r}"
                raise ToolError("read voices.tsv", found=found, expected="one beside the table", todo="Add it")
            library.put(entry)
        return library

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Keep other threads out, and turn what a disk or a database says into a sentence."""
        with self._lock:
            try:
                yield
            except (OSError, sqlite3.Error) as error:
                raise ToolError(
                    f"use the voice library in {str(self.folder)!r}",
                    found=f"this problem: {error}",
                    expected="a folder to write in, with a library or nothing in it",
                    todo="Free some space or choose another folder; a damaged voices.db can be removed",
                ) from error

    def __len__(self) -> int:
        with self._using():
            return self._db.execute("SELECT count(*) FROM voices").fetchone()[0]

    # --- what users add ---------------------------------------------------------------------------------

    def add(
        self,
        sound: Source | Waveform,
        name: str,
        *,
        consent: bool,
        gender: str = "",
        age: str = "",
        style: str = "",
        language: str = "",
        description: str = "",
        description_zh: str = "",
        transcript: str = "",
    ) -> VoiceEntry:
        """Add a recording, or describe anew one that is there.

        Args:
            sound: Any sound file, its bytes, or a Waveform; 1 to 30 s in which one person speaks.
            name: What to call the voice.
            consent: Whether whoever speaks agreed to be imitated; without it nothing is stored.
            gender: One of `GENDERS`, if known.
            age: One of `AGES`, if known.
            style: A few words.
            language: Such as "en".
            description: What the voice is like.
            description_zh: The same in Chinese.
            transcript: What is said.

        Raises:
            AudioError: If the sound cannot be read, or is too short or too long.
            ToolError: If it is silent, a field is wrong, the library is full, or nobody consented.
        """
        if not self._may_add:
            found, expected = "a library that is only read", "one that was opened as VoiceLibrary(folder)"
            raise ToolError("add a voice", found=found, expected=expected, todo="Add it to the user's own library")
        waveform = sound if isinstance(sound, Waveform) else None
        if waveform is None:
            waveform = load_waveform(sound, sample_rate_hz=OUTPUT_SAMPLE_RATE_HZ, max_seconds=MAX_SECONDS)
        waveform = waveform.resample(OUTPUT_SAMPLE_RATE_HZ)
        _check_sound(waveform, consent)
        voice_id = "u-" + hashlib.sha256(waveform.samples.tobytes()).hexdigest()[:16]
        written = {"name": name, "style": style, "language": language, "transcript": transcript}
        written |= {"description": description, "description_zh": description_zh}
        clean = {key: one_line(value, _LIMITS[key]) for key, value in written.items()}
        entry = VoiceEntry(id=voice_id, gender=gender, age=age, file=f"{voice_id}.flac", **clean)
        with self._using():
            if self.get(voice_id) is None and len(self) >= MAX_VOICES:
                raise _full()
            save_waveform(self._sounds / entry.file, waveform)
            return self.put(entry)

    def put(self, entry: VoiceEntry) -> VoiceEntry:
        """Write the words of a voice; its sound is where its `file` says."""
        marks = ", ".join("?" * len(_COLUMNS))
        kept = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
        with self._using(), self._db:
            self._db.execute(
                f"INSERT INTO voices ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {kept}",
                tuple(getattr(entry, name) for name in _COLUMNS),
            )
            key = self._db.execute("SELECT key FROM voices WHERE id = ?", (entry.id,)).fetchone()[0]
            self._index.add(key, entry.words(), entry.tags())
        return entry

    def remove(self, voice_id: str) -> bool:
        """Forget a voice and its recording; whether it was there."""
        with self._using(), self._db:
            row = self._db.execute("SELECT key, file FROM voices WHERE id = ?", (voice_id,)).fetchone()
            if row is None:
                return False
            self._index.remove(row[0])
            self._db.execute("DELETE FROM voices WHERE key = ?", (row[0],))
            if self._may_add and row[1]:
                (self._sounds / row[1]).unlink(missing_ok=True)
        return True

    # --- what is asked ----------------------------------------------------------------------------------

    def entries(self) -> list[VoiceEntry]:
        """Return all voices, the oldest first."""
        with self._using():
            rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM voices ORDER BY key").fetchall()
        return [VoiceEntry(*row) for row in rows]

    def get(self, voice_id: str) -> VoiceEntry | None:
        """Return one voice; None when it is not here."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM voices WHERE id = ?"
        with self._using():
            row = self._db.execute(query, (voice_id,)).fetchone()
        return VoiceEntry(*row) if row else None

    def recording(self, voice_id: str) -> Waveform:
        """Read the sound of a voice, 24 kHz mono.

        Raises:
            ToolError: If there is no such voice here.
            AudioError: If its file is missing or damaged.
        """
        entry = self.get(voice_id)
        if entry is None or self._sounds is None:
            raise ToolError(
                f"read the voice {voice_id!r:.60}",
                found="no such voice in this library",
                expected="an id that a search gave",
                todo="Search again: it may have been removed",
            )
        return load_waveform(
            self._sounds / entry.file, sample_rate_hz=OUTPUT_SAMPLE_RATE_HZ, max_seconds=2 * MAX_SECONDS
        )

    def search(
        self, words: str, *, gender: str = "", age: str = "", style: str = "", limit: int = 5, min_coverage: float = 0.0
    ) -> list[VoiceHit]:
        """Find voices by words, best first; of those that are equally good, the oldest first.

        Args:
            words: What the voice is like, or what it says; nothing finds every voice that passes the filters.
            gender: Only voices of this gender.
            age: Only voices of this age.
            style: Only voices that have all these words in their style.
            limit: At most so many.
            min_coverage: Voices whose words have a smaller share of these are left out.
        """
        tags = _tags(gender, age, style)
        chosen = f"SELECT {', '.join(_COLUMNS)} FROM voices"
        asked = bool(terms(words))
        with self._using():
            if not tags and not asked:
                rows = self._db.execute(f"{chosen} ORDER BY key LIMIT ?", (limit,)).fetchall()
                return [VoiceHit(VoiceEntry(*row), 0.0) for row in rows]
            matches = self._index.search(words, limit=limit, tags=tags, min_coverage=min_coverage)
            rows = [self._db.execute(f"{chosen} WHERE key = ?", (match.key,)).fetchone() for match in matches]
        pairs = zip(rows, matches, strict=True)
        return [VoiceHit(VoiceEntry(*row), match.coverage if asked else 0.0) for row, match in pairs]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()


def _check_sound(waveform: Waveform, consent: bool) -> None:
    """Refuse sounds that are no voice to imitate, and voices whose owner did not agree."""
    note = quality_note(waveform)
    if not consent:
        found, todo = "no consent of the speaker", "Ask whoever speaks, and confirm it"
    elif not MIN_SECONDS <= waveform.duration_s <= MAX_SECONDS:
        found, todo = f"{waveform.duration_s:.1f} s of sound", "Cut or record another piece"
    elif note and note.startswith(("silent", "very quiet", "too short")):
        found, todo = f"a recording that is {note}", "Record again, nearer to the microphone"
    else:
        return
    expected = f"{MIN_SECONDS:g} to {MAX_SECONDS:g} s of speech, given by someone who agreed"
    raise ToolError("add a voice", found=found, expected=expected, todo=todo)


def _full() -> ToolError:
    found, expected = f"{MAX_VOICES} voices already", f"at most {MAX_VOICES}"
    return ToolError("add a voice", found=found, expected=expected, todo="Remove one first")
