"""Word times from attention: the planted times come back, and the path is the best one there is."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from analysis import alignment
from analysis.alignment import align, alignment_error, monotonic_path, pick_heads
from analysis.attention import Head, WordTime
from analysis.capture import capture_trace
from model.audio import Waveform
from model.errors import TraceError
from tests.analysis.planted import CHINESE, POINTING, planted_trace
from tests.analysis.tones import ask, clips, load_tones, reply_ids

HEAD = Head(*POINTING)


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_best_of_all(seed):
    """Against every way to cut the columns into runs."""
    scores = np.random.default_rng(seed).normal(size=(3, 8))
    runs = monotonic_path(scores)
    ways = [(0, *inner, 8) for inner in combinations(range(1, 8), 2)]
    total = [sum(scores[i, way[i] : way[i + 1]].sum() for i in range(3)) for way in ways]
    assert (runs[0, 0], *runs[:, 1]) == ways[int(np.argmax(total))]
    np.testing.assert_array_equal(runs[1:, 0], runs[:-1, 1])


def test_a_path_with_one_column_each():
    np.testing.assert_array_equal(monotonic_path(np.zeros((3, 3))), [[0, 1], [1, 2], [2, 3]])
    with pytest.raises(TraceError, match="4 tokens in 3 steps"):
        monotonic_path(np.zeros((4, 3)))


@pytest.mark.parametrize("pieces", [("good", " morning", " I", " would", " like", " a", " coff", "ee", "."), CHINESE])
def test_planted_words_are_found(pieces):
    clips = [planted_trace(pieces, seed=seed, seconds=3.0 + 0.4 * seed) for seed in range(4)]
    found = [align(trace, [HEAD]) for trace, _ in clips]
    error = alignment_error(found, [truth for _, truth in clips])
    assert float(error) < 0.04 and error.notes["within"]["100 ms"] > 0.9
    assert [word.text for word in found[0].words] == [word.text for word in clips[0][1]]


def test_words_never_overlap_and_stay_inside(seed=2):
    trace, _ = planted_trace(seed=seed)
    found = align(trace)
    edges = np.array([(word.start_s, word.end_s) for word in found.words])
    assert (edges[:, 0] < edges[:, 1]).all() and (edges[1:, 0] >= edges[:-1, 1] - 1e-9).all()
    assert edges.min() >= 0 and edges.max() <= found.duration_s + 0.011
    assert (found.confidence > 0).all() and (found.confidence <= 1 + 1e-9).all()


def test_tokens_keep_their_own_times_and_punctuation_has_none():
    trace, _ = planted_trace()
    found = align(trace, [HEAD])
    texts = [word.text for word in found.tokens]
    assert texts == ["good", " morning", " I", " would", " like", " a", " coff", "ee", " please"]
    assert np.isnan(found.token_s[-2:]).all()  # the full stop and the end token
    coffee = found.grouped[6].queries
    assert found.token_s[coffee[0], 1] == found.token_s[coffee[1], 0]


def test_heads_are_picked_without_the_truth():
    traces = [planted_trace(seed=seed)[0] for seed in range(3)]
    assert pick_heads(traces)[0] == HEAD and len(pick_heads(traces)) == 3
    assert HEAD not in pick_heads(traces, exclude=[HEAD])
    named = replace(traces[0], meta=replace(traces[0].meta, alignment_heads=((0, 3), (2, 1), (1, 2))))
    assert pick_heads([named]) == (Head(0, 3), Head(2, 1), Head(1, 2))
    assert pick_heads([named], n=4)[3] not in pick_heads([named])  # filled up by listening score
    with pytest.raises(TraceError, match="every head excluded"):
        pick_heads(traces, exclude=[Head(layer, head) for layer in range(3) for head in range(4)])


def test_silence_is_trimmed_from_words():
    trace, truth = planted_trace()
    sound = trace.audio["input_0"]
    at = np.arange(len(sound.samples)) / 16_000
    inside = np.any([(at >= word.start_s) & (at < word.end_s) for word in truth], axis=0)
    quiet = replace(trace, audio={"input_0": Waveform(sound.samples * inside, 16_000)})
    trimmed, whole = align(quiet, [HEAD]), align(quiet, [HEAD], trim_db=None)
    assert float(alignment_error([trimmed], [truth])) <= float(alignment_error([whole], [truth]))
    first, last = trimmed.words[0], trimmed.words[-1]
    assert first.start_s == pytest.approx(truth[0].start_s, abs=0.04)
    assert last.end_s == pytest.approx(truth[-1].end_s, abs=0.04)
    assert whole.words[0].start_s == 0 and whole.words[-1].end_s == pytest.approx(whole.duration_s)


def test_errors_are_counted_by_hand(monkeypatch):
    """Found 30 ms early at the start and 60 ms late at the end, for every word."""
    trace, truth = planted_trace()
    found = align(trace, [HEAD])
    words = tuple(word._replace(start_s=t.start_s - 0.03, end_s=t.end_s + 0.06) for word, t in zip(found.words, truth))
    error = alignment_error([replace(found, words=words)], [truth])
    assert float(error) == pytest.approx(0.045) and error.n == len(truth)
    assert error.notes["within"] == {"50 ms": 0.5, "100 ms": 1.0}
    assert error.notes["median |dt|"] == pytest.approx({"start": 0.03, "end": 0.06, "centre": 0.015})
    assert error.notes["bias"] == pytest.approx({"start": -0.03, "end": 0.06})
    assert error.low <= float(error) <= error.high and error.notes["words"] == len(truth)


def test_what_cannot_be_aligned_is_refused():
    trace, truth = planted_trace()
    with pytest.raises(TraceError, match="clip 1 without frames"):
        align(trace, [HEAD], clip=1)
    silent = replace(trace, tokens=replace(trace.tokens, text=("",) * len(trace.tokens)))
    with pytest.raises(TraceError, match="0 words"):
        align(silent, [HEAD])
    with pytest.raises(TraceError, match="no true word"):
        alignment_error([align(trace, [HEAD])], [[WordTime("elsewhere", 0, 1)]])
    with pytest.raises(TraceError, match="1 alignments and 0 lists"):
        alignment_error([align(trace, [HEAD])], [])


def test_a_trained_model_is_aligned_without_the_truth():
    """On a network that really learned to listen: heads picked on other clips, errors on unseen ones."""
    loaded = load_tones()
    traces = [capture_trace(loaded, ask(sound), reply_ids(truth)) for sound, truth in clips(16, seed=1)]
    heads = pick_heads(traces[:4])
    truth = [truth for _, truth in clips(16, seed=1)][4:]
    error = alignment_error([align(trace, heads) for trace in traces[4:]], truth)
    assert float(error) < 0.08 and error.notes["within"]["100 ms"] > 0.7


def test_the_map_and_the_path_are_statistics():
    trace, _ = planted_trace()
    found = align(trace)
    assert found.map.values.shape == (trace.n_reply, len(trace.frames)) and found.map.axes[1].unit == "s"
    np.testing.assert_allclose(found.map.values.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.path.values, found.token_s)
    assert alignment.LIMITS_MS == (50, 100)


def test_long_sounds_take_longer_steps(monkeypatch):
    trace, truth = planted_trace()
    usual = align(trace, [HEAD])
    monkeypatch.setattr(alignment, "MAX_STEPS", 9 * 50)  # 9 tokens: 50 steps of 84 ms instead of 210
    coarse = align(trace, [HEAD])
    assert float(alignment_error([coarse], [truth])) < float(alignment_error([usual], [truth])) + 0.06
    assert not np.array_equal(coarse.token_s, usual.token_s, equal_nan=True)
