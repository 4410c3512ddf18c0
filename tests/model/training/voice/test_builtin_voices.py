"""The built-in voices: of every teacher the most typical of its good recordings."""

from pathlib import Path

import numpy as np
import pytest

from model.audio import Waveform
from model.errors import StepAudioError
from model.token2wav.loading import SPEAKER, TOKENIZER, save_part
from model.token2wav.voice import Voice
from model.training.corpus import Clip
from model.training.voice import builtin_voices, corpus
from model.training.voice.builtin_voices import BUILTIN, Builtin, candidates, make_all, most_typical
from model.training.voices import TRAIN, find_voice
from tests.small_voice import CONFIG, build_parts, recording, save_speaker

ANA = Builtin("Ana", "rhvoice-slt", "Woman, low", "女声，低")


class _Readers:
    """Stand in for the engines: a clip sounds as long as its labels say; the last one is all noise."""

    def make(self, clip: Clip):
        sound = recording(float(clip.labels["seconds"]))
        if clip.labels.get("noise"):
            rng = np.random.default_rng(0)
            sound = Waveform(0.1 * rng.standard_normal(len(sound.samples)).astype(np.float32), 24_000)
        return sound, ()


@pytest.fixture
def made(tmp_path, monkeypatch) -> corpus.VoiceCorpus:
    monkeypatch.setattr(corpus, "_SPEAKER", _Readers())
    plan = [("rhvoice-slt", s, {}) for s in (2.0, 3.2, 4.0, 4.4, 6.0)]
    plan += [("rhvoice-slt@2", 4.0, {}), ("pico-en-GB", 4.0, {}), ("rhvoice-slt", 4.2, {"noise": True})]
    clips = [
        Clip(f"c{i}", "voice", "en", f"text {i}", "x", labels={"speaker": who, "band_hz": 8000.0, "seconds": s, **more})
        for i, (who, s, more) in enumerate(plan)
    ]
    corpus._build_shard(str(tmp_path), 0, clips)
    return corpus.VoiceCorpus(tmp_path)


@pytest.fixture
def networks(tmp_path) -> Path:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "token2wav"
    folder.mkdir()
    save_part(folder, TOKENIZER, build_parts()["tokenizer"].state_dict())
    save_speaker(folder / f"{SPEAKER}.onnx")
    CONFIG.save(folder)
    return folder


def test_candidates_are_good_recordings_of_the_teacher_as_it_is(made, monkeypatch):
    assert [row.clip.id for row in candidates(made, "rhvoice-slt")] == ["c3", "c2", "c1"]
    assert candidates(made, "nobody") == []
    monkeypatch.setattr(builtin_voices, "CANDIDATES", 2)
    assert [row.clip.id for row in candidates(made, "rhvoice-slt")] == ["c3", "c2"]


def test_the_most_typical_is_nearest_to_the_mean():
    class Vectors:
        def embed(self, row):
            import torch

            return torch.tensor([row])

    class Rows:
        waveform = staticmethod(lambda row: row)

    rows = [[1.0, 0.0], [9.0, 9.5], [0.0, 1.0]]  # lengths do not count
    assert most_typical(Rows(), rows, Vectors()) == rows[1]


def test_voices_are_written_with_their_words(made, networks, caplog):
    paths = make_all(made, networks, [ANA, Builtin("Ben", "flite-awb", "Man", "男声")])
    assert [path.name for path in paths] == ["Ana.safetensors"] and paths[0].parent == networks / "voices"
    assert "no fitting recording of flite-awb" in caplog.text
    voice = Voice.load(paths[0])
    assert voice.transcript in ("text 1", "text 2", "text 3") and voice.description == "Woman, low\n女声，低"
    assert voice.licence == "RHVoice (LGPL); synthetic speech of rhvoice-slt"
    assert 3.0 <= voice.duration_s <= 4.4 and voice.tokenizer


def test_without_any_teacher_it_is_told(made, networks):
    with pytest.raises(StepAudioError, match="found no fitting recording of flite-awb"):
        make_all(made, networks, [Builtin("Ben", "flite-awb", "Man", "男声")])


def test_the_shipped_voices_are_teachers_of_training_in_both_languages():
    teachers = [find_voice(each.teacher) for each in BUILTIN]
    assert {t.split for t in teachers} == {TRAIN} and [t.language for t in teachers].count("zh") == 3
    assert {t.gender for t in teachers} == {"female", "male"} and len({each.name for each in BUILTIN}) == len(BUILTIN)
    for each, teacher in zip(BUILTIN, teachers, strict=True):
        assert ("女" if teacher.gender == "female" else "男") in each.chinese
        assert ("Woman" if teacher.gender == "female" else "Man") in each.english
        assert ("Mandarin" in each.english) == (teacher.language == "zh")
