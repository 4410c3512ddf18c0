"""Noise that a seed and the number of a frame decide."""

import numpy as np
import pytest
import torch

from model.errors import AudioError, OptionsError
from model.token2wav.flow_noise import NOISE_PAGE, GivenNoise, SeededNoise


def test_slices_of_noise_are_the_noise():
    noise, rng = SeededNoise(7), np.random.default_rng(0)
    whole = noise.frames(0, 1000)
    for _ in range(20):
        start, stop = sorted(rng.integers(0, 1000, 2).tolist())
        assert torch.equal(noise.frames(start, stop), whole[..., start:stop])
    assert torch.equal(noise.frames(NOISE_PAGE, NOISE_PAGE), whole[..., :0])


def test_noise_is_standard_normal_and_does_not_repeat():
    noise = SeededNoise(0).frames(0, 40 * NOISE_PAGE)
    assert noise.shape == (1, 80, 40 * NOISE_PAGE) and noise.dtype == torch.float32
    assert abs(noise.mean().item()) < 0.005
    assert noise.std().item() == pytest.approx(1, abs=0.005)
    pages = noise[0].unfold(-1, NOISE_PAGE, NOISE_PAGE).transpose(0, 1).flatten(1)
    assert torch.corrcoef(pages).fill_diagonal_(0).abs().max() < 0.05


def test_a_seed_means_the_same_numbers_for_ever():
    noise = SeededNoise(3, 2)
    assert noise.frames(0, 2).flatten().tolist() == pytest.approx([2.41715, 0.142763, 1.019464, 0.945658], abs=1e-5)
    assert noise.frames(256, 257).flatten().tolist() == pytest.approx([0.659815, -0.765937], abs=1e-5)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None, "a"])
def test_other_seeds_are_refused(seed):
    with pytest.raises(OptionsError, match="a whole number, 0 or more"):
        SeededNoise(seed)


def test_a_buffer_ends():
    noise = GivenNoise(torch.arange(10.0).reshape(1, 1, 10))
    assert noise.frames(3, 5).tolist() == [[[3.0, 4.0]]]
    with pytest.raises(AudioError, match="noise for 10 frames, expected at least 11"):
        noise.frames(9, 11)
