"""The vocoder learns invented sounds; pitch is tracked once; the loss keeps noise noisy and minds the band."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.token2wav.config import HiftConfig, Token2WavConfig
from model.token2wav.hift import HiFT
from model.training import loop
from model.training.voice import pitch, sizes, spectra, vocoder
from model.training.voice.corpus import VoiceCorpus

RATE = 24_000
SMALL = HiftConfig(
    base_channels=32,
    f0_cond_channels=16,
    upsample_rates=(6, 4),
    upsample_kernel_sizes=(12, 8),
    istft_n_fft=80,
    istft_hop_len=20,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1, 3),),
    source_resblock_kernel_sizes=(3, 3),
    source_resblock_dilation_sizes=((1,), (1,)),
    causal=True,
)


def buzz(f0: float, seconds: float = 0.6) -> np.ndarray:
    """A tone with ten overtones."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * sum(np.sin(2 * np.pi * k * f0 * time) / k for k in range(1, 11))).astype(np.float32)


def hiss(seed: int, n: int = 12_000) -> torch.Tensor:
    return 0.1 * torch.randn(4, n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def stage(whistled, request) -> vocoder.VocoderStage:
    request.getfixturevalue("vocoder")  # the WORLD vocoder, which tracks the pitch
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    return vocoder.VocoderStage([whistled], config=SMALL, device=torch.device("cpu"), rng=rng, batch=4, crop_codes=8)


# --- pitch --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("vocoder")
@pytest.mark.parametrize("f0", [90.0, 140.0, 260.0])
def test_pitch_of_a_buzz_is_found_at_every_frame(f0):
    quiet, sound = np.zeros(4800, np.float32), buzz(f0)
    found = pitch.track_pitch(np.concatenate([quiet, sound, quiet]))
    assert found.shape == (10 + 30 + 10,) and found.dtype == np.float32
    assert np.allclose(found[13:37], f0, rtol=0.02)
    assert (found[:8] == 0).all() and (found[-8:] == 0).all()


@pytest.mark.usefixtures("vocoder")
def test_pitch_does_not_depend_on_the_kind_of_samples():
    sound = buzz(150.0)
    whole = np.round(sound * 32768).astype(np.int16)
    assert np.allclose(pitch.track_pitch(whole), pitch.track_pitch(whole / 32768), atol=1e-3)


def test_pitch_is_tracked_once_and_again_when_the_corpus_is_another(whistled, monkeypatch):
    tracked = []
    monkeypatch.setattr(pitch, "track_pitch", lambda x: tracked.append(1) or np.full(len(x) // 480, 7.0, np.float32))
    first = pitch.Pitches(whistled)
    assert len(tracked) == len(whistled)
    assert all(len(first(row)) == 2 * row.codes for row in whistled.rows)
    again = pitch.Pitches(VoiceCorpus(whistled.folder))
    assert len(tracked) == len(whistled) and (again(whistled.rows[9]) == 7).all()
    (whistled.folder / "shard_0000.pitch").write_bytes(b"half of it")
    pitch.Pitches(whistled)
    assert len(tracked) == len(whistled) + 8


# --- spectra ------------------------------------------------------------------------------------------------------


def test_equal_sounds_are_not_apart_and_louder_ones_are():
    band = torch.full((4,), 12_000.0)
    assert spectra.energy_distance(hiss(0), hiss(0), hiss(0), band)[0] == 0
    near, far = (spectra.energy_distance(hiss(0), gain * hiss(0), None, band)[0] for gain in (1.1, 2.0))
    assert 0 < near < far


def test_noise_is_best_told_by_other_noise():
    """Smoothed noise is nearer to a recording than other noise is, and yet the worse model of it."""
    band = torch.full((4,), 12_000.0)
    pulses = torch.zeros(4, 12_000)
    pulses[:, ::24] = 0.1 * 24**0.5  # as loud as the noise, with a spectrum that does not vary
    noisy = spectra.energy_distance(hiss(0), hiss(1), hiss(2), band)
    smooth = spectra.energy_distance(hiss(0), pulses, pulses, band)
    assert noisy[0] < 0.75 * smooth[0]
    assert noisy[0] < 0.6 * noisy[1]


def test_nothing_is_asked_above_the_band():
    time = torch.arange(12_000) / RATE
    whistle = 0.1 * torch.sin(2 * torch.pi * 10_000 * time).expand(4, -1)
    wide, narrow = torch.full((4,), 12_000.0), torch.full((4,), 8000.0)
    real, more = hiss(0), hiss(0) + whistle
    assert spectra.energy_distance(real, more, None, wide)[0] > 0.05
    assert spectra.energy_distance(real, more, None, narrow)[0] < 0.005


# --- the stage ----------------------------------------------------------------------------------------------------


def test_a_few_steps_lower_the_loss_and_find_the_pitch(stage):
    optimizer = loop.optimizer_for(stage.module, weight_decay=0.0)
    batch = next(stage.batches(0.0))
    batch = batch._replace(f0=torch.full_like(batch.f0, 300.0))  # whistles have no pitch that a tracker knows
    seen = []
    for _ in range(16):
        loss, numbers = stage.loss(batch, 0.0)
        loop.step_optimizer(loss, optimizer, 8e-3)
        seen.append(numbers)
    assert seen[-1]["distance"] < 0.8 * seen[0]["distance"]
    assert seen[-1]["pitch"] < 0.7 * seen[0]["pitch"]


def test_pieces_line_up(stage, whistled):
    source, row = stage.clips[0]
    mel, samples, f0 = vocoder.cut(source, row, 8, np.random.default_rng(3))
    assert mel.shape == (80, 16) and samples.shape == (7680,) and f0.shape == (16,)
    assert mel.dtype == samples.dtype == f0.dtype == np.float32
    measured = vocoder.prompt_mel(torch.from_numpy(samples)).numpy()
    strong = measured[:, 3:-3] > -4  # away from the ends, and above the noise on the mel
    assert np.abs(measured - mel)[:, 3:-3][strong].mean() < 0.2
    assert np.abs(samples).max() <= 1


def test_predictor_learns_from_the_pitch_alone(stage):
    batch = next(stage.batches(0.0))
    for progress, n in ((0.0, 4), (1.0, 2)):  # following the tracked pitch, then its own; half of the clips, twice
        loss, _ = stage.loss(batch, progress)
        guess = stage.module.predict_f0(batch.mel[:n])
        alone = vocoder.PITCH_WEIGHT * vocoder.pitch_loss(guess, batch.f0[:n])
        weight = stage.module.f0_predictor.classifier.weight
        (whole,), (own,) = (torch.autograd.grad(x, weight) for x in (loss, alone))
        assert torch.allclose(whole, own, rtol=1e-4, atol=1e-6) and own.abs().max() > 0


def test_chance_is_taken_off_once_clips_are_drawn_twice(stage):
    batch = next(stage.batches(0.0))
    (_, once), (_, twice) = (stage.loss(batch, progress) for progress in (0.0, vocoder.TWICE_FROM))
    assert once["distance"] == once["near"]
    assert twice["distance"] < twice["near"]


def test_what_is_saved_makes_the_same_sound(stage, tmp_path):
    stage.module.load_state_dict({name: x.half().float() for name, x in stage.module.state_dict().items()})
    path = sizes.save_weights(stage.module, tmp_path / sizes.HIFT_FILE)
    again = HiFT(SMALL)
    again.load_state_dict({name: x.float() for name, x in load_file(path).items()})
    mel = next(stage.batches(0.0)).mel[:1]
    with torch.no_grad():
        assert torch.equal(again(mel), stage.module(mel))


def test_report_names_every_number(stage):
    found = stage.report()
    assert set(found) == {"mel_l1", "spectra", "pitch_wrong", "voicing_wrong"}
    assert all(np.isfinite(value) for value in found.values())


def test_nano_fits_its_budget_and_speaks_soon():
    with torch.device("meta"):
        hift = HiFT(sizes.HIFT)
    assert 0.6e6 < sum(p.numel() for p in hift.parameters()) < 1.2e6
    assert hift.lookahead_frames <= 8  # 0.16 s
    assert Token2WavConfig(hift=sizes.HIFT).hift.samples_per_frame == 480
