"""Attention of the encoder is that of its own weights, pooled without losing a share, and never kept as a square."""

import numpy as np
import pytest
import torch

from analysis.encoder_attention import EncoderAttention, encoder_attention, pooled
from analysis.figures.attention import heatmap
from analysis.figures.effects import effect_map
from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform, log_mel, n_audio_tokens, usable_length
from model.errors import TraceError

RATE = INPUT_SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def sound() -> Waveform:
    return Waveform((0.1 * np.random.default_rng(7).standard_normal(2 * RATE)).astype(np.float32), RATE)


@pytest.fixture(scope="module")
def found(tiny_loaded, sound) -> EncoderAttention:
    return encoder_attention(tiny_loaded, sound)


def test_pooled_weights_are_those_of_the_encoder(tiny_loaded, sound, found):
    mel, whole = log_mel(sound), []
    with torch.inference_mode():
        tiny_loaded.model.encoder(mel[None], torch.tensor([usable_length(mel.shape[-1])]), attentions=whole)
    n, rows = n_audio_tokens(len(sound.samples)), whole[0][0, 2].double().numpy()
    block = rows[8:12, 20:24].sum() / rows[8:12, : 4 * n].sum()  # query 2, key 5
    assert found.weights.shape == (1, 4, n, n)
    assert found.weights[0, 2, 2, 5] == pytest.approx(block, rel=2e-3)
    np.testing.assert_allclose(found.weights.astype(float).sum(axis=-1), 1, atol=5e-3)


def test_planted_looks_have_planted_distances():
    """One head looks at itself, one always a second back, one at everything alike."""
    n, at = 25, 0.04 + 0.08 * np.arange(25)
    here, back = np.eye(n), np.zeros((n, n))
    back[np.arange(n), np.maximum(np.arange(n) - 10, 0)] = 1
    weights = np.stack([here, back, np.full((n, n), 1 / n)])[None].astype(np.float16)
    planted = EncoderAttention((3,), weights, at)
    distance = np.abs(at[:, None] - at[None])
    expected = [0, distance[back > 0].mean(), distance.mean()]
    np.testing.assert_allclose(planted.reach().values[0], expected, atol=1e-3)
    np.testing.assert_allclose(planted.nearby().values[0], [1, back[distance <= 0.2001].sum() / n, 0.19], atol=0.01)
    assert planted.received().values[0, 0] == pytest.approx((1 / n + 11 / n + 1 / n) / 3, abs=1e-3)
    assert planted.map(3, 1).values[20, 10] == 1 and planted.map(3).values[20, 20] == pytest.approx(0.347, abs=1e-3)


def test_pooling_adds_keys_and_averages_queries():
    rows = torch.eye(10)[None]  # ten frames, two positions and a half
    np.testing.assert_allclose(pooled(rows, 2)[0], np.eye(2))
    np.testing.assert_allclose(pooled(torch.full((1, 10, 10), 0.1), 3)[0].sum(-1), 1, rtol=1e-6)


def test_layers_and_heads_can_be_chosen(tiny_loaded, sound, found):
    mean = encoder_attention(tiny_loaded, sound, layers=[0], heads="mean")
    np.testing.assert_allclose(mean.weights[0, 0], found.weights[0].astype(float).mean(axis=0), atol=2e-3)
    assert mean.reach().axes[1].labels == ("mean",)


def test_pieces_of_a_long_clip_have_their_own_times(tiny_loaded):
    rng = np.random.default_rng(0)
    long = Waveform((0.1 * rng.standard_normal(26 * RATE)).astype(np.float32), RATE)
    second = encoder_attention(tiny_loaded, long, piece=1)
    assert second.centre_s[0] == pytest.approx(25.025) and len(second.centre_s) == n_audio_tokens(RATE)
    with pytest.raises(TraceError, match="piece 2"):
        encoder_attention(tiny_loaded, long, piece=2)


def test_looking_changes_nothing(tiny_loaded, sound):
    mel = log_mel(sound)
    lens = torch.tensor([usable_length(mel.shape[-1])])
    with torch.inference_mode():
        before = tiny_loaded.model.get_audio_features(mel[None], lens)[0]
        encoder_attention(tiny_loaded, sound)
        assert torch.equal(before, tiny_loaded.model.get_audio_features(mel[None], lens)[0])


def test_what_does_not_fit_or_is_not_there_is_refused(tiny_loaded, sound, found):
    with pytest.raises(TraceError, match="heads='mean'"):
        encoder_attention(tiny_loaded, sound, max_megabytes=1e-4)
    with pytest.raises(TraceError, match=r"layers \(7,\)"):
        encoder_attention(tiny_loaded, sound, layers=[7])
    with pytest.raises(TraceError, match="layer 1"):
        found.map(1)


def test_it_can_be_drawn(found):
    assert len(heatmap(found.map(0, 1)).data[0].z) == len(found.centre_s)
    assert effect_map(found.reach()).data[0].z is not None
