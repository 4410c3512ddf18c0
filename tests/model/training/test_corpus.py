"""Corpora: plans that keep the splits apart, shards that resume, and mels that come back as they went in."""

from pathlib import Path

import numpy as np
import pytest

from model.audio import Waveform, log_mel
from model.training import batches, corpus, voices
from model.training.corpus import Clip, Corpus
from model.training.recordings import Recordings

NOTHING = Recordings(None)


class _Tones:
    """Stands in for the engines: every clip is a tone whose length follows its text."""

    def make(self, clip: Clip):
        if clip.text == "unspeakable":
            return None
        time = np.arange(1600 * (3 + len(clip.text))) / 16_000
        return Waveform((0.3 * np.sin(2 * np.pi * 220 * time)).astype(np.float32), 16_000), (("word", 0.0, 0.2),)


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(corpus, "_MAKER", _Tones())
    clips = [Clip(f"c{i}", "world", "en", "a" * (1 + i % 7), voice="tone") for i in range(20)] + [
        Clip("x", "world", "en", "unspeakable")
    ]
    (tmp_path / "sound").mkdir()
    for number in range(3):
        corpus._build_shard(str(tmp_path), number, clips[number * 7 : number * 7 + 7], keep_sound=True)
    return tmp_path


def test_a_corpus_comes_back_as_it_went_in(made):
    read = Corpus(made)
    assert len(read) == 20  # the clip that no voice can say is left out
    row = read.rows[4]
    sound, words = _Tones().make(row.clip)
    expected = log_mel(sound).T.numpy()
    assert row.samples == len(sound.samples) and row.words == words
    assert np.abs(read.mel(row).astype(np.float32) - expected).max() < 2e-3
    assert read.sound_path(row).exists()


def test_a_finished_shard_is_left_alone(made, monkeypatch):
    monkeypatch.setattr(corpus, "_MAKER", None)  # would fail if anything were made again
    assert corpus._build_shard(str(made), 0, [], keep_sound=False) == 7


def test_watched_rows_are_never_trained_on(made):
    train, watched = Corpus(made).split()
    assert watched and train and not {r.clip.id for r in train} & {r.clip.id for r in watched}


def test_batches_hold_every_row_once_within_the_budget(made):
    rows = Corpus(made).rows
    got = list(batches.epoch(rows, frame_budget=300, rng=np.random.default_rng(0)))
    assert sorted(r.clip.id for batch in got for r in batch) == sorted(r.clip.id for r in rows)
    assert all(len(b) == 1 or len(b) * max(r.frames for r in b) <= 300 for b in got)


def test_collate_pads_with_zero_and_counts_usable_frames(made):
    read = Corpus(made)
    mels, lens = batches.collate(read, read.rows[:3])
    for k, row in enumerate(read.rows[:3]):
        assert lens[k] == row.frames - 2
        assert not mels[k, :, row.frames :].any()


def test_mixing_mels_adds_powers():
    quiet, loud = np.full((4, 8), 0.5, np.float32), np.full((4, 8), 0.75, np.float32)
    assert np.allclose(batches.mix_mels(loud, quiet, snr_db=80.0), loud, atol=1e-4)
    assert np.allclose(batches.mix_mels(loud, quiet, snr_db=0.0), loud + np.log10(2) / 4, atol=1e-4)


def test_sentence_case():
    assert corpus.sentence_case("turn left") == "Turn left."
    assert corpus.sentence_case("i'd like what i like") == "I'd like what I like."
    assert corpus.sentence_case("Please wait.") == "Please wait."


@pytest.mark.parametrize("split", [voices.HELD_OUT_VOICE, voices.HELD_OUT_ENGINE])
def test_plans_for_tests_share_no_voice_or_sentence_with_training(split):
    if not voices.available_voices("en", split) or not voices.available_voices("en", voices.TRAIN):
        pytest.skip("no English engine is installed")
    options = {"recordings": NOTHING, "seed": 1}
    train = corpus.plan_synthetic("world", "en", 400, split=voices.TRAIN, held_out=False, **options)
    test = corpus.plan_synthetic("test", "en", 60, split=split, held_out=True, **options)
    assert not {c.voice for c in train} & {c.voice for c in test}
    assert not {c.text for c in train} & {c.text for c in test}
    assert not any(c.augmented for c in test)


def test_planning_without_any_voice_says_what_to_install(monkeypatch):
    monkeypatch.setattr(voices, "available_voices", lambda *a, **k: ())
    with pytest.raises(RuntimeError, match="install the engines"):
        corpus.plan_synthetic("w", "en", 3, split=voices.TRAIN, held_out=False, recordings=NOTHING, seed=1)


def test_warped_bands_move_a_tone_up_and_keep_the_frames():
    mel = np.full((7, 128), -1.0, dtype=np.float32)
    mel[:, 40] = 1.0
    assert np.array_equal(batches.warp_bands(mel, 1.0), mel)
    assert batches.warp_bands(mel, 1.1).shape == mel.shape
    assert set(batches.warp_bands(mel, 1.1).argmax(1)) == {44}
    assert set(batches.warp_bands(mel, 0.9).argmax(1)) == {36}
