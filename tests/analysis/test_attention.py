"""Times read from attention: the planted answer is found, and nothing is found where nothing was planted."""

from dataclasses import replace

import numpy as np
import pytest

from analysis import attention
from analysis.attention import Head, WordTime
from analysis.trace import Trace
from model.errors import TraceError
from tests.analysis.planted import CHINESE, POINTING, planted_trace

HEAD = Head(*POINTING)


@pytest.fixture(scope="module")
def clips() -> list[tuple[Trace, list[WordTime]]]:
    return [planted_trace(seed=seed, seconds=3.5 + 0.3 * seed) for seed in range(6)]


def with_reply(trace: Trace, texts: tuple[str, ...]) -> Trace:
    """The same trace saying something else, token for token."""
    tokens = trace.tokens
    return replace(trace, tokens=replace(tokens, text=(*tokens.text[: trace.meta.n_prompt], *texts)))


def said(pieces: tuple[str, ...]) -> list[str]:
    return [word.text for word in attention.words(planted_trace(pieces)[0])]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (("good", " morning", "."), ["good", "morning"]),
        ((" coff", "ee", ",", " please", "!"), ["coffee", "please"]),
        (("it", "'s", " twenty", "-", "two"), ["it's", "twenty-two"]),
        (("今天", "天气", "很", "好", "。"), ["今天", "天气", "很", "好"]),
        (("说", " hello", "吧"), ["说", "hello", "吧"]),
        (("a", "\n", "b", "?", "c"), ["a", "b", "c"]),
    ],
)
def test_tokens_become_words(pieces, expected):
    assert said(pieces) == expected


def test_tokens_of_a_split_character_belong_to_it():
    trace, _ = planted_trace(("好", "天", "气"))
    trace = with_reply(trace, ("好", "", "气", "<|EOT|>"))
    assert attention.words(trace) == (attention.Word("好", (0,)), attention.Word("气", (1, 2)))


def test_words_are_matched_across_different_cuts():
    trace, _ = planted_trace(CHINESE)
    truth = [WordTime("今", 0, 1), WordTime("天天气", 1, 2), WordTime("很好", 2, 3), WordTime("吗", 3, 4)]
    assert attention.match_words(trace, truth) == {0: (0,), 1: (0, 1), 2: (2, 3)}


def test_a_misheard_word_is_not_measured():
    trace, truth = planted_trace()
    changed = [word._replace(text="evening") if word.text == "morning" else word for word in truth]
    found = attention.match_words(trace, changed)
    assert [changed[k].text for k in sorted(set(range(len(truth))) - set(found))] == ["evening"]


def test_attention_weighted_time_of_a_hand_worked_row():
    frame = np.array([0.0, 1.0, 2.0, 3.0])
    rows = np.array([[0.0, 0.1, 0.1, 0.0], [0.0, 0.3, 0.0, 0.1], [0.0] * 4])
    one_clip = np.zeros(4, dtype=int)
    np.testing.assert_allclose(attention._times(rows, frame, one_clip, "mean"), [1.5, 1.5, np.nan])
    np.testing.assert_allclose(attention._times(rows, frame, one_clip, "median"), [1.0, 1.0, np.nan])
    two_clips = np.array([0, 0, 1, 1])
    np.testing.assert_allclose(attention._times(rows[1:2], frame, two_clips, "mean"), [1.0])


def test_times_of_the_pointing_head_are_the_word_centres():
    trace, truth = planted_trace()
    true_s = np.array([word.centre_s for word in truth])
    times = attention.attention_time_s(trace, HEAD, per="word")
    assert times.axes[0].labels == tuple(word.text for word in truth)
    assert np.median(np.abs(times.values - true_s)) < 0.1  # the tenth of it that is noise pulls the mean inwards
    times = attention.attention_time_s(trace, HEAD, per="word", centre="median")
    assert np.abs(times.values - true_s).max() < 0.1
    assert len(attention.attention_time_s(trace).values) == trace.n_reply


def test_listening_score_finds_the_planted_head(clips):
    scores = attention.listening_scores([trace for trace, _ in clips])
    assert attention.best_head([trace for trace, _ in clips]) == HEAD
    assert scores.values[POINTING] > 3 * np.sort(scores.values, axis=None)[-2]
    assert scores.n == 6 and ((scores.values >= 0) & (scores.values <= 1)).all()


