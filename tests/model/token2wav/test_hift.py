"""The vocoder agrees with the official code on the golden values, and refuses what it cannot use."""

import numpy as np
import pytest
import torch

from model.errors import AudioError
from model.token2wav import hift as hift_module
from model.token2wav.config import HiftConfig
from model.token2wav.hift import HiFT
from model.token2wav.hift_source import GivenNoise, NoNoise, SourceNoise
from tests.golden_recipe import draw_vocoder_inputs, read_arrays, read_json, read_vocoder

WAVE_TOLERANCE, SOURCE_TOLERANCE, F0_TOLERANCE_HZ = 1e-4, 5e-5, 1e-3
STREAM_PIECES = ((0, 20), (20, 38), (38, 47))


@pytest.fixture(scope="module")
def vocoder():
    return read_vocoder()


@pytest.fixture(scope="module")
def inputs():
    return draw_vocoder_inputs()


@pytest.fixture(scope="module")
def golden():
    return {name: torch.from_numpy(array) for name, array in read_arrays("hift.npz").items()}


def largest_gap(ours, theirs):
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


def test_recipe_draws_the_probed_weights(vocoder):
    weights = vocoder.state_dict()
    for name, probe in read_json("weight_probe.json")["hift"].items():
        assert list(weights[name].shape) == probe["shape"]
        assert weights[name].flatten()[:4].tolist() == pytest.approx(probe["first4"], abs=0)
        assert weights[name].double().sum().item() == pytest.approx(probe["sum"], abs=1e-6)


def test_names_and_shapes_at_the_size_of_mini():
    with torch.device("meta"):
        mini = HiFT(HiftConfig())
    shapes = {name: list(weight.shape) for name, weight in mini.state_dict().items()}
    assert shapes == read_json("mini_hift_shapes.json")


@torch.no_grad()
def test_pitch(vocoder, inputs, golden):
    assert largest_gap(vocoder.predict_f0(inputs["mel"]), golden["f0"]) < F0_TOLERANCE_HZ


@pytest.mark.parametrize("case", ["quiet", "noisy"])
@torch.no_grad()
def test_excitation_and_wave(vocoder, inputs, golden, case):
    noise = NoNoise() if case == "quiet" else GivenNoise(samples=inputs["sine_noise"].numpy())
    source = vocoder.excite(vocoder.predict_f0(inputs["mel"]), noise=noise)
    assert largest_gap(source[:, 0], golden[f"{case}__source"]) < SOURCE_TOLERANCE
    assert largest_gap(vocoder(inputs["mel"], noise=noise), golden[f"{case}__wave"]) < WAVE_TOLERANCE


@torch.no_grad()
def test_limits_of_magnitude_and_samples(vocoder, inputs, golden):
    mel = inputs["loud_mel"]
    source = vocoder.excite(vocoder.predict_f0(mel), noise=NoNoise())
    assert largest_gap(source[:, 0], golden["loud__source"]) < SOURCE_TOLERANCE
    assert largest_gap(vocoder.decode(mel, golden["loud__source"][:, None]), golden["loud__wave"]) < WAVE_TOLERANCE


def test_official_stream(vocoder, inputs, golden):
    state, samples = vocoder.start(noise=NoNoise(), parity=True), []
    for start, end in STREAM_PIECES:
        piece, state = vocoder.step(inputs["stream_mel"][..., start:end], state, last=end == 47)
        samples.append(piece)
    assert [piece.shape[1] for piece in samples] == golden["stream__emitted"].tolist()
    wave = torch.cat(samples, dim=1)
    assert largest_gap(wave, golden["stream__wave"]) < WAVE_TOLERANCE
    pcm = (wave[0, :4000].numpy().clip(-1, 1) * 32767).astype(np.int16)  # one step: a value may lie on a whole number
    assert np.abs(pcm.astype(int) - golden["stream__pcm_head"].numpy()).max() <= 1


@torch.no_grad()
def test_batch_equals_single(vocoder, inputs):
    mels = torch.cat([inputs["mel"], inputs["stream_mel"][..., :26]])
    both = vocoder(mels)
    for row, mel in enumerate(mels):
        assert largest_gap(both[row], vocoder(mel[None])[0]) < 2e-6


