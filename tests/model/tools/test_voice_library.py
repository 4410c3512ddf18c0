"""Voices are stored, described, found and forgotten."""

import io
import sqlite3
import stat
import threading

import numpy as np
import pytest
import soundfile

from model.audio import Waveform
from model.errors import AudioError, ToolError
from model.tools import voice_library
from model.tools.voice_library import VoiceEntry, VoiceLibrary

RATE = 24_000


def sound(k=0, seconds=2.0, rate=RATE, level=0.1):
    time_s = np.arange(int(seconds * rate)) / rate
    return Waveform((level * np.sin(2 * np.pi * (150 + 20 * k) * time_s)).astype(np.float32), rate)


@pytest.fixture
def library(tmp_path):
    library = VoiceLibrary(tmp_path / "someone" / "voices")
    yield library
    library.close()


def test_a_recording_comes_back(library):
    entry = library.add(sound(), "Anna", consent=True, gender="female", age="young", description="soft")
    assert library.get(entry.id) == entry and library.entries() == [entry] and len(library) == 1
    again = library.recording(entry.id)
    assert again.sample_rate_hz == RATE and np.allclose(again.samples, sound().samples, atol=1e-4)


def test_any_sound_file_becomes_24_khz(library, tmp_path):
    samples = np.stack([sound(rate=16_000).samples] * 2, axis=1)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    entry = library.add(tmp_path / "a.wav", "Anna", consent=True)
    assert library.recording(entry.id).sample_rate_hz == RATE
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(1).samples, RATE, format="FLAC")
    assert library.recording(library.add(buffer.getvalue(), "Ben", consent=True).id).duration_s == pytest.approx(2.0)
    names = sorted(path.name for path in (library.folder / "recordings").iterdir())
    assert names == sorted(each.file for each in library.entries()) and all(name.endswith(".flac") for name in names)


def test_the_folder_is_its_owners(library):
    for folder in (library.folder, library.folder / "recordings"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_same_recording_twice_is_one_voice(library):
    first = library.add(sound(), "Anna", consent=True, description="soft")
    second = library.add(sound(), "Anne", consent=True, description="loud")
    assert first.id == second.id and library.entries() == [second]
    assert library.search("soft", min_coverage=0.5) == [] and library.search("loud")[0].entry == second


def test_voices_outlive_the_program(tmp_path):
    first = VoiceLibrary(tmp_path / "v")
    entry = first.add(sound(), "Anna", consent=True, description="温柔的女声")
    first.close()
    second = VoiceLibrary(tmp_path / "v")
    assert second.search("温柔")[0].entry == entry
    second.add(sound(1), "Ben", consent=True)
    assert len(second) == 2


def test_two_users_never_meet(tmp_path):
    one, two = VoiceLibrary(tmp_path / "one"), VoiceLibrary(tmp_path / "two")
    entry = one.add(sound(), "Anna", consent=True, description="soft")
    assert two.search("soft") == [] and two.get(entry.id) is None and len(two) == 0
    with pytest.raises(ToolError, match="no such voice"):
        two.recording(entry.id)


def test_two_sessions_of_one_user_share(tmp_path):
    one, two = VoiceLibrary(tmp_path / "v"), VoiceLibrary(tmp_path / "v")
    entry = one.add(sound(), "Anna", consent=True, description="soft")
    assert two.search("soft")[0].entry == entry
    assert two.remove(entry.id) and one.entries() == []


def test_removed_means_gone(library):
    entry = library.add(sound(), "Anna", consent=True, description="soft")
    assert library.remove(entry.id) and not library.remove(entry.id)
    assert library.search("soft") == [] and list((library.folder / "recordings").iterdir()) == []


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (sound(seconds=0.5), "0.5 s of sound"),
        (sound(seconds=31), "31.0 s of sound"),
        (sound(level=0.0), "silent"),
        (sound(level=0.002), "very quiet"),
    ],
)
def test_sounds_that_are_no_voice(library, given, words):
    with pytest.raises(ToolError, match=words):
        library.add(given, "Anna", consent=True)
    assert len(library) == 0 and list((library.folder / "recordings").iterdir()) == []


def test_a_file_that_is_no_sound(library):
    with pytest.raises(AudioError):
        library.add(b"not a sound", "Anna", consent=True)
    with pytest.raises(AudioError):
        library.add(library.folder / "nothing.wav", "Anna", consent=True)


def test_without_consent_nothing_is_stored(library):
    with pytest.raises(ToolError, match="no consent"):
        library.add(sound(), "Anna", consent=False)
    assert len(library) == 0


@pytest.mark.parametrize(
    "more",
    [{"gender": "robot"}, {"age": "7"}, {"name": "  "}, {"name": "\u200b\x00"}],
)
def test_fields_that_cannot_be(library, more):
    with pytest.raises(ToolError, match="describe a voice"):
        library.add(sound(), **{"name": "Anna", "consent": True, **more})
    assert len(library) == 0


