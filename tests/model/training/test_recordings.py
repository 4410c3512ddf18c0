"""Recordings: filters, reading from a zip, and what is said when the folder is not there."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import soundfile

from model.errors import StepAudioError
from model.training.recordings import Recordings


@pytest.fixture
def folder(tmp_path):
    """Three clips of two sets; tones of 0.25 s."""
    rows = [
        ("read", "train", "en", "hello", None),
        ("read", "test", "zh", "你好", None),
        ("esc", "train", None, None, "rain"),
        ("esc", "train", None, None, "laughing"),
    ]
    lines = []
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number, (dataset, split, language, text, event) in enumerate(rows):
            tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4_000) / 16_000)
            data = io.BytesIO()
            soundfile.write(data, tone, 16_000, format="OGG", subtype="OPUS")
            archive.writestr(f"{number}.opus", data.getvalue())
            line = {"id": f"{dataset}/{number}", "dataset": dataset, "split": split, "dur": 0.25, "lang": language}
            line |= {"text": text, "event": event, "zip": "all.zip", "member": f"{number}.opus"}
            lines.append(json.dumps(line))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_filters(folder):
    recordings = Recordings(folder)
    assert len(recordings) == 4 and recordings
    assert [row.text for row in recordings.select(split=["train", "test"], with_text=True)] == ["hello", "你好"]
    assert [row.text for row in recordings.select(language="zh")] == ["你好"]
    assert recordings.select(max_seconds=0.1) == ()
    assert [row.event for row in recordings.sounds(background_only=True)] == ["rain"]


def test_load_and_noises(folder):
    recordings = Recordings(folder)
    waveform = recordings.load(recordings.rows[0])
    assert waveform.sample_rate_hz == 16_000 and waveform.duration_s == pytest.approx(0.25, abs=0.02)
    assert len(recordings.noises()) == 1


def test_a_copy_for_another_process_opens_its_own_files(folder):
    recordings = Recordings(folder)
    recordings.load(recordings.rows[0])
    copy = pickle.loads(pickle.dumps(recordings))
    assert np.array_equal(copy.load(copy.rows[0]).samples, recordings.load(recordings.rows[0]).samples)


def test_absent_folder_is_said_and_none_is_empty(tmp_path):
    assert not Recordings(None) and Recordings(None).noises() == ()
    with pytest.raises(StepAudioError, match="--recordings"):
        Recordings(tmp_path)


def test_broken_lines_and_members_are_named(folder):
    recordings = Recordings(folder)
    (folder / "all.zip").unlink()
    with pytest.raises(StepAudioError, match="read/0"):
        recordings.load(recordings.rows[0])
    (folder / "manifest.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(StepAudioError, match="line 1"):
        Recordings(folder)
