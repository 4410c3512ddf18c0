"""Occlusion finds planted evidence, attention's own rate beside it; the records are complete and repeatable."""

import json
import threading

import numpy as np
import pytest

from analysis import scoring
from analysis.capture import capture_trace
from analysis.edits import Edit, mute
from analysis.occlusion import deletion_curves, occlusion_map, occlusion_map_mel, windows
from analysis.scoring import ReplyScorer
from analysis.statistic import Axis, Statistic
from analysis.trust import attention_in_windows, attention_over_time, hits, trust, trust_by_head
from model.errors import TraceError
from tests.analysis.tones import PITCHES_HZ, ask, clips, load_tones, reply_ids


@pytest.fixture(scope="module")
def loaded():
    return load_tones()


@pytest.fixture(scope="module")
def clip():
    return next((sound, truth) for sound, truth in clips(20, seed=5) if len(truth) == 3)


@pytest.fixture(scope="module")
def found(loaded, clip):
    return occlusion_map(loaded, ask(clip[0]), reply_ids(clip[1]))


@pytest.fixture(scope="module")
def trace(loaded, clip, found):
    return capture_trace(loaded, ask(clip[0]), found.reply_ids)


def evidence(truth) -> dict[int, tuple[float, float]]:
    return {query: (word.start_s, word.end_s) for query, word in enumerate(truth)}


def test_planted_evidence_is_ranked_first(loaded):
    """Over 300 tokens and with attention's rate beside it: tests/bench/bench_evidence.py."""
    found = []
    for sound, truth in clips(8, seed=6):
        rows = occlusion_map(loaded, ask(sound), reply_ids(truth)).by_token()
        found += hits(rows, evidence(truth)).notes["hit"].values()
    assert len(found) >= 16 and np.mean(found) >= 0.95


def test_the_map_is_what_muting_by_hand_gives(loaded, clip, found):
    sound, truth = clip
    for k in (0, 7, len(found.spans_s) - 1):
        changed = mute(sound, *found.spans_s[k])
        alone = ReplyScorer(loaded, ask(changed), reply_ids(truth)).baseline
        np.testing.assert_allclose(found.logprob[0, k], alone, atol=1e-4)
    np.testing.assert_allclose(found.by_token().values, (found.baseline - found.logprob[0]).T)
    np.testing.assert_allclose(found.drop().values, found.by_token().values.sum(axis=0))
    np.testing.assert_allclose(found.drop([1]).values, found.by_token().values[1])
    np.testing.assert_allclose(found.effect().change.values, -found.drop().values)
    assert found.complete and found.drop().low is None
    json.dumps([found.drop().to_dict(), found.by_token().to_dict(), found.effect().change.to_dict()])


def test_batches_do_not_matter(loaded, clip, found, monkeypatch):
    """Law 5: one window at a time gives the map that batches give."""
    monkeypatch.setattr(scoring, "MAX_POSITIONS", 1)
    single = occlusion_map(loaded, ask(clip[0]), reply_ids(clip[1]))
    np.testing.assert_allclose(single.logprob, found.logprob, atol=1e-4)


def test_repeats_with_noise_give_intervals(loaded, clip):
    noisy = occlusion_map(loaded, ask(clip[0]), hop_s=0.25, window_s=0.25, edit=Edit("noise", seed=3), repeats=3)
    drop = noisy.drop()
    assert noisy.logprob.shape[0] == 3 and noisy.notes["seeds"] == [3, 4, 5] and drop.n == 3
    assert (drop.low <= drop.values).all() and (drop.low < drop.high).any()
    again = occlusion_map(loaded, ask(clip[0]), hop_s=0.25, window_s=0.25, edit=Edit("noise", seed=3))
    np.testing.assert_allclose(again.logprob[0], noisy.logprob[0], atol=1e-4)