@pytest.mark.parametrize(
    "more", [{"id": "../x"}, {"id": ""}, {"file": "../../etc/passwd"}, {"file": "a/b"}, {"file": ".x"}]
)
def test_entries_lead_nowhere_else(more):
    with pytest.raises(ToolError, match="describe a voice"):
        VoiceEntry(**{"id": "a", "name": "Anna", **more})


def test_words_are_cleaned_and_cut(library):
    entry = library.add(sound(), "An\nna<|EOT|>", consent=True, description="x " * 2000, style="a\x00b\u202e")
    assert entry.name == "An na‹|EOT|›" and len(entry.description) <= 500 and entry.style == "ab"


def test_a_full_library_says_so(library, monkeypatch):
    monkeypatch.setattr(voice_library, "MAX_VOICES", 2)
    first = library.add(sound(0), "A", consent=True)
    library.add(sound(1), "B", consent=True)
    with pytest.raises(ToolError, match="2 voices already"):
        library.add(sound(2), "C", consent=True)
    assert library.add(sound(0), "A again", consent=True).id == first.id and len(library) == 2


def test_a_damaged_library_says_so(tmp_path):
    (tmp_path / "voices.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(ToolError, match="voice library"):
        VoiceLibrary(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ToolError, match="voice library"):
        VoiceLibrary(tmp_path / "file")


def test_a_locked_library_says_so(library, tmp_path, monkeypatch):
    library.add(sound(), "Anna", consent=True)
    library._db.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(library.folder / "voices.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ToolError, match="locked"):
        library.add(sound(1), "Ben", consent=True)
    other.rollback()
    assert library.add(sound(1), "Ben", consent=True) and len(library) == 2


def test_a_lost_recording_says_so(library):
    entry = library.add(sound(), "Anna", consent=True)
    (library.folder / "recordings" / entry.file).unlink()
    with pytest.raises(AudioError):
        library.recording(entry.id)


def test_a_library_in_memory_takes_no_recordings():
    library = VoiceLibrary()
    with pytest.raises(ToolError, match="only read"):
        library.add(sound(), "Anna", consent=True)
    library.put(VoiceEntry("a", "Anna", description="soft"))
    assert library.search("soft")[0].entry.name == "Anna"
    with pytest.raises(ToolError, match="no such voice"):
        library.recording("a")


# --- those that ship with a model ---------------------------------------------------------------------

TABLE = """# id\tname\tgender\tage\tstyle\tlanguage\tdescription\tdescription (Chinese)\ttranscript\tfile
slt\tSally\tfemale\tadult\tcalm\ten\tA calm woman.\t平静的女声。\tHello there.\tslt.flac
bdl\tBrad\tmale\tadult\tnews\ten\tA newsreader.\t新闻播音员。\tGood evening.\tbdl.flac
"""


@pytest.fixture
def shipped(tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "voices.tsv").write_text(TABLE, encoding="utf-8")
    for k, name in enumerate(("slt", "bdl")):
        soundfile.write(folder / f"{name}.flac", sound(k).samples, RATE)
    return folder


def test_shipped_voices_are_read(shipped):
    library = VoiceLibrary.from_table(shipped)
    assert [entry.id for entry in library.entries()] == ["slt", "bdl"]
    assert library.search("新闻")[0].entry.id == "bdl" and library.search("hello")[0].entry.id == "slt"
    assert library.recording("bdl").duration_s == pytest.approx(2.0)
    with pytest.raises(ToolError, match="only read"):
        library.add(sound(), "Anna", consent=True)
    assert library.remove("slt") and (shipped / "slt.flac").exists()
    assert sorted(path.name for path in shipped.iterdir()) == ["bdl.flac", "slt.flac", "voices.tsv"]


def test_a_table_that_names_no_file(shipped):
    (shipped / "slt.flac").unlink()
    with pytest.raises(ToolError, match="no file 'slt.flac'"):
        VoiceLibrary.from_table(shipped)


# --- search -------------------------------------------------------------------------------------------


def test_filters_are_insisted_on(shipped):
    library = VoiceLibrary.from_table(shipped)

    def ids(words="", **filters):
        return [hit.entry.id for hit in library.search(words, **filters)]

    assert ids() == ["slt", "bdl"] and ids(gender="male") == ["bdl"] and ids(gender="male", age="child") == []
    assert ids("calm", gender="male", min_coverage=0.5) == [] and ids(style="news") == ["bdl"]
    assert ids(style="calm news") == [] and ids("woman")[0] == "slt" and ids("男声")[0] == "bdl"
    assert ids(limit=1) == ["slt"]


def test_many_threads_may_use_it(library):
    errors = []

    def work(k):
        try:
            for _ in range(3):
                entry = library.add(sound(k), f"Voice {k}", consent=True, description="soft")
                assert library.get(entry.id).name == f"Voice {k}" and library.search("soft", limit=50)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert errors == [] and len(library) == 4