def test_a_head_that_never_moves_scores_nothing():
    trace, _ = planted_trace()
    still = np.zeros_like(trace.tensors["attention.audio"])
    still[..., 3] = 0.5
    tensors = {**trace.tensors, "attention.audio": still}
    assert not attention.listening_scores([replace(trace, tensors=tensors)]).values.any()


@pytest.mark.parametrize("choose", ["error", "score"])
def test_pointing_error_of_a_good_head_is_small_and_honest(clips, choose):
    traces, truth = zip(*clips)
    error = attention.pointing_error(traces, truth, choose=choose, folds=3)
    assert float(error) < 0.1 and error.low <= float(error) <= error.high
    assert float(attention.pointing_error(traces, truth, choose=choose, folds=3, centre="median")) < 0.05
    assert error.n == error.notes["words"] == sum(map(len, truth))
    assert error.notes["heads"] == [list(HEAD)] * 3


def test_pointing_error_sees_a_lag():
    traces, truth = zip(*[planted_trace(seed=seed, lag_s=0.3) for seed in range(4)])
    assert 0.2 < float(attention.pointing_error(traces, truth)) < 0.4


def test_the_head_is_chosen_on_other_clips_only():
    """One clip whose own best head differs must still be judged by the head of the others."""
    clips = [planted_trace(seed=seed) for seed in range(4)]
    odd, truth = clips[0]
    swapped = odd.tensors["attention.audio"].copy()
    swapped[[0, 1], [0, 2]] = swapped[[1, 0], [2, 0]]
    clips[0] = (replace(odd, tensors={**odd.tensors, "attention.audio": swapped}), truth)
    error = attention.pointing_error(*zip(*clips), folds=4)
    assert error.notes["heads"][0] == list(HEAD)
    assert error.notes["within"]["150 ms"] < 0.9


def test_a_head_that_the_checkpoint_names_comes_first(clips):
    trace, _ = clips[0]
    assert attention.default_head(trace) == HEAD
    named = replace(trace, meta=replace(trace.meta, alignment_heads=((9, 0), (2, 1))))
    assert attention.named_heads(named) == (Head(2, 1),)  # a layer that was not captured is passed over
    assert attention.default_head(named) == Head(2, 1)


@pytest.mark.parametrize("choose", ["error", "score"])
def test_an_excluded_head_is_never_chosen(clips, choose):
    traces, truth = zip(*clips)
    error = attention.pointing_error(traces, truth, choose=choose, exclude=[HEAD])
    assert list(HEAD) not in error.notes["heads"] and float(error) > 0.1
    everything = [Head(layer, head) for layer in range(3) for head in range(4)]
    with pytest.raises(TraceError, match="every head excluded"):
        attention.pointing_error(traces, truth, exclude=everything)


def test_pointing_error_needs_words_and_clips(clips):
    trace, truth = clips[0]
    with pytest.raises(TraceError, match="1 traces"):
        attention.pointing_error([trace], [truth])
    with pytest.raises(TraceError, match="no true word"):
        attention.pointing_error([trace, trace], [[WordTime("zebra", 0, 1)]] * 2)


def test_mass_per_segment_sums_to_one(clips):
    mass = attention.segment_mass(clips[0][0])
    np.testing.assert_allclose(mass.values.sum(axis=-1), 1, atol=5e-3)
    assert mass.axis("segment").labels[3] == "audio"


def test_rows_of_heads_that_were_not_captured_are_refused(clips):
    trace = clips[0][0]
    with pytest.raises(TraceError, match="layer 7"):
        attention.audio_rows(trace, Head(7))
    with pytest.raises(TraceError, match="head 4 of 4"):
        attention.audio_rows(trace, Head(0, 4))
    with pytest.raises(TraceError, match="without attention"):
        attention.audio_rows(replace(trace, tensors={}), Head(0))
    with pytest.raises(TraceError, match="different sets"):
        attention.listening_scores([])


def test_map_of_a_head_has_tokens_and_times(clips):
    trace = clips[0][0]
    stat = attention.attention_map(trace, Head(1))
    assert stat.values.shape == (trace.n_reply, len(trace.frames))
    np.testing.assert_allclose(stat.values, trace.tensors["attention.audio"][1].astype(float).mean(axis=0))
    assert stat.axis("frame").unit == "s"
