"""The voice corpus: everything lines up by codes, guises keep the splits apart, shards come back as they went in."""

import numpy as np
import pytest

from model.audio import Waveform, log_mel
from model.errors import StepAudioError
from model.token2wav.features import prompt_mel
from model.training import voices
from model.training.corpus import Clip
from model.training.recordings import Recordings
from model.training.voice import corpus, teachers
from model.training.voice.corpus import VoiceCorpus

NOTHING = Recordings(None)
ENGLISH = bool(teachers.teachers("en"))


def _tone(seconds: float, quiet_s: float = 0.0) -> Waveform:
    time = np.arange(round(seconds * 24_000)) / 24_000
    quiet = np.zeros(round(quiet_s * 24_000))
    samples = np.concatenate([quiet, 0.3 * np.sin(2 * np.pi * 330 * time), quiet])
    return Waveform(samples.astype(np.float32), 24_000)


class _Tones:
    """Stands in for the engines: every clip is a tone whose length follows its text."""

    def make(self, clip: Clip):
        if clip.text == "unspeakable":
            return None
        return corpus.trimmed(_tone(0.2 + 0.013 * len(clip.text), 0.4), (("word", 0.4, 0.6),))


@pytest.fixture
def made(tmp_path, monkeypatch) -> VoiceCorpus:
    monkeypatch.setattr(corpus, "_SPEAKER", _Tones())
    labels = {"speaker": "tone@2", "guise": 2, "band_hz": 8000.0}
    texts = ["a" * (1 + i) for i in range(9)] + ["unspeakable"]
    clips = [Clip(f"c{i}", "voice", "en", text, "tone", labels=labels) for i, text in enumerate(texts)]
    for number in range(2):
        corpus._build_shard(str(tmp_path), number, clips[number * 5 : number * 5 + 5])
    return VoiceCorpus(tmp_path)


def test_a_corpus_comes_back_as_it_went_in(made):
    assert len(made) == 9  # the clip that no voice can say is left out
    for row in made.rows:
        sound, words = _Tones().make(row.clip)
        assert row.words == words and row.speaker == "tone@2" and row.band_hz == 8000
        assert np.abs(made.waveform(row).samples - sound.samples).max() < 1e-4
        assert np.abs(made.prompt_mel(row).T - prompt_mel(sound).numpy()).max() < 1e-2


def test_a_code_is_the_same_stretch_of_every_feature(made):
    for row in made.rows:
        assert made.mel(row).shape == (4 * row.codes, 128) and row.frames == 4 * row.codes
        assert made.prompt_mel(row).shape == (2 * row.codes, 80)
        assert made.samples(row).shape == (960 * row.codes,)
        narrow = made.waveform(row).resample(16_000)
        assert np.abs(made.mel(row).T - log_mel(narrow, pad_samples=0).numpy()).max() < 5e-2


def test_a_finished_shard_is_left_alone(made, monkeypatch):
    monkeypatch.setattr(corpus, "_SPEAKER", None)  # would fail if anything were made again
    assert corpus._build_shard(str(made.folder), 0, []) == 5


def test_watched_rows_are_never_trained_on(made):
    train, watched = made.split()
    assert {r.shard for r in train} == {1} and {r.shard for r in watched} == {0}


def test_quiet_is_cut_and_words_move_along():
    sound, words = corpus.trimmed(_tone(0.5, 0.4), (("one", 0.4, 0.65), ("two", 0.65, 0.9)))
    assert sound.duration_s == pytest.approx(corpus.LEAD_S + 0.5 + corpus.TAIL_S, abs=0.05)
    assert len(sound.samples) % corpus.CODE_SAMPLES == 0
    assert words[0][1:] == pytest.approx((corpus.LEAD_S, corpus.LEAD_S + 0.25), abs=0.011)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.1) / 24_000
    assert loud[0] == pytest.approx(words[0][1], abs=0.02) and loud[-1] == pytest.approx(words[-1][2], abs=0.02)


def test_silence_and_short_sounds_are_only_filled_up():
    sound, _ = corpus.trimmed(Waveform(np.zeros(1000, np.float32), 24_000))
    assert len(sound.samples) == 1920


@pytest.mark.parametrize("voice", voices.VOICES, ids=lambda voice: voice.name)
def test_guises_stay_inside_what_a_voice_may_be(voice):
    found = teachers.guises(voice)
    assert [g.number for g in found] == list(range(len(found))) and len(found) >= 7
    assert len({g.speaker(voice) for g in found}) == len(found)
    rng = np.random.default_rng(0)
    for guise in found:
        made, prosody = teachers.dressed(voice, guise, rng)
        if voice.engine == voices.CONCATENATION:
            assert voice.formant[0] <= made.formant[0] == made.formant[1] <= voice.formant[1]
            assert voice.pitch[0] <= made.pitch[0] == made.pitch[1] <= voice.pitch[1]
            assert prosody.size == 1.0
        else:  # pitch and rate that resampling brings along are taken back
            assert prosody.pitch * prosody.size == pytest.approx(guise.pitch, rel=0.04)
            assert 0.84 < prosody.rate * prosody.size < 1.18


def test_plans_hold_half_the_clips_as_they_are():
    if not ENGLISH:
        pytest.skip("no English engine is installed")
    plan = corpus.plan_speech("voice", "en", 300, split=voices.TRAIN, recordings=NOTHING, seed=1)
    as_is = sum(clip.labels["guise"] == 0 for clip in plan)
    assert 120 < as_is < 180
    assert not any("espeak" in clip.voice for clip in plan)
    assert plan == corpus.plan_speech("voice", "en", 300, split=voices.TRAIN, recordings=NOTHING, seed=1)


def test_planning_without_any_voice_says_what_to_install():
    with pytest.raises(StepAudioError, match="recordings"):
        corpus.plan_speech("voice", "zh", 3, split=voices.TRAIN, recordings=NOTHING, seed=1)


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(StepAudioError, match="no finished shard"):
        VoiceCorpus(tmp_path)


def test_a_real_engine_speaks_into_a_shard(tmp_path, monkeypatch):
    if not ENGLISH:
        pytest.skip("no English engine is installed")
    monkeypatch.setattr(corpus, "_SPEAKER", corpus._Speaker(NOTHING, tmp_path))
    plan = corpus.plan_speech("voice", "en", 4, split=voices.TRAIN, recordings=NOTHING, seed=3)
    assert corpus._build_shard(str(tmp_path), 0, plan) == 4
    read = VoiceCorpus(tmp_path)
    assert all(0.6 <= row.duration_s <= 9 and np.abs(read.samples(row)).max() > 8000 for row in read.rows)
