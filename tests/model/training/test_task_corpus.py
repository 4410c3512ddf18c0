"""Clips for the audio tasks: two sides that never meet, labels that hold, shards that come back."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from model.audio import Waveform, save_waveform
from model.tasks import paralinguistics
from model.training import corpus, task_corpus, voices
from model.training.recordings import Recordings
from model.training.task_corpus import TaskMaker, plan_questions, plan_speech, plan_tunes
from model.training.world.delivery import Delivery
from model.training.world.scenes import Scene, SoundEvent

NOTHING = Recordings(None)
EVENTS = {"dog": 900.0, "coughing": 1500.0, "rain": 0.0, "kitchen dishes": 0.0}


def _sound(hz, rng):
    samples = rng.standard_normal(24_000) * 0.02 if not hz else np.zeros(24_000)
    if hz:
        samples[4000:12_000] = 0.5 * np.sin(2 * np.pi * hz * np.arange(8000) / 16_000)
    return Waveform(samples.astype(np.float32), 16_000)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A few sounds of each split in the layout of the real ones."""
    folder, rng, lines = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0), []
    for split in ("train", "dev", "test"):
        for event, hz in EVENTS.items():
            member = f"{split}/{event.replace(' ', '_')}.flac"
            (folder / "esc" / split).mkdir(parents=True, exist_ok=True)
            save_waveform(folder / "esc" / member, _sound(hz, rng))
            dataset = "sc_noise" if " " in event else "esc"
            lines.append({"id": f"{dataset}/{split}-{event}", "dataset": dataset, "split": split, "dur": 1.5,
                          "event": event, "zip": "esc.zip", "member": member})  # fmt: skip
    shutil.make_archive(str(folder / "esc"), "zip", folder / "esc")
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return Recordings(folder)


def needs(split, language="en"):
    if not voices.available_voices(language, split):
        pytest.skip(f"no {language} engine of the split {split} is installed")


def used(plan):
    """Every recording that a plan would make sound of."""
    made = {clip.recording for clip in plan if clip.recording}
    for clip in plan:
        scene = clip.plan.get("scene") or {"background": None, "events": ()}
        made |= {event["recording"] for event in scene["events"]} | {scene["background"]} - {None}
    return made


@pytest.fixture(scope="module")
def sides(recordings):
    for split in voices.SPLITS:
        needs(split)
    made = task_corpus.plans(recordings, speech=240, music=40, tests=90, seed=1)
    train = made["train"] + made["train_questions"]
    tests = [clip for name, plan in made.items() if not name.startswith("train") for clip in plan]
    return train, tests


def test_nothing_of_the_tests_is_in_training(sides):
    train, tests = sides
    assert not {c.id for c in train} & {c.id for c in tests}
    assert not {c.text for c in train if c.text} & {c.text for c in tests if c.text}
    assert not {c.voice for c in train if c.voice} & {c.voice for c in tests if c.voice}
    assert used(train) and used(tests) and not used(train) & used(tests)
    keys = [{c.plan["tune"]["key"] for c in side if "tune" in c.plan} for side in sides]
    assert all(keys) and not keys[0] & keys[1]
    assert not any(c.augmented for c in tests)


def test_training_never_joins_held_out_labels(sides):
    joined = [Delivery(**c.plan["delivery"]) for c in sides[0] if len(c.plan.get("delivery", {})) > 1]
    assert joined and not any(map(task_corpus.is_held_combination, joined))
    every = [Delivery(pitch=p, speed=s) for p in ("mid-low", "middle", "mid-high", "high") for s in ("slow", "mid-slow",
             "medium", "mid-fast", "fast")]  # fmt: skip
    assert 0 < sum(map(task_corpus.is_held_combination, every)) < len(every) / 2


def test_every_dimension_and_label_is_planned_evenly(sides):
    planned = {dimension: [] for dimension in paralinguistics.DIMENSIONS}
    for clip in sides[0]:
        for dimension, label in clip.plan.get("delivery", {}).items():
            planned[dimension].append(label)
    for dimension in ("emotion", "age", "style", "timbre", "pitch", "rhythm", "speed"):
        counts = [planned[dimension].count(label) for label in paralinguistics.labels(dimension)]
        assert min(counts) > 0.25 * max(counts), dimension
    assert set(planned["vocal"]) == {"cough"}
    places = {c.plan["scene"]["place"] for c in sides[0] if c.plan.get("scene")} - {None}
    assert places == {"kitchen", "storm", "hall", "telephone"}


