"""Knockout hides exactly what it is told to: nothing, the sound, or a step; no row knows of another."""

import threading

import numpy as np
import pytest

from analysis import knockout
from analysis.capture import capture_trace
from analysis.counterfactual import clip_of, with_clip
from analysis.edits import Edit
from analysis.knockout import Knockout, score_knockouts
from analysis.scoring import ReplyScorer
from model.errors import TraceError
from tests.analysis import toy


@pytest.fixture(scope="module")
def reply(tiny_loaded) -> list[int]:
    return tiny_loaded.processor.encode_text("good morning 你好")


def test_hiding_nothing_changes_nothing(tiny_loaded, heard, reply):
    trace = capture_trace(tiny_loaded, heard, reply)
    found = score_knockouts(tiny_loaded, heard, reply, [Knockout(())])
    np.testing.assert_allclose(found[0], trace.tokens.logprob[list(trace.reply)], atol=2e-4)


def test_what_is_hidden_cannot_matter(tiny_loaded, heard, reply):
    """With all of the sound hidden, another sound gives the same scores."""
    n = len(tiny_loaded.processor.encode(heard).ids)
    ids = np.array(tiny_loaded.processor.encode(heard).ids)
    sound = tuple(int(k) for k in np.flatnonzero(ids == tiny_loaded.processor.ids.audio_patch))
    quiet = with_clip(heard, 0, Edit("mute")(clip_of(heard, 0)))
    first, second = (score_knockouts(tiny_loaded, one, reply, [Knockout(sound, 0)]) for one in (heard, quiet))
    np.testing.assert_allclose(first, second, atol=2e-4)
    plain = score_knockouts(tiny_loaded, heard, reply, [Knockout((), n)])
    assert np.abs(first - plain).max() > 1e-2


def test_only_later_positions_are_blind(tiny_loaded, heard, reply):
    """Tokens predicted before the knockout begins keep their scores bit by bit, up to rounding."""
    n = len(tiny_loaded.processor.encode(heard).ids)
    plain, blind = score_knockouts(tiny_loaded, heard, reply, [Knockout(()), Knockout(tuple(range(1, n)), n + 1)])
    np.testing.assert_allclose(plain[:2], blind[:2], atol=1e-5)
    assert np.abs(plain[2:] - blind[2:]).max() > 1e-2


def test_batches_do_not_mix(tiny_loaded, heard, reply, monkeypatch):
    wanted = [Knockout((5, 6)), Knockout((9,), 12), Knockout(())]
    together = score_knockouts(tiny_loaded, heard, reply, wanted)
    monkeypatch.setattr(knockout, "MAX_POSITIONS", 1)
    np.testing.assert_allclose(together, score_knockouts(tiny_loaded, heard, reply, wanted), atol=2e-4)


def test_a_planted_link_is_cut_and_others_are_not():
    loaded, ids = toy.build_toy("thought"), toy.full_reply("man", "dog", "barks", "left")
    conversation = toy.ask(toy.clip((0.2, 0.6), (1.0, 1.4)))
    n = len(loaded.processor.encode(conversation).ids)
    plain = ReplyScorer(loaded, conversation, ids).baseline
    dog, man = (score_knockouts(loaded, conversation, ids, [Knockout((n + k,), n + k)])[0] for k in (2, 0))
    assert (plain - dog)[4] > 3 and np.abs(np.delete(plain - dog, 4)).max() < 0.1
    assert np.abs(plain - man).max() < 0.1


def test_progress_is_told_and_cancelling_leaves_nan(tiny_loaded, heard, reply, monkeypatch):
    monkeypatch.setattr(knockout, "MAX_POSITIONS", 1)
    told, cancel = [], threading.Event()
    found = score_knockouts(
        tiny_loaded, heard, reply, [Knockout(())] * 3, progress=lambda *a: (told.append(a), cancel.set()), cancel=cancel
    )
    assert told == [("hide", 1 / 3)] and np.isfinite(found[0]).all() and np.isnan(found[1:]).all()


@pytest.mark.parametrize("hidden, ids", [((10**6,), [1]), ((0,), [])])
def test_what_is_not_there_is_refused(tiny_loaded, heard, hidden, ids):
    with pytest.raises(TraceError, match="hide positions"):
        score_knockouts(tiny_loaded, heard, ids, [Knockout(hidden)])
