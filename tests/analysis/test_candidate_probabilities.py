"""Probabilities of whole candidate replies: those of a pass that shares nothing, however they are batched."""

import threading

import numpy as np
import pytest

from analysis import candidate_probabilities as module
from analysis.candidate_probabilities import CandidateProbabilities, candidate_probabilities
from analysis.capture import capture_trace
from model.errors import TraceError

REPLIES = ("good morning", "good night to you all", "good", "好")


@pytest.fixture(scope="module")
def found(tiny_loaded, heard):
    return candidate_probabilities(tiny_loaded, heard, REPLIES)


def test_each_is_that_of_the_whole_reply_read_alone(tiny_loaded, heard, found):
    processor = tiny_loaded.processor
    for reply, logprob in zip(REPLIES, found.logprob):
        trace = capture_trace(tiny_loaded, heard, [*processor.encode_text(reply), processor.ids.eot])
        assert logprob == pytest.approx(trace.tokens.logprob[list(trace.reply)].sum(), abs=1e-3)


def test_shares_and_coverage_follow(found):
    probability = np.exp(found.logprob)
    assert found.shares == pytest.approx(probability / probability.sum()) and found.shares.sum() == pytest.approx(1)
    assert found.coverage == pytest.approx(probability.sum()) and 0 < found.coverage < 1
    assert found.coverage <= found.coverage_after <= 1


def test_what_all_begin_with_is_left_out_of_after(tiny_loaded, heard):
    alike = candidate_probabilities(tiny_loaded, heard, ["good morning", "good morning to you"])
    start = tiny_loaded.processor.encode_text("good morning")
    trace = capture_trace(tiny_loaded, heard, [*start, tiny_loaded.processor.ids.eot])
    begun = trace.tokens.logprob[list(trace.reply)][:-1].sum()
    assert alike.logprob - alike.after == pytest.approx([begun, begun], abs=1e-3)


@pytest.mark.parametrize("most", [1, 3])
def test_small_batches_change_nothing(tiny_loaded, heard, found, most, monkeypatch):
    longest = max(len(tiny_loaded.processor.encode_text(reply)) + 1 for reply in REPLIES)
    vocabulary = tiny_loaded.model.config.text_config.vocab_size
    monkeypatch.setattr(module, "MAX_LOGITS", most * longest * vocabulary)
    assert candidate_probabilities(tiny_loaded, heard, REPLIES).logprob == pytest.approx(found.logprob, abs=1e-4)


def test_the_sound_is_encoded_and_the_prompt_read_once(tiny_loaded, heard, monkeypatch):
    encoded, read = [], []
    encode, forward = tiny_loaded.model.get_audio_features, tiny_loaded.model.forward
    monkeypatch.setattr(
        tiny_loaded.model, "get_audio_features", lambda mels, lens: encoded.append(len(mels)) or encode(mels, lens)
    )
    monkeypatch.setattr(
        tiny_loaded.model, "forward", lambda **k: read.append(tuple(k["input_ids"].shape)) or forward(**k)
    )
    candidate_probabilities(tiny_loaded, heard, REPLIES)
    prompt = len(tiny_loaded.processor.encode(heard).ids)
    assert len(encoded) == 1 and read[0] == (1, prompt) and len(read) == 2 and read[1][0] == len(REPLIES)


def test_a_model_with_a_window_reads_the_prompt_with_every_candidate(tiny_loaded, heard, found, monkeypatch):
    monkeypatch.setattr(module, "_is_sliding", lambda cache: True)
    assert candidate_probabilities(tiny_loaded, heard, REPLIES).logprob == pytest.approx(found.logprob, abs=1e-3)


def test_a_cancel_leaves_nothing(tiny_loaded, heard):
    cancel = threading.Event()
    cancel.set()
    assert candidate_probabilities(tiny_loaded, heard, REPLIES, cancel=cancel) is None


def test_looking_leaves_the_model_as_it_was(tiny_loaded, heard):
    tiny_loaded.model.train()
    try:
        candidate_probabilities(tiny_loaded, heard, REPLIES)
        assert tiny_loaded.model.training
    finally:
        tiny_loaded.model.eval()


@pytest.mark.parametrize("replies", [["one"], ["one", "one"], ["one", ""]])
def test_too_few_and_equal_candidates_are_refused(tiny_loaded, heard, replies):
    with pytest.raises(TraceError, match="score candidate replies"):
        candidate_probabilities(tiny_loaded, heard, replies)


def test_certainty_does_not_overflow():
    certain = CandidateProbabilities(("a", "b"), np.array([0.0, -2000.0]), np.array([0.0, -2000.0]))
    assert certain.shares == pytest.approx([1, 0]) and certain.coverage == 1
    never = CandidateProbabilities(("a", "b"), np.array([-3000.0, -3001.0]), np.array([-1.0, -2.0]))
    assert never.shares.sum() == pytest.approx(1) and never.coverage == 0
    assert never.coverage_after == pytest.approx(np.exp(-1) + np.exp(-2))
