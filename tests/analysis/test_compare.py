"""Two hand-made traces that differ in a known way: the comparison says in which, and by how much."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.attention import Head, listening_scores, segment_mass
from analysis.compare import compare_traces, mean_segments
from analysis.figures.counterfactual import changes
from analysis.figures.curves import curves
from analysis.figures.effects import effect_map
from model.errors import TraceError
from model.events import TurnDone
from tests.analysis.planted import ENGLISH, POINTING, planted_trace

LAG_S = 0.24
OTHER = tuple(" tea" if piece == " coff" else piece for piece in ENGLISH if piece != "ee")
"""One word in two tokens becomes another in one."""
HEADS = {"left": Head(*POINTING), "right": Head(*POINTING)}


@pytest.fixture(scope="module")
def left():
    return planted_trace(ENGLISH)[0]


@pytest.fixture(scope="module")
def later(left):
    """The same words half as likely, looked for later; the turn took 0.3 s longer."""
    trace = planted_trace(ENGLISH, lag_s=LAG_S)[0]
    tokens = replace(left.tokens, logprob=left.tokens.logprob - np.float32(np.log(2)))
    events = (*left.events[:-1], replace(left.events[-1], t_s=left.events[-1].t_s + 0.3))
    return replace(trace, tokens=tokens, events=events)


def test_the_same_trace_does_not_differ_from_itself(left):
    found = compare_traces(left, left)
    assert float(found.same) == 1 and found.same.n == len(ENGLISH) + 1
    for statistic in (
        found.logprob(),
        found.entropy(),
        found.attended(),
        found.segments(),
        found.heads(),
        found.timings(),
    ):
        np.testing.assert_array_equal(statistic.values, 0)


def test_planted_differences_are_found(left, later):
    found = compare_traces(left, later)
    np.testing.assert_allclose(found.logprob().values, -np.log(2), atol=1e-6)
    shifts = found.attended(**HEADS).values[: len(ENGLISH) - 1]
    assert np.median(shifts) == pytest.approx(LAG_S, abs=0.04)
    timings = found.timings()
    assert dict(zip(timings.axes[0].labels, timings.values.round(6))) == {"first text": 0.0, "turn over": 0.3}
    summary = found.summary()
    measures = dict(zip(summary.axes[0].labels, summary.values))
    assert measures["turn over (s)"] == pytest.approx(0.3) and measures["share of the reply that is the same"] == 1
    assert measures["log-probability of what is the same"] == pytest.approx(-np.log(2) * len(found.pairs), abs=1e-4)


def test_replies_are_paired_token_by_token(left):
    found = compare_traces(left, planted_trace(OTHER)[0])
    odd = [pair for pair in found.pairs if pair.operation != "equal"]
    assert [(pair.operation, pair.text) for pair in odd] == [("delete", "coff →"), ("substitute", "ee → tea")]
    assert (odd[0].left, odd[0].right, odd[1].left, odd[1].right) == (6, None, 7, 6)
    assert (found.pairs[-1].left, found.pairs[-1].right) == (len(ENGLISH), len(OTHER))
    values = found.logprob().values
    assert np.isnan(values[6:8]).all() and np.isfinite(np.delete(values, [6, 7])).all()


def test_words_are_paired_where_tokens_are_cut_otherwise(left):
    cut = ("good", " mor", "ning", *ENGLISH[2:])
    tokens, by_word = (compare_traces(left, planted_trace(cut)[0], per=per) for per in ("token", "word"))
    assert float(by_word.same) == 1 > float(tokens.same) and by_word.pairs[1].text == "morning"
    reply = planted_trace(cut)[0].tokens.logprob[-len(cut) - 1 :].astype(float)
    before = left.tokens.logprob[-len(ENGLISH) - 1 :].astype(float)
    assert by_word.logprob().values[1] == pytest.approx(reply[1:3].sum() - before[1])


def test_segments_and_heads_are_right_minus_left(left, later):
    found = compare_traces(left, later)
    np.testing.assert_allclose(found.segments().values, segment_mass(later).values - segment_mass(left).values)
    expected = listening_scores([later]).values - listening_scores([left]).values
    np.testing.assert_allclose(found.heads().values, expected)


def test_only_what_both_have_is_compared(left, later):
    two = replace(
        later,
        meta=replace(later.meta, layers=later.meta.layers[:2]),
        tensors={name: tensor[:2] for name, tensor in later.tensors.items()},
    )
    found = compare_traces(left, two)
    assert found.segments().axes[0].labels == ("0", "1")
    with pytest.raises(TraceError, match="the same heads"):
        found.heads()
    quiet = compare_traces(left, replace(later, events=()))
    assert "turn over (s)" not in quiet.summary().axes[0].labels
    with pytest.raises(TraceError, match="without an end"):
        quiet.timings()


def test_attention_over_time_stands_on_one_axis(left, later):
    shorter = planted_trace(ENGLISH[:4], seconds=2.0)[0]
    found = compare_traces(left, later).over_time(**HEADS)
    np.testing.assert_allclose(found.values.sum(axis=1), 1)
    time = found.axis("time").values
    first, second = found.values @ time
    assert second - first == pytest.approx(LAG_S, abs=0.08)
    assert len(compare_traces(left, shorter).over_time(**HEADS).axes[1]) == len(shorter.frames)
    assert found.axes[0].labels[0].startswith("left: ")


def test_many_comparisons_have_an_interval(left, later):
    one, two = compare_traces(left, later), compare_traces(left, left)
    found = mean_segments([one, two])
    np.testing.assert_allclose(found.values, one.segments().values / 2, atol=1e-9)
    assert found.n == 2 and found.low is not None
    with pytest.raises(TraceError, match="0 comparisons"):
        mean_segments([])


def test_everything_can_be_drawn(left, later):
    found = compare_traces(left, planted_trace(OTHER)[0])
    assert changes(found.logprob()).layout.yaxis.ticktext[7] == "ee → tea"
    assert len(curves(compare_traces(left, later).over_time()).data) == 2
    assert effect_map(found.segments()).data[0].z is not None
    assert isinstance(left.events[-1], TurnDone)
