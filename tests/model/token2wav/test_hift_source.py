"""Pitch to excitation: sines against their formula, noise by place, and what is refused."""

import math

import numpy as np
import pytest
import torch

from model.errors import OptionsError
from model.token2wav.config import HiftConfig
from model.token2wav.hift_source import GivenNoise, HarmonicSource, NoNoise, SourceNoise
from model.token2wav.hift_tape import Tape

RATE, HOP = 24_000, 480


@pytest.fixture
def source():
    """An excitation of the pitch alone, not bent by tanh more than can be undone."""
    source = HarmonicSource(HiftConfig())
    with torch.no_grad():
        source.l_linear.weight.copy_(torch.eye(9)[:1])
        source.l_linear.bias.zero_()
    return source


def sines(source, f0):
    with torch.no_grad():
        return torch.atanh(source(f0, Tape(), NoNoise())[0, 0]).double()


def test_a_steady_pitch_is_a_sine(source):
    wave = sines(source, torch.full((1, 100), 200.0))
    time = torch.arange(100 * HOP).double() - HOP / 2 + 0.5  # from the centre of the first frame
    expected = 0.1 * torch.sin(2 * math.pi * 200 * (time / RATE + HOP / RATE))
    inside = slice(HOP // 2, -HOP // 2)
    torch.testing.assert_close(wave[inside], expected[inside], atol=1e-5, rtol=0)


def test_the_phase_of_a_gliding_pitch_has_no_step(source):
    f0 = torch.linspace(80, 400, 50)[None]
    steps = sines(source, f0).diff().abs()
    assert steps.max() < 1.01 * 0.1 * 2 * math.pi * 400 / RATE


def test_unvoiced_frames_have_noise_only(source):
    f0 = torch.tensor([[5.0] * 20 + [200.0] * 20])
    assert sines(source, f0)[: 20 * HOP].abs().max() == 0
    with torch.no_grad():
        noisy = torch.atanh(source(f0, Tape(), SourceNoise())[0, 0]).double()
    noise = noisy - sines(source, f0)
    assert noise[: 20 * HOP].std().item() == pytest.approx(0.1 / 3, rel=0.05)
    assert noise[20 * HOP :].std().item() == pytest.approx(0.003, rel=0.05)


def test_rows_of_a_batch_draw_their_own_noise_in_training(source):
    f0 = torch.full((2, 4), 5.0)
    with torch.no_grad():
        drawn = source(f0, Tape(), generator=torch.Generator().manual_seed(0))
        placed = source(f0, Tape(), SourceNoise())
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(placed[0], placed[1])


@pytest.mark.parametrize("noise", [SourceNoise(), SourceNoise(2**64 - 1), NoNoise()])
def test_noise_is_a_function_of_place(noise):
    whole = noise.frames(0, 40, 90)
    assert whole.shape == (40, 90) and whole.dtype == np.float32
    assert np.array_equal(noise.frames(13, 5, 90), whole[13:18])
    assert noise.frames(7, 0, 90).shape == (0, 90)


def test_given_noise_is_handed_out_by_place():
    samples = np.arange(40 * 90.0).reshape(-1, 9)
    assert np.array_equal(GivenNoise(samples=samples).frames(13, 5, 90), samples.reshape(40, 90)[13:18])


def test_noise_is_standard_normal_and_frames_are_independent():
    drawn = SourceNoise(1).frames(0, 100, 4320)
    assert abs(drawn.mean()) < 0.005 and drawn.std() == pytest.approx(1, abs=0.005)
    others = np.corrcoef(drawn)[~np.eye(100, dtype=bool)]
    assert np.abs(others).max() < 0.1
    assert np.abs(np.corrcoef(drawn[0], SourceNoise(2).frames(0, 1, 4320)[0])[0, 1]) < 0.1


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0"])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(OptionsError, match="a whole number from 0"):
        SourceNoise(seed)
