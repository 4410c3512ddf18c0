"""Parts of the estimator."""

import pytest
import torch

from model.token2wav.config import EstimatorConfig
from model.token2wav.dit import CausalConvs, DiT, attend
from model.token2wav.flow_state import AttentionMemory, EstimatorPast


@pytest.mark.parametrize("masked", [False, True])
def test_attention_for_training_equals_attention_for_use(masked):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    mask = torch.rand(2, 1, 5, 7) > 0.3 if masked else None
    expected = attend(q, k, v, mask)
    torch.testing.assert_close(attend(q.requires_grad_(), k, v, mask), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_convolutions_look_back_only_and_go_on_from_their_tails():
    convolutions = CausalConvs(4)
    x = torch.randn(1, 9, 4)
    whole, _ = convolutions(x, None)
    tails, pieces = None, []
    for piece in x.split([1, 3, 5], dim=1):
        out, tails = convolutions(piece, tails)
        pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-6, rtol=0)
    assert tails.shape == (1, 2, 4, 2)


@torch.no_grad()
def test_past_is_given_back_only_where_one_was_given():
    config = EstimatorConfig(in_channels=16, out_channels=4, depth=2, num_heads=2, head_dim=4, hidden_size=8)
    estimator, mel, t = DiT(config), torch.randn(2, 4, 6), torch.tensor([0.1, 0.7])
    speaker = torch.randn(2, 4)
    velocity, past = estimator(mel, mel, t, speaker, mel)
    assert velocity.shape == mel.shape and past is None
    _, past = estimator(mel, mel, t, speaker, mel, past=EstimatorPast(AttentionMemory(3)))
    assert past.memory.prompt.shape == (2, 2, 2, 6, 8) and past.tails.shape == (2, 2, 2, 8, 2)
    _, past = estimator(mel, mel, t, speaker, mel, past=past)
    assert (past.memory.prompt.shape[-2], past.memory.recent.shape[-2], past.memory.n) == (6, 3, 9)