def test_the_second_clip_can_be_occluded(tiny_loaded, heard):
    reply = [5, 6, tiny_loaded.processor.ids.eot]
    found = occlusion_map(tiny_loaded, heard, reply, clip=1, hop_s=13.0, window_s=13.0)
    assert found.spans_s.shape == (2, 2) and np.abs(found.drop().values).max() > 1e-3


@pytest.mark.parametrize(
    ("duration", "window", "hop", "n"),
    [(2.0, None, None, 21), (2.0, 0.5, 0.5, 4), (0.1, None, None, 1), (100, None, None, 249)],
)
def test_windows_cover_the_clip(duration, window, hop, n):
    spans = windows(duration, window, hop)
    assert len(spans) == n and spans[0, 0] == 0 and spans[-1, 1] == pytest.approx(duration)
    assert (spans[1:, 0] <= spans[:-1, 1] + 1e-9).all() and np.ptp(np.ptp(spans, axis=1)) < 1e-9


def test_windows_with_gaps_are_refused():
    with pytest.raises(TraceError, match="windows of 0.1 s every 0.2 s"):
        windows(2.0, 0.1, 0.2)


def test_a_cancelled_map_keeps_what_it_has(loaded, clip, monkeypatch):
    monkeypatch.setattr(scoring, "MAX_POSITIONS", 200)
    cancel, told = threading.Event(), []

    def progress(step: str, done: float) -> None:
        told.append(done)
        if done > 0.3:
            cancel.set()

    partial = occlusion_map(loaded, ask(clip[0]), reply_ids(clip[1]), progress=progress, cancel=cancel)
    values = partial.drop().values
    assert not partial.complete and np.isfinite(values[0]) and np.isnan(values[-1])
    assert told == sorted(told) and told[-1] < 1


# --- time and frequency -------------------------------------------------------------------------------------------


def test_evidence_is_found_in_time_and_frequency(loaded):
    """A burst of a known pitch: where one patch takes the word away, it covers the burst's middle, in its band."""
    lost, in_time, in_band = [], [], []
    for sound, truth in clips(5, seed=8):
        found = occlusion_map_mel(loaded, ask(sound), reply_ids(truth), n_bands=8)
        rows = found.by_token().values
        assert rows.shape == (len(truth) + 1, len(found.spans_s), 8)
        for query, word in enumerate(truth):
            time, band = np.unravel_index(rows[query].argmax(), rows[query].shape)
            lost.append(rows[query].max() > 1)  # a pitch between two bands survives in the other one
            in_time.append(found.spans_s[time, 0] <= word.centre_s <= found.spans_s[time, 1])
            low, high = found.bands_hz[band]
            in_band.append(low / 1.35 <= PITCHES_HZ[f" {word.text}"] <= high * 1.35)
    assert np.mean(lost) > 0.6
    assert np.mean(np.array(in_time)[lost]) >= 0.9 and np.mean(np.array(in_band)[lost]) >= 0.9


def test_a_patch_of_all_bands_in_all_windows_is_silence(loaded, clip):
    sound, truth = clip
    whole = occlusion_map_mel(loaded, ask(sound), reply_ids(truth), n_bands=1, window_s=9.0, hop_s=9.0)
    assert whole.logprob.shape[:3] == (1, 1, 1) and whole.bands_hz.shape == (1, 2)
    assert float(whole.drop().values[0, 0]) > 3
    fills = ("background", "mean", "floor")
    by_fill = [
        occlusion_map_mel(loaded, ask(sound), reply_ids(truth), n_bands=1, window_s=9.0, hop_s=9.0, fill=fill)
        for fill in fills
    ]
    assert len({float(one.drop().values[0, 0]) for one in by_fill}) == 3
    assert [one.notes["edit"] for one in by_fill] == [f"log-mel patch, {fill}" for fill in fills]
    with pytest.raises(TraceError, match="n_bands = 0"):
        occlusion_map_mel(loaded, ask(sound), n_bands=0)


# --- deletion -----------------------------------------------------------------------------------------------------