def test_the_same_seed_plans_the_same_and_another_does_not(recordings):
    needs(voices.TRAIN)
    options = {"split": voices.TRAIN, "held_out": False, "recordings": recordings}
    first, again, other = (plan_speech("t", "en", 30, seed=seed, **options) for seed in (1, 1, 2))
    assert first == again != other


def test_without_recordings_there_are_still_tasks():
    needs(voices.TRAIN)
    plan = plan_speech("t", "en", 40, split=voices.TRAIN, held_out=False, recordings=NOTHING, seed=1)
    assert len(plan) == 40 and not used(plan)
    assert len(plan_tunes("m", 5, held_out=False, seed=1)) == 5


def test_held_out_questions_are_spoken_in_tests_only():
    needs(voices.TRAIN)
    train = plan_questions("q", split=voices.TRAIN, held_out=False, recordings=NOTHING)
    held = {text for d in paralinguistics.DIMENSIONS for text in paralinguistics.questions(d, "en", held_out=True)}
    assert {c.labels["dimension"] for c in train} == set(paralinguistics.DIMENSIONS)
    assert not {c.text for c in train} & held


@pytest.fixture(scope="module")
def maker(recordings, tmp_path_factory):
    if not voices.engine_installed(voices.FLITE):
        pytest.skip("flite is not installed")
    return TaskMaker(recordings, tmp_path_factory.mktemp("cache"))


def planned(delivery, scene=None, **more):
    options = {"voice": "flite-slt"} | more
    return task_corpus.spoken_clip("c1", "task", "en", "Please open the window.", options.pop("voice"), delivery, scene,
                                   **options)  # fmt: skip


def test_a_clip_tells_what_holds_and_when(maker, vocoder):
    scene = Scene(events=(SoundEvent("dog", "esc/train-dog", "before"),))
    clip = planned(Delivery(speed="slow", pitch="high"), scene)
    sound, words, labels = maker.make(clip)
    assert {"gender": "female", "speed": "slow", "pitch": "high", "event": "dog"}.items() <= labels.items()
    assert labels["event_end_s"] < labels["speech_start_s"] < words[0][1] + 0.01
    dog = sound.samples[int(labels["event_start_s"] * 16_000) :][:4096]
    assert np.argmax(np.abs(np.fft.rfft(dog))) * 16_000 / 4096 == pytest.approx(900, abs=8)
    again = maker.make(replace(clip, plan=json.loads(json.dumps(clip.plan))))
    # Engines draw noise of their own, so only what was planned comes back exactly.
    assert {k: v for k, v in again[2].items() if isinstance(v, str)} == {
        k: v for k, v in labels.items() if isinstance(v, str)
    }


def test_labels_that_cannot_be_heard_are_left_out(maker, vocoder):
    labels = maker.make(planned(Delivery(style="whisper")))[2]
    assert labels["style"] == "whisper" and not {"pitch", "gender"} & labels.keys()
    assert maker.make(planned(Delivery(), Scene("hall")))[2]["scenario"] == "hall"


def test_tunes_and_plain_recordings_need_no_voice(maker):
    (tune,) = plan_tunes("m", 1, held_out=False, seed=3)
    assert maker.make(tune)[2]["event"] == "music"
    sounds = task_corpus.plan_sounds("s", maker.recordings, splits=("test",))
    assert {c.labels["event"] for c in sounds} == {"dog", "rain"}  # a cough is no event
    assert maker.make(sounds[0])[2] == sounds[0].labels


def test_shards_resume_and_keep_the_labels_of_the_made_clips(maker, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "_MAKER", maker)
    (tmp_path / "sound").mkdir()
    clips = plan_tunes("m", 3, held_out=True, seed=3)
    assert corpus._build_shard(str(tmp_path), 0, clips, keep_sound=True) == 3
    read = corpus.Corpus(tmp_path)
    assert [row.clip.plan for row in read.rows] == [clip.plan for clip in clips]
    assert all(row.clip.labels["notes"] == str(row.clip.plan["tune"]["count"]) for row in read.rows)
    monkeypatch.setattr(corpus, "_MAKER", None)  # would fail if anything were made again
    assert corpus._build_shard(str(tmp_path), 0, clips, keep_sound=True) == 3
