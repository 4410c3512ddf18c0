"""One reply under many prompts: every score is that of the prompt alone, whatever was used again."""

import threading

import numpy as np
import pytest
import torch

from analysis import scoring
from analysis.capture import capture_trace
from analysis.counterfactual import with_clip
from analysis.edits import mute, stretch
from analysis.scoring import ReplyScorer, repeat_interval
from model.chat import Audio, Message, RawIds
from model.errors import TraceError


@pytest.fixture(scope="module")
def reply(tiny_loaded) -> list[int]:
    return [*tiny_loaded.processor.encode_text("good morning 你好"), tiny_loaded.processor.ids.eot]


@pytest.fixture(scope="module")
def versions(heard) -> list:
    """Versions of a conversation: unchanged, the early clip muted, the late one, its tail only, and a longer one."""
    short, long = (part.waveform for part in heard[1].parts if isinstance(part, Audio))
    return [
        heard,
        with_clip(heard, 0, mute(short, 0.2, 0.6)),
        with_clip(heard, 1, mute(long, 3.0, 9.0)),
        with_clip(heard, 1, mute(long, 25.2, 25.8)),
        with_clip(heard, 1, mute(long, 25.3, 25.6)),
        with_clip(heard, 0, stretch(short, 0.2, 0.6, factor=2)),
    ]


def alone(loaded, conversation, reply) -> np.ndarray:
    """Log-probs by the pass of `capture_trace`, which shares nothing."""
    trace = capture_trace(loaded, conversation, reply)
    return trace.tokens.logprob[list(trace.reply)]


@pytest.mark.parametrize("min_shared", [scoring.MIN_SHARED, 10**6])
def test_each_score_is_that_of_the_prompt_alone(tiny_loaded, heard, reply, versions, min_shared, monkeypatch):
    monkeypatch.setattr(scoring, "MIN_SHARED", min_shared)
    scorer = ReplyScorer(tiny_loaded, heard, reply)
    found = scorer.score(versions)
    assert found.shape == (len(versions), len(reply)) and found.dtype == np.float64
    for row, conversation in zip(found, versions):
        np.testing.assert_allclose(row, alone(tiny_loaded, conversation, reply), atol=2e-4)
    np.testing.assert_allclose(scorer.baseline, found[0], atol=1e-5)
    assert np.abs(found[1:] - scorer.baseline).max(axis=1).min() > 1e-3  # the versions do differ


def test_only_what_is_new_is_encoded_and_read(tiny_loaded, heard, reply, versions, monkeypatch):
    scorer = ReplyScorer(tiny_loaded, heard, reply)
    encoded, read = [], []
    encode, forward = tiny_loaded.model.get_audio_features, tiny_loaded.model.forward
    monkeypatch.setattr(
        tiny_loaded.model, "get_audio_features", lambda mels, lens: encoded.append(len(mels)) or encode(mels, lens)
    )
    monkeypatch.setattr(
        tiny_loaded.model, "forward", lambda **k: read.append(tuple(k["input_ids"].shape)) or forward(**k)
    )
    scorer.score(versions[3:5])  # only the last second of 26 differs: one chunk each, and positions from there on
    n_prompt = len(tiny_loaded.processor.encode(heard).ids)
    assert encoded == [2] and len(read) == 1
    assert read[0][0] == 2 and read[0][1] < 60 < n_prompt


def test_ids_that_differ_are_read_again(tiny_loaded, heard, reply):
    """A prompt may differ in its words too; blocks of sound behind them are encoded as before."""
    other = (*heard[:2], Message("assistant", (RawIds((5,)),), closed=False))
    scorer = ReplyScorer(tiny_loaded, heard, reply)
    np.testing.assert_allclose(scorer.score([other])[0], alone(tiny_loaded, other, reply), atol=2e-4)


def test_batches_are_bounded(tiny_loaded, heard, reply, versions, monkeypatch):
    monkeypatch.setattr(scoring, "MAX_POSITIONS", 1)
    sizes = []
    scorer = ReplyScorer(tiny_loaded, heard, reply)
    whole = ReplyScorer._score_batch
    monkeypatch.setattr(ReplyScorer, "_score_batch", lambda self, batch: sizes.append(len(batch)) or whole(self, batch))
    scorer.score(versions[3:5])
    assert sizes == [1, 1]


def test_progress_is_told_and_cancelling_leaves_nan(tiny_loaded, heard, reply, versions):
    cancel, told = threading.Event(), []

    def progress(step: str, fraction: float) -> None:
        told.append(fraction)
        if fraction > 0:
            cancel.set()

    scorer = ReplyScorer(tiny_loaded, heard, reply)
    found = scorer.score(versions, n=len(versions), progress=progress, cancel=cancel)
    assert np.isfinite(found[0]).all() and np.isnan(found[-1]).all()
    assert told[0] == 0 and told == sorted(told) and len(told) == 2


def test_the_model_is_left_as_it_was(tiny_loaded, heard, reply, versions):
    """Law 6: modes come back, and logits before and after are the same bits."""
    model = tiny_loaded.model
    batch = tiny_loaded.processor(heard)
    with torch.inference_mode():
        before = model(**batch).logits
    model.train()
    try:
        ReplyScorer(tiny_loaded, heard, reply).score(versions[:2])
        assert model.training
    finally:
        model.eval()
    with torch.inference_mode():
        assert torch.equal(before, model(**batch).logits)


def test_an_empty_reply_is_refused(tiny_loaded, heard):
    with pytest.raises(TraceError, match="a reply without tokens"):
        ReplyScorer(tiny_loaded, heard, [])


def test_intervals_over_repeats():
    values = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    mean, low, high = repeat_interval(values)
    np.testing.assert_allclose(mean, [2, 5])
    np.testing.assert_allclose(high - mean, [4.3027 / np.sqrt(3), 0], atol=1e-3)  # t(0.975, 2) times s / sqrt(n)
    np.testing.assert_allclose(mean - low, high - mean)
    assert repeat_interval(values[:1])[1:] == (None, None)