@torch.no_grad()
def test_folded_weights_give_the_same_wave(inputs):
    folded = read_vocoder().fold()
    assert not any("parametrizations" in name for name in folded.state_dict())
    assert largest_gap(folded(inputs["mel"]), read_vocoder()(inputs["mel"])) < 1e-6


@torch.no_grad()
def test_long_mels_are_run_in_pieces(vocoder, inputs, monkeypatch):
    whole = vocoder(inputs["stream_mel"])
    monkeypatch.setattr(hift_module, "PIECE_FRAMES", 11)
    assert largest_gap(vocoder(inputs["stream_mel"]), whole) < 2e-6


@pytest.mark.parametrize("causal", [False, True])
def test_every_weight_is_trained(inputs, causal):
    vocoder = read_vocoder(causal=causal)
    mel = inputs["mel"].clone().requires_grad_()
    vocoder(mel, generator=torch.Generator().manual_seed(0)).square().mean().backward()
    assert [name for name, weight in vocoder.named_parameters() if weight.grad is None] == []
    assert all(weight.grad.isfinite().all() for weight in vocoder.parameters())
    assert mel.grad.abs().sum() > 0


def test_huge_magnitudes_have_finite_gradients(vocoder):
    mel = torch.full((1, 80, 4), 1e4, requires_grad=True)
    vocoder(mel).sum().backward()
    assert mel.grad.isfinite().all()


@torch.no_grad()
def test_pitch_stays_exact_under_autocast(vocoder, inputs):
    exact = vocoder(inputs["mel"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = vocoder(inputs["mel"])
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(rough, exact).item() > 0.99


@torch.no_grad()
def test_half_precision_mels_are_taken(vocoder, inputs):
    assert vocoder(inputs["mel"].bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("mel", "found"),
    [
        (np.zeros((1, 80, 4), np.float32), "an object of type ndarray"),
        (torch.zeros(80, 4), r"a tensor of shape \[80, 4\]"),
        (torch.zeros(1, 4, 80), r"a tensor of shape \[1, 4, 80\]"),
        (torch.zeros(0, 80, 4), r"a tensor of shape \[0, 80, 4\]"),
        (torch.zeros(1, 80, 4, dtype=torch.int64), "a tensor of torch.int64"),
        (torch.zeros(1, 80, 0), "a mel without frames"),
        (torch.full((1, 80, 4), float("nan")), "a mel with NaN"),
        (torch.full((1, 80, 4), float("inf")), "a mel with NaN or infinity"),
    ],
)
def test_bad_mels_are_refused(vocoder, mel, found):
    with pytest.raises(AudioError, match=found):
        vocoder(mel)


def test_bad_steps_are_refused(vocoder, inputs):
    mel = inputs["mel"]
    _, ended = vocoder.step(mel, vocoder.start(), last=True)
    with pytest.raises(AudioError, match="a state after the last piece"):
        vocoder.step(mel, ended)
    for n_frames in (5, 26):
        _, state = vocoder.step(mel[..., :n_frames], vocoder.start())
        with pytest.raises(AudioError, match="a mel of 2 rows, expected 1 rows"):
            vocoder.step(mel.expand(2, -1, -1), state)
    with pytest.raises(AudioError, match="NaN"):
        vocoder.step(mel * float("nan"), vocoder.start())
    with pytest.raises(AudioError, match="a first piece of 7 frames"):
        vocoder.step(mel[..., :7], vocoder.start(parity=True))


@pytest.mark.gpu
@torch.no_grad()
def test_gpu_equals_cpu(inputs, golden):
    vocoder = read_vocoder().cuda()
    source = golden["quiet__source"][:, None].cuda()
    assert largest_gap(vocoder.decode(inputs["mel"].cuda(), source).cpu(), golden["quiet__wave"]) < 1e-3
    samples, _ = vocoder.step(inputs["mel"].cuda(), vocoder.start(noise=SourceNoise(3)), last=True)
    assert samples.is_cuda and samples.isfinite().all()
