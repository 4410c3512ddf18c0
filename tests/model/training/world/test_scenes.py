"""Scenes: sounds are heard when the labels say, at the level asked for, in rooms that can be measured."""

import json

import numpy as np
import pytest

from model.audio import Waveform
from model.tasks import paralinguistics
from model.training.recordings import Recordings
from model.training.world import scenes
from model.training.world.scenes import Scene, SoundEvent, SoundLibrary

RATE = 16_000


def tone(hz, seconds, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


SPEECH = Waveform(tone(300, 2.0), RATE)
SOUNDS = {
    "knock": np.concatenate([np.zeros(8000, np.float32), tone(2000, 0.4), np.zeros(40_000, np.float32)]),
    "wind": np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1,
}


def mixed(scene, seed=0, speech=SPEECH):
    return scenes.mix(speech, scene, SOUNDS.__getitem__, np.random.default_rng(seed))


def band(samples, hz):
    """Level around one frequency, [10 ms block]."""
    blocks = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    wave = np.exp(-2j * np.pi * hz * np.arange(160) / RATE)
    return np.abs(blocks @ wave) / 80


@pytest.mark.parametrize("position", ["before", "after", "during"])
@pytest.mark.parametrize("seed", range(4))
def test_an_event_sounds_exactly_when_it_is_said_to(position, seed):
    made = mixed(Scene(events=(SoundEvent("knock", "knock", position),)), seed)
    (event,) = made.events
    loud = np.flatnonzero(band(made.waveform.samples, 2000) > 0.1) * 0.01
    assert loud.min() == pytest.approx(event.start_s, abs=0.03)
    assert loud.max() == pytest.approx(event.end_s, abs=0.03)
    voice = np.flatnonzero(band(made.waveform.samples, 300) > 0.1) * 0.01
    assert voice.min() == pytest.approx(made.speech.start_s, abs=0.03)
    assert voice.max() == pytest.approx(made.speech.end_s, abs=0.03)
    before, after = event.end_s < made.speech.start_s, event.start_s > made.speech.end_s
    assert (before, after) == (position == "before", position == "after")


def test_a_scene_without_anything_is_the_speech_itself():
    made = mixed(Scene())
    assert made.waveform.duration_s == SPEECH.duration_s and not made.events
    assert np.corrcoef(made.waveform.samples, SPEECH.samples)[0, 1] > 0.9999


def test_the_background_lies_under_everything_at_its_level():
    clean, noisy = mixed(Scene()), mixed(Scene(background="wind", snr_db=6.0))
    noise = (
        noisy.waveform.samples
        - np.dot(noisy.waveform.samples, clean.waveform.samples)
        / np.dot(clean.waveform.samples, clean.waveform.samples)
        * clean.waveform.samples
    )
    ratio = 10 * np.log10(np.mean((noisy.waveform.samples - noise) ** 2) / np.mean(noise**2))
    assert ratio == pytest.approx(6.0, abs=1.0)
    assert np.abs(noise.reshape(-1, 1600)).max(axis=1).min() > 0.01


def test_a_hall_rings_and_the_open_air_does_not():
    click = np.zeros(RATE, np.float32)
    click[800:1120] = tone(1000, 0.02)
    speech = Waveform(click, RATE)

    def late(scene):
        x = mixed(scene, speech=speech).waveform.samples
        return 10 * np.log10((x[4000:12_000] ** 2).sum() / (x[800:1300] ** 2).sum() + 1e-12)

    assert late(Scene("hall")) > -12 and late(Scene()) < -60


def test_a_telephone_passes_only_its_band():
    rng = np.random.default_rng(1)
    x = mixed(Scene("telephone"), speech=Waveform((rng.standard_normal(RATE) * 0.1).astype(np.float32), RATE))
    power = np.abs(np.fft.rfft(x.waveform.samples)) ** 2
    hz = np.fft.rfftfreq(RATE, 1 / RATE)
    assert power[hz > 4500].mean() < 0.03 * power[(hz > 500) & (hz < 3000)].mean()
    assert power[hz < 150].mean() < 0.03 * power[(hz > 500) & (hz < 3000)].mean()


def test_a_sound_is_cut_to_where_it_is_heard():
    cut = scenes.cut_out(SOUNDS["knock"])
    assert len(cut) / RATE == pytest.approx(0.4, abs=0.05) and np.abs(cut).max() > 0.45
    assert len(scenes.cut_out(SOUNDS["wind"])) <= scenes.MAX_SOUND_S * RATE
    assert len(scenes.cut_out(np.zeros(16_000, np.float32))) >= 0


def test_what_cannot_be_heard_is_refused():
    with pytest.raises(ValueError, match="needs a background"):
        Scene("seaside")
    with pytest.raises(ValueError, match="no place"):
        Scene("moon")
    with pytest.raises(ValueError, match="position"):
        SoundEvent("knock", "knock", "above")


def test_the_tables_and_the_task_know_the_same_labels():
    assert set(scenes.places()) == set(paralinguistics.labels("scenario"))
    assert set(scenes.VOCAL.values()) == set(paralinguistics.labels("vocal"))
    singles = {name for place in scenes.places().values() for name in place.sounds}
    assert singles <= set(paralinguistics.labels("event"))


@pytest.fixture
def recordings(tmp_path):
    events = ["dog", "coughing", "rain", "sea_waves", "kitchen dishes"]
    lines = [
        {"id": f"esc/{split}-{event}", "dataset": "sc_noise" if " " in event else "esc", "split": split, "dur": 5.0,
         "event": event, "zip": "esc.zip", "member": "x"}
        for split in ("train", "test") for event in events
    ]  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return Recordings(tmp_path)


def test_a_library_offers_what_its_split_can_sound_like(recordings):
    train, held = SoundLibrary(recordings, ("train",)), SoundLibrary(recordings, ("dev", "test"))
    assert set(train.events()) == {"dog", "rain", "sea_waves"} and train.vocals() == ("cough",)
    assert set(train.places()) == {"kitchen", "seaside", "storm", "hall", "telephone"}
    rng = np.random.default_rng(0)
    for library, split in ((train, "train"), (held, "test")):
        for place in library.places():
            scene = library.place_scene(place, rng)
            assert scene.place == place and (scene.background is None or f"/{split}-" in scene.background)
        assert all(library.single("cough", rng).position != "during" for _ in range(20))
        assert library.single("dog", rng).recording == f"esc/{split}-dog"


def test_without_recordings_there_are_still_rooms():
    assert set(SoundLibrary(Recordings(None), ("train",)).places()) == {"hall", "telephone"}