def test_the_best_order_beats_chance(loaded, clip, found, trace):
    sound, truth = clip
    orders = {"occlusion": found.drop(), "attention": attention_over_time(trace)}
    ids = reply_ids(truth)
    gone = deletion_curves(loaded, ask(sound), orders, ids, n_random=4, seed=1)
    back = deletion_curves(loaded, ask(sound), orders, ids, n_random=4, seed=1, mode="insertion")
    assert gone.axes[0].labels == ("occlusion", "attention", "random") and gone.values.shape == (3, 11)
    assert gone.notes["area"]["occlusion"] < gone.notes["area"]["random"]
    assert back.notes["area"]["occlusion"] > back.notes["area"]["random"]
    np.testing.assert_allclose(gone.values[:, 0], found.baseline.mean(), atol=1e-4)  # nothing gone: the whole sound
    np.testing.assert_allclose(gone.values[:, -1], gone.values[0, -1], atol=1e-4)  # all gone: the same silence
    np.testing.assert_allclose(back.values[:, -1], found.baseline.mean(), atol=1e-4)
    np.testing.assert_array_equal(gone.low[:2], gone.high[:2])
    assert (gone.low[2] < gone.high[2]).any()
    json.dumps([gone.to_dict(), back.to_dict()])


def test_an_order_needs_one_axis_of_seconds(loaded, clip, found):
    with pytest.raises(TraceError, match="an order over"):
        deletion_curves(loaded, ask(clip[0]), {"x": found.by_token()}, reply_ids(clip[1]))


# --- trust --------------------------------------------------------------------------------------------------------


def test_trust_is_a_rank_correlation_with_chance_beside_it(found, trace, clip):
    meter = trust(found, trace)
    assert -1 <= float(meter.low) <= float(meter) <= float(meter.high) <= 1 and meter.n == len(clip[1])
    assert -1 <= meter.notes["chance 95 %"] <= 1 and len(meter.notes["by token"]) == meter.n
    assert float(meter) == pytest.approx(np.mean(meter.notes["by token"]))
    grid = trust_by_head(found, trace)
    assert grid.values.shape == (2, 4)
    layer, head = meter.notes["head"]
    assert grid.values[layer, head] == pytest.approx(float(meter), abs=1e-6)
    json.dumps([meter.to_dict(), grid.to_dict()])


def test_rank_agreement_is_spearman(found, trace, clip):
    from scipy.stats import spearmanr

    looked, lost = attention_in_windows(found, trace), found.by_token()
    expected = [spearmanr(looked.values[q], lost.values[q]).statistic for q in range(len(clip[1]))]
    np.testing.assert_allclose(trust(found, trace).notes["by token"], expected, atol=1e-9)


def test_attention_in_windows_is_summed_over_their_frames(found, trace):
    from analysis.attention import audio_rows, default_head

    rows, frames = audio_rows(trace, default_head(trace)), trace.frames
    start, end = found.spans_s[4]
    inside = (frames.centre_s >= start) & (frames.centre_s < end)
    values = attention_in_windows(found, trace).values
    np.testing.assert_allclose(values[:, 4], rows[:, inside].sum(axis=1))
    assert attention_over_time(trace).values == pytest.approx(rows.sum(axis=0))


def test_another_answer_is_refused(loaded, clip, found):
    other = capture_trace(loaded, ask(clip[0]), reply_ids(clip[1])[::-1])
    with pytest.raises(TraceError, match="different answers"):
        trust(found, other)


def test_hits_are_counted_by_hand():
    axes = (Axis("query", labels=("a", "b")), Axis("time", values=np.array([0.1, 0.2, 0.3])))
    rows = Statistic("drop", [[0, 1, 0], [5, 4, 3]], axes)
    one = hits(rows, {0: (0.15, 0.25), 1: (0.25, 0.4)})
    assert float(one) == 0.5 and one.n == 2 and one.notes["hit"] == {"0": True, "1": False}
    assert float(hits(rows, {1: (0.12, 0.4)}, tolerance_s=0.03)) == 1
    assert np.isnan(float(hits(rows, {})))
