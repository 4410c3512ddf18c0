"""What else could have been said is what the logits say, and travels with the trace."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.alternatives import alternatives, margin
from analysis.capture import capture_trace, likeliest
from analysis.figures.counterfactual import changes
from analysis.figures.lens import lens_grid
from analysis.trace import Alternatives, CaptureSpec, Trace
from analysis.trace_file import load_trace, save_trace
from model.errors import TraceError
from tests.analysis import toy
from tests.analysis.test_trace_file import edited, written

REPLY = toy.full_reply("man", "cat", "purrs", "right")


@pytest.fixture(scope="module")
def trace() -> Trace:
    """The high tone is there, yet the reply says cat: the toy would have said dog."""
    loaded, conversation = toy.build_toy("thought"), toy.ask(toy.clip((0.2, 0.6), (1.0, 1.4)))
    return capture_trace(loaded, conversation, REPLY, spec=CaptureSpec(alternatives=3))


def test_the_best_ones_are_those_of_the_logits():
    logits = torch.randn(130, 40, generator=torch.Generator().manual_seed(1))
    ids, logprob = likeliest(logits, 4)
    order = torch.argsort(logits, dim=-1, descending=True)[:, :4]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(logprob, logits.log_softmax(-1).gather(1, order), atol=1e-6)
    assert likeliest(logits, 99)[0].shape == (130, 40)


def test_a_planted_slip_shows_what_would_have_been_said(trace):
    found, lead = alternatives(trace), margin(trace)
    said = [trace.tokens.text[place] for place in trace.reply]
    assert found.texts[0].tolist()[:3] == [" man", ".", " dog"] and said[2] == " cat"
    assert found.values.shape == (3, len(REPLY)) and found.values[0, 2] > 0.9
    assert lead.values[2] < -3 and lead.axes[0].labels[2] == "cat / dog"
    assert np.delete(lead.values, 2).min() > 1
    assert lead.values[0] == pytest.approx(trace.tokens.logprob[trace.meta.n_prompt] - trace.alternatives.logprob[0, 1])


def test_they_survive_the_disk(trace):
    back = load_trace(written(trace)).alternatives
    np.testing.assert_array_equal(back.ids, trace.alternatives.ids)
    np.testing.assert_array_equal(back.logprob, trace.alternatives.logprob)
    assert back.text == trace.alternatives.text


def test_files_from_before_have_none(trace):
    def forget(document):
        del document["alternatives"], document["meta"]["capture"]["alternatives"]

    old = load_trace(edited(written(trace), forget))
    assert old.alternatives is None
    with pytest.raises(TraceError, match="without alternatives"):
        alternatives(old)
    buffer = io.BytesIO()
    save_trace(buffer, old)
    assert load_trace(buffer.getvalue()).alternatives is None


@pytest.mark.parametrize(
    "edit",
    [
        lambda kept: kept["ids"].pop(),
        lambda kept: kept["text"][0].pop(),
        lambda kept: kept["text"][0].__setitem__(0, 7),
        lambda kept: kept["logprob"][0].reverse(),
        lambda kept: kept["logprob"][0].__setitem__(0, 3.0),
        lambda kept: [kept[name].pop() for name in kept],
        lambda kept: kept.update(ids="rubbish"),
        lambda kept: kept.pop("text"),
    ],
)
def test_wrong_ones_are_refused(trace, edit):
    with pytest.raises(TraceError):
        load_trace(edited(written(trace), lambda document: edit(document["alternatives"])))


def test_none_are_kept_when_none_are_wanted(trace):
    loaded, conversation = toy.build_toy("thought"), toy.ask(toy.clip((0.2, 0.6), (1.0, 1.4)))
    assert capture_trace(loaded, conversation, REPLY, spec=CaptureSpec(alternatives=0)).alternatives is None
    assert len(capture_trace(loaded, conversation, []).alternatives) == 0
    with pytest.raises(TraceError, match="0 to 50 alternatives"):
        CaptureSpec(alternatives=51)
    one = replace(trace, alternatives=Alternatives(*(part[:, :1] for part in _arrays(trace))))
    with pytest.raises(TraceError, match="a single alternative"):
        margin(one)


def _arrays(trace: Trace):
    kept = trace.alternatives
    return kept.ids, np.array(kept.text), kept.logprob


def test_they_can_be_drawn(trace):
    assert lens_grid(alternatives(trace)).data[0].z is not None
    assert changes(margin(trace)).layout.yaxis.ticktext[2] == "cat / dog"
