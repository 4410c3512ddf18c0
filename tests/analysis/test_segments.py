"""Attention is shared out completely, sinks stand apart, and rollout is the product of the model's own attention."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis import hooks
from analysis.attention import Head, audio_rows, listening_scores
from analysis.capture import capture_trace
from analysis.segments import (
    at_layer,
    by_layer,
    rank_heads,
    rollout,
    segment_shares,
    sink_frames,
    sink_shares,
    without_sinks,
)
from model.errors import TraceError
from tests.analysis.planted import POINTING, SEGMENTS, planted_trace
from tests.analysis.test_capture import forward, n_hooks, reply  # noqa: F401


@pytest.fixture(scope="module")
def trace():
    """Head 1 of layer 0 looks at the first frame whatever is said; head (1, 2) points at the words."""
    return planted_trace()[0]


@pytest.fixture(scope="module")
def short(heard):
    return (heard[0], replace(heard[1], parts=heard[1].parts[:2]), heard[2])


def test_shares_of_every_token_and_layer_sum_to_one(trace):
    shares = segment_shares(trace)
    assert shares.values.shape == (3, trace.n_reply, len(SEGMENTS) + 1)
    assert [axis.name for axis in shares.axes] == ["layer", "query", "segment"]
    np.testing.assert_allclose(shares.values.sum(axis=-1), 1, atol=5e-3)
    whole = segment_shares(trace, sinks_apart=False)
    mass = trace.tensors["attention.segments"].astype(float).mean(axis=1)
    np.testing.assert_allclose(whole.values, mass, atol=1e-12)


def test_the_planted_sink_stands_apart_and_the_pointing_head_has_none(trace):
    found = sink_frames(trace)
    assert np.argwhere(found).tolist() == [[0, 1, 0]]
    one = segment_shares(trace, head=1)
    parked = one.values[0, :, -1]
    assert one.axes[2].labels[-1] == "audio sinks" and (parked > 0.4).all() and not one.values[1:, :, -1].any()
    rows = trace.tensors["attention.audio"].astype(float)[0, 1]
    np.testing.assert_allclose(parked + one.values[0, :, SEGMENTS.index("audio")], rows.sum(axis=-1), atol=2e-3)
    assert sink_shares(trace).values[0, 1] > 0.4


def test_without_sinks_rows_are_whole_again_and_the_sink_is_gone(trace):
    clean = without_sinks(trace)
    rows = clean.tensors["attention.segments"]
    np.testing.assert_allclose(rows.sum(axis=-1), 1, atol=1e-4)
    assert not rows[..., SEGMENTS.index("first token")].any() and not sink_frames(clean)[0, 1, 0]
    assert not audio_rows(clean, Head(0, 1))[:, 0].any()
    before, after = audio_rows(trace, Head(*POINTING)), audio_rows(clean, Head(*POINTING))
    np.testing.assert_allclose(after / after.sum(1, keepdims=True), before / before.sum(1, keepdims=True), atol=2e-3)
    np.testing.assert_allclose(clean.tensors["attention.audio"].sum(-1), rows[..., SEGMENTS.index("audio")], atol=5e-3)


def test_a_row_that_is_all_sink_stays_as_it_is(trace):
    audio = np.zeros_like(trace.tensors["attention.audio"])
    segments = np.zeros_like(trace.tensors["attention.segments"])
    segments[..., SEGMENTS.index("first token")] = 1
    parked = replace(trace, tensors={"attention.audio": audio, "attention.segments": segments})
    np.testing.assert_array_equal(without_sinks(parked).tensors["attention.segments"], segments)


def test_a_short_reply_shows_no_sinks():
    assert not sink_frames(planted_trace((" good", " morning"))[0]).any()


def test_views_of_the_shares(trace):
    shares = segment_shares(trace)
    np.testing.assert_allclose(at_layer(shares, 2).values, shares.values[2])
    np.testing.assert_allclose(at_layer(shares).values, shares.values.mean(axis=0))
    np.testing.assert_allclose(by_layer(shares).values, shares.values.mean(axis=1))
    with pytest.raises(TraceError, match="layer 9"):
        at_layer(shares, 9)
    with pytest.raises(TraceError, match="head 4 of 4"):
        segment_shares(trace, head=4)


def test_heads_are_ranked_by_listening(trace):
    ranked = rank_heads([trace], 3)
    assert ranked.axes[0].labels[0] == "L1 H2" and (np.diff(ranked.values) <= 0).all()
    assert ranked.values[0] == listening_scores([trace]).values.max()


def test_traces_without_attention_are_refused(trace):
    bare = replace(trace, tensors={})
    for measure in (segment_shares, sink_frames, without_sinks):
        with pytest.raises(TraceError, match="attention"):
            measure(bare)


# --- rollout ------------------------------------------------------------------------------------------------------


def product_of_attention(loaded, conversation, reply_ids, residual):
    """Rollout the long way: whole squares of an eager pass, multiplied."""
    prompt = loaded.processor.encode(conversation)
    batch = loaded.processor.collate([replace(prompt, ids=[*prompt.ids, *reply_ids])])
    inputs = {name: batch[name] for name in ("input_ids", "wavs", "wav_lens")}
    flow = torch.eye(batch["input_ids"].shape[1])
    for layer in forward(loaded.model, inputs, output_attentions=True).attentions:
        flow = (residual * torch.eye(len(flow)) + (1 - residual) * layer[0].mean(dim=0)) @ flow
    return flow[len(prompt.ids) - 1 : -1].numpy()


@pytest.mark.parametrize("residual", [0.5, 0.0])
def test_rollout_is_the_product_of_all_layers(tiny_loaded, short, reply, residual, monkeypatch):  # noqa: F811
    expected = product_of_attention(tiny_loaded, short, reply, residual)
    trace = capture_trace(tiny_loaded, short, reply)
    monkeypatch.setattr(hooks, "MAX_BLOCK_ELEMENTS", 4 * expected.shape[1] * 7)  # several blocks of rows
    found = rollout(tiny_loaded, short, reply, residual=residual)
    np.testing.assert_allclose(found.audio.values, expected[:, trace.frames.token], atol=1e-5)
    for place, name in enumerate(found.segments.axes[1].labels):
        members = trace.tokens.segment == trace.meta.segments.index(name)
        np.testing.assert_allclose(found.segments.values[:, place], expected[:, members].sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.segments.values.sum(axis=1), 1, atol=1e-5)


def test_nothing_flows_where_everything_stays_itself(tiny_loaded, short, reply):  # noqa: F811
    found = rollout(tiny_loaded, short, reply, residual=1.0)
    assert not found.audio.values.any()


def test_rollout_changes_nothing_and_can_be_stopped(tiny_loaded, short, reply):  # noqa: F811
    model, hooked, inputs = tiny_loaded.model, n_hooks(tiny_loaded.model), dict(tiny_loaded.processor(short))
    before = forward(model, inputs).logits

    def stop(layer: int) -> None:
        raise InterruptedError(f"layer {layer}")

    with pytest.raises(InterruptedError, match="layer 0"):
        rollout(tiny_loaded, short, reply, on_layer=stop)
    assert torch.equal(before, forward(model, inputs).logits) and n_hooks(model) == hooked
    with pytest.raises(TraceError, match="0 reply tokens"):
        rollout(tiny_loaded, short, [])
