"""What an edit does to an answer: planted evidence is missed where it was, and records say how they were made."""

import json
import threading

import numpy as np
import pytest

from analysis.attention import Word
from analysis.counterfactual import (
    NO_SOUND,
    answer_of,
    by_word,
    compare,
    counterfactual,
    counterfactuals,
    over_clips,
    whole_clip_edits,
    with_clip,
)
from analysis.edits import Edit
from analysis.scoring import ReplyScorer
from analysis.statistic import Axis, Statistic
from model.chat import Audio
from model.errors import TraceError
from tests.analysis.tones import ask, clips, load_tones, reply_ids


@pytest.fixture(scope="module")
def loaded():
    return load_tones()


@pytest.fixture(scope="module")
def clip():
    """A clip with three bursts and its truth."""
    return next((sound, truth) for sound, truth in clips(20, seed=3) if len(truth) == 3)


def test_a_muted_word_is_the_one_that_loses_most(loaded):
    """Planted truth, token by token, over clips: the muted burst's own token falls most."""
    right = []
    for sound, truth in clips(10, seed=2):
        edits = [Edit("mute", word.start_s, word.end_s) for word in truth]
        found = counterfactuals(loaded, ask(sound), edits, reply_ids=reply_ids(truth), regenerate=False)
        right += [int(np.argmin(one.change.values[:-1])) == k for k, one in enumerate(found)]
    assert np.mean(right) >= 0.9


def test_the_new_answer_lacks_the_muted_word(loaded, clip):
    sound, truth = clip
    found = counterfactual(loaded, ask(sound), Edit("mute", truth[1].start_s, truth[1].end_s))
    first, muted, last = (word.text for word in truth)
    assert found.answer.split() == [first, muted, last]
    assert muted not in found.new_answer.split() and not found.same_answer
    assert [step.operation for step in found.diff if step.reference.strip() == muted] in (["delete"], ["substitute"])
    assert float(found.total) < -1


def test_an_edit_that_changes_nothing_changes_nothing(loaded, clip):
    sound, truth = clip
    found = counterfactual(loaded, ask(sound), Edit("stretch", 0.1, 0.3, settings={"factor": 1.0, "fade_s": 0.0}))
    same = counterfactual(loaded, ask(sound), Edit("replace", 0.1, 0.3, settings={"other": sound.slice_s(0.1, 0.3)}))
    np.testing.assert_allclose(same.change.values, 0, atol=0.3)
    assert same.same_answer and {step.operation for step in same.diff} == {"equal"}
    assert len(found.tokens) == len(truth) + 1


def test_scores_are_those_of_the_edited_sound(loaded, clip):
    sound, truth = clip
    edit, ids = Edit("noise", 0.2, 0.6, seed=7), reply_ids(truth)
    found = counterfactual(loaded, ask(sound), edit, reply_ids=ids, regenerate=False)
    np.testing.assert_allclose(found.before, ReplyScorer(loaded, ask(sound), ids).baseline, atol=1e-5)
    np.testing.assert_allclose(found.after[0], ReplyScorer(loaded, ask(edit(sound)), ids).baseline, atol=1e-4)
    assert found.new_turn is None and found.diff == () and found.same_answer is None and found.new_answer is None


def test_repeats_try_other_seeds_and_give_intervals(loaded, clip):
    sound, _ = clip
    found = counterfactual(loaded, ask(sound), Edit("noise", 0.2, 0.8, seed=5), repeats=4, regenerate=False)
    assert found.seeds == (5, 6, 7, 8) and found.after.shape[0] == 4
    assert (found.change.low < found.change.values).any() and found.change.n == 4
    np.testing.assert_allclose(found.effect.patched, found.after.sum(axis=1))
    assert found.effect.change.values.mean() == pytest.approx(float(found.total))
    muted = counterfactual(loaded, ask(sound), Edit("mute", 0.2, 0.8), repeats=4, regenerate=False)
    assert muted.seeds == (None,) and muted.change.low is None  # nothing is drawn, so nothing is repeated
    json.dumps([found.to_dict(), muted.to_dict()])


def test_the_whole_clip_can_be_taken_away(loaded, clip):
    sound, truth = clip
    other = clips(1, seed=9)[0][0]
    edits = whole_clip_edits(other=other, seed=2)
    found = counterfactuals(loaded, ask(sound), edits, reply_ids=reply_ids(truth))
    assert [one.label for one in found] == ["mute all", "noise all", "replace all", NO_SOUND]
    bars = compare(found)
    assert (bars.values < -3).all() and bars.axes[0].labels == tuple(one.label for one in found)
    assert found[2].new_turn.ids == answer_of(loaded, ask(other))
    json.dumps([one.to_dict() for one in found] + [bars.to_dict()])
    assert len(whole_clip_edits()) == 3


def test_clips_are_counted_in_reading_order(heard):
    short, long = (part.waveform for part in heard[1].parts if isinstance(part, Audio))
    swapped = with_clip(heard, 1, short)
    assert [part.waveform for part in swapped[1].parts if isinstance(part, Audio)] == [short, short]
    assert [part.name for part in swapped[1].parts if isinstance(part, Audio)] == ["short.wav", "long.wav"]
    without = with_clip(heard, 0, None)
    assert [part.waveform for part in without[1].parts if isinstance(part, Audio)] == [long]
    assert with_clip(heard, 2, None) == heard


def test_the_second_clip_can_be_edited(tiny_loaded, heard):
    ids = [5, 6, tiny_loaded.processor.ids.eot]
    found = counterfactual(tiny_loaded, heard, Edit("mute", 3.0, 9.0), clip=1, reply_ids=ids, regenerate=False)
    assert np.abs(found.change.values).max() > 1e-3
    with pytest.raises(TraceError, match="found 2 clips"):
        counterfactual(tiny_loaded, heard, Edit("mute"), clip=2, reply_ids=ids)


def test_a_cancelled_run_says_what_it_did_not_reach(loaded, clip):
    cancel = threading.Event()
    cancel.set()
    found = counterfactual(loaded, ask(clip[0]), Edit("mute", 0.2, 0.4), reply_ids=reply_ids(clip[1]), cancel=cancel)
    assert np.isnan(found.after).all() and found.new_turn is None


def test_progress_names_both_ways(loaded, clip):
    told = []
    counterfactual(loaded, ask(clip[0]), Edit("cut", 0.2, 0.4), progress=lambda step, done: told.append((step, done)))
    assert told[0] == ("score", 0.0) and ("score", 1.0) in told and told[-1] == ("answer", 1.0)


def test_tokens_add_up_to_words():
    axes = (Axis("query", labels=("co", "ffee", ".")), Axis("time", values=np.array([0.0, 1.0])))
    statistic = Statistic("drop", [[1, 2], [3, 4], [9, 9]], axes, "nat")
    added = by_word(statistic, [Word("coffee", (0, 1))])
    np.testing.assert_array_equal(added.values, [[4, 6]])
    assert added.axes[0].labels == ("coffee",) and added.axes[1].name == "time"


def test_many_clips_have_one_mean_with_an_interval(loaded):
    found, edits = [], [Edit("mute"), Edit("mute", 0.0, 0.02)]
    for sound, truth in clips(5, seed=4):
        found.append(counterfactuals(loaded, ask(sound), edits, reply_ids=reply_ids(truth), regenerate=False))
    mean = over_clips({"silence": [one for one, _ in found], "next to nothing": [one for _, one in found]})
    assert mean.low[0] <= mean.values[0] <= mean.high[0] < mean.low[1] and mean.n == 5
    assert mean.values[0] == pytest.approx(np.mean([one.change.values.mean() for one, _ in found]))
