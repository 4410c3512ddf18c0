"""The encoder's attention by distance, against the definition."""

import math

import pytest
import torch

from model.token2wav.flow_encoder import MAX_DISTANCE, RelativeAttention, build_distances
from model.token2wav.flow_state import AttentionMemory


def sinusoid(distance, width):
    rates = [10_000 ** (-k / width) for k in range(0, width, 2)]
    return torch.tensor([f(distance * rate) for rate in rates for f in (math.sin, math.cos)])


@pytest.mark.parametrize(
    ("start", "n", "runs"),
    [(0, 1, [(0, 1)]), (0, 5, [(0, 5)]), (7, 4, [(0, 11)]), (20, 3, [(0, 4), (18, 5)]), (6000, 2, [(0, 3), (5999, 3)])],
)
@torch.no_grad()
def test_attention_is_its_definition(start, n, runs):
    torch.manual_seed(0)
    attention, width = RelativeAttention(8, 2).double(), 8
    keys = [first + k for first, length in runs for k in range(length)]
    x = torch.randn(1, len(keys), width, dtype=torch.float64)
    distances = build_distances(start, n, runs, like=x)
    memory = None
    if len(keys) > n:
        k, v = attention._heads(attention.linear_k(x)), attention._heads(attention.linear_v(x))
        old = torch.cat([k, v], dim=-1)[None, :, :, :-n]
        memory = AttentionMemory(None, old[..., :1, :], old[..., 1:, :])
    ours, new = attention(x[:, -n:], distances, None, memory, 0)
    assert new.shape == (1, 2, n, 8)

    q = attention.linear_q(x).view(-1, 2, 4)[-n:]
    k, v = attention.linear_k(x).view(-1, 2, 4), attention.linear_v(x).view(-1, 2, 4)
    mixed = torch.zeros(n, 2, 4, dtype=torch.float64)
    for i in range(n):
        scores = torch.zeros(len(keys), 2, dtype=torch.float64)
        for j, key in enumerate(keys):
            away = max(-MAX_DISTANCE, min(MAX_DISTANCE, start + i - key))
            position = attention.linear_pos(sinusoid(away, width).double()).view(2, 4)
            content = ((q[i] + attention.pos_bias_u) * k[j]).sum(-1)
            scores[j] = (content + ((q[i] + attention.pos_bias_v) * position).sum(-1)) / 2
        mixed[i] = (scores.softmax(0)[:, :, None] * v).sum(0)
    torch.testing.assert_close(
        ours[0], attention.linear_out(mixed.flatten(1)), atol=2e-3 if start > 100 else 1e-5, rtol=0
    )


def test_distances_stop_at_the_edge_of_the_official_table():
    far = build_distances(9000, 1, [(0, 1), (2000, 1)], like=torch.zeros(4))
    edge = build_distances(MAX_DISTANCE, 1, [(0, 1)], like=torch.zeros(4))
    assert torch.equal(far.table, edge.table.repeat(2, 1))
