"""The speaker network learns to tell invented speakers apart, and leaves as a file that says the same."""

import argparse

import numpy as np
import pytest
import torch

from model.token2wav.speaker import SpeakerEncoder
from model.training import loop
from model.training.recordings import Recordings
from model.training.voice import sizes, speaker
from model.training.voice.speaker import Fbanks, SpeakerStage, Spoken

RNG = np.random.default_rng(0)


@pytest.fixture
def stage(whistled) -> SpeakerStage:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    noises = speaker.noise_fbanks(Recordings(None), rng)[:4]
    return SpeakerStage(
        [whistled], frames=12 * speaker.CROP_FRAMES, device=torch.device("cpu"), rng=rng, noises=noises,
        tests={"test": whistled}, width=32,
    )  # fmt: skip


def test_a_few_steps_lower_the_loss_and_find_the_speakers(stage):
    optimizer = loop.optimizer_for(stage.module, weight_decay=0.0)
    seen = []
    while len(seen) < 24:
        for batch in stage.batches(0.1):
            loss, numbers = stage.loss(batch, 0.1)
            loop.step_optimizer(loss, optimizer, 3e-3)
            seen.append(numbers)
    assert np.mean([n["loss"] for n in seen[-4:]]) < 0.5 * np.mean([n["loss"] for n in seen[:4]])
    found = stage.report()
    assert found["test_speakers"] == 4 and found["test_retrieval"] > 0.8 and found["test_equal_error"] < 0.3


def test_the_stage_writes_what_the_speaker_encoder_runs(whistled, tmp_path):
    pytest.importorskip("onnxruntime")
    parser = speaker.build_parser()
    flags = ["--corpus", str(whistled.folder), "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    args = parser.parse_args([*flags, "--steps", "2", "--frames", "480", "--device", "cpu"])
    assert isinstance(args, argparse.Namespace)
    path = speaker.train(args)
    assert path.name == sizes.SPEAKER_FILE and path.stat().st_size < 1.2e6
    voices = speaker.corpus_voices(SpeakerEncoder(path), whistled)
    assert voices.shape == (len(whistled), 192) and np.isfinite(voices).all()


def test_verification_by_hand():
    voices = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), dim=1)
    assert speaker.verification(voices, "aabb") == {"retrieval": 1.0, "equal_error": 0.0, "speakers": 2}
    crossed = speaker.verification(voices, "abab")
    assert crossed["retrieval"] == 0.0 and crossed["equal_error"] == pytest.approx(0.75, abs=0.26)
    assert np.isnan(speaker.verification(voices, "abcd")["retrieval"])  # nobody has another clip


def test_equal_error_of_known_scores():
    assert speaker.equal_error(np.array([3.0, 2.0]), np.array([1.0, 0.0])) == 0.0
    assert speaker.equal_error(np.array([0.0, 2.0, 3.0, 4.0]), np.array([1.0, -1.0, -2.0, 2.5])) == 0.25


def test_a_margin_makes_it_harder():
    cosines, own = torch.tensor([[0.8, 0.1], [0.2, 0.7]]), torch.tensor([0, 1])
    assert speaker.margin_loss(cosines, own, 0.2) > speaker.margin_loss(cosines, own, 0.0)
    expected = torch.nn.functional.cross_entropy(speaker.SCALE * cosines, own)
    assert speaker.margin_loss(cosines, own, 0.0) == pytest.approx(float(expected), abs=1e-5)


def test_crops_have_one_length():
    fbank = RNG.standard_normal((50, 80)).astype(np.float16)
    assert speaker.crop(fbank, 30, RNG).shape == (30, 80)
    repeated = speaker.crop(fbank, 120, RNG)
    assert repeated.shape == (120, 80) and np.array_equal(repeated[:60], repeated[50:110])


def test_noise_and_room_add_power():
    fbank = np.zeros((20, 80), np.float32)
    assert np.allclose(speaker.with_noise(fbank, fbank + 3, 0.0), np.log(2), atol=1e-5)
    assert np.allclose(speaker.with_noise(fbank, fbank + 3, 80.0), 0, atol=1e-4)
    wet = speaker.in_room(fbank, decay=0.5, level=0.25)
    assert wet[0] == pytest.approx(0.0) and wet[-1] == pytest.approx(np.log(1.5), abs=1e-4)
    changed = [speaker.changed(fbank, [fbank], np.random.default_rng(i)) for i in range(12)]
    assert all(c.shape == fbank.shape and np.isfinite(c).all() for c in changed)


def test_fbanks_are_made_once(whistled):
    fbanks, clip = Fbanks(), Spoken(whistled, whistled.rows[0])
    assert fbanks(clip) is fbanks(clip)
    assert fbanks(clip).shape == ((whistled.rows[0].codes * 640 - 400) // 160 + 1, 80)
