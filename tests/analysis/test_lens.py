"""The lens at the last depth is the model itself, and below it shows what was planted there."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis import lens
from analysis.capture import capture_trace
from analysis.hooks import Site, taps
from analysis.lens import attribute_curves, candidate_ids, logit_lens, settling_depth
from model.errors import TraceError
from tests.analysis.test_capture import forward, n_hooks, reply, whole_input  # noqa: F401

VOCABULARY = 10**6
"""As many best ids as there are."""


@pytest.fixture(scope="module")
def short(heard):
    """The conversation with its first recording only, 1.5 s."""
    return (heard[0], replace(heard[1], parts=heard[1].parts[:2]), heard[2])


def log_probs(model, inputs: dict, places) -> np.ndarray:
    """The model's own log-probabilities [place, vocabulary], asked for as the model is always asked."""
    logits = forward(model, inputs, logits_to_keep=torch.as_tensor(places)).logits[0]
    return logits.float().log_softmax(-1).numpy()


def test_last_depth_is_the_model_bit_for_bit_over_the_answer(tiny_loaded, heard, reply, whole_input):  # noqa: F811
    found = logit_lens(tiny_loaded, heard, reply, top=VOCABULARY)
    places = range(whole_input["n_prompt"] - 1, whole_input["input_ids"].shape[1] - 1)
    own = log_probs(tiny_loaded.model, whole_input, places)
    order = found.ids[-1].astype(np.int64)
    np.testing.assert_array_equal(found.logprob[-1], np.take_along_axis(own, order, -1))
    np.testing.assert_array_equal(found.came[-1], own[np.arange(len(reply)), reply])
    assert found.depths == ("in", "0", "1", "2") and "".join(found.labels) == "good morning 你好<|EOT|>"


def test_last_depth_is_the_model_bit_for_bit_over_the_sound(tiny_loaded, heard, whole_input):  # noqa: F811
    found = logit_lens(tiny_loaded, heard, where="audio", top=VOCABULARY)
    inputs = dict(tiny_loaded.processor(heard))
    places = (inputs["input_ids"][0] == tiny_loaded.processor.ids.audio_patch).nonzero()[:, 0]
    own = log_probs(tiny_loaded.model, inputs, places)
    order = found.ids[-1].astype(np.int64)
    np.testing.assert_array_equal(found.logprob[-1], np.take_along_axis(own, order, -1))
    assert len(places) == 19 + 313 + 13 and np.isnan(found.came).all()
    assert found.best().axis("frame").unit == "s" and found.best().texts.shape == (4, len(places))


def test_earlier_depths_are_the_hidden_states_through_norm_and_unembedding(tiny_loaded, heard, reply, whole_input):  # noqa: F811
    model = tiny_loaded.model
    states = forward(model, whole_input, output_hidden_states=True).hidden_states
    found = logit_lens(tiny_loaded, heard, reply, top=3)
    rows = slice(whole_input["n_prompt"] - 1, -1)
    for depth in range(3):
        with torch.inference_mode():
            logp = model.lm_head(model.model.norm(states[depth][0, rows])).log_softmax(-1)
        best = logp.topk(3)
        np.testing.assert_array_equal(found.ids[depth], best.indices)
        np.testing.assert_allclose(found.logprob[depth], best.values, atol=1e-4)
        np.testing.assert_allclose(found.entropy[depth], -(logp.exp() * logp).sum(-1), atol=1e-4)
        np.testing.assert_allclose(found.came[depth], logp[range(len(reply)), reply], atol=1e-4)


def test_blocks_of_places_give_the_same_lens(tiny_loaded, short, monkeypatch):
    at_once = logit_lens(tiny_loaded, short, where="audio")
    monkeypatch.setattr(lens, "MAX_LOGITS", 7 * tiny_loaded.model.lm_head.out_features)
    blocks = logit_lens(tiny_loaded, short, where="audio")
    np.testing.assert_array_equal(at_once.ids, blocks.ids)
    np.testing.assert_allclose(at_once.logprob, blocks.logprob, atol=1e-5)


def test_looking_changes_nothing_and_stopping_cleans_up(tiny_loaded, short, reply):  # noqa: F811
    model, hooked, inputs = tiny_loaded.model, n_hooks(tiny_loaded.model), dict(tiny_loaded.processor(short))
    before, done = forward(model, inputs).logits, []
    logit_lens(tiny_loaded, short, reply, on_layer=done.append)
    assert done == [-1, 0, 1, 2]
    assert torch.equal(before, forward(model, inputs).logits)

    def stop(layer: int) -> None:
        raise InterruptedError(f"after {layer}")

    with pytest.raises(InterruptedError, match="after -1"):
        logit_lens(tiny_loaded, short, reply, on_layer=stop)
    assert n_hooks(model) == hooked


def test_a_word_planted_in_the_sound_is_read_there_from_its_layer_on(tiny_loaded, short):
    """The direction of one word is written into three audio positions after layer 1."""
    model, word = tiny_loaded.model, tiny_loaded.processor.encode_text(" river")[0]
    frames = (np.array(tiny_loaded.processor.encode(short).ids) == tiny_loaded.processor.ids.audio_patch).nonzero()[0]
    without = logit_lens(tiny_loaded, short, where="audio")
    with taps(model, {Site("resid_post", 1): plant(model, word, frames[4:7])}):
        found = logit_lens(tiny_loaded, short, where="audio", candidates=[" river", " world"])
    planted = found.ids[2, :, 0] == word
    before = without.ids[2, :, 0] == word
    assert (
        planted[4:7].all()
        and not before[4:7].any()
        and (np.delete(planted, [4, 5, 6]) == np.delete(before, [4, 5, 6])).all()
    )
    np.testing.assert_array_equal(found.ids[:2], without.ids[:2])
    shares = found.shares()
    np.testing.assert_allclose(shares.values.sum(axis=0), 1)
    assert (shares.values[0, 2, 4:7] > 0.99).all() and shares.axes[0].labels == (" river", " world")
    curves = found.curves()
    assert (
        curves.values.shape == (2, 4) and (curves.low <= curves.values).all() and (curves.values <= curves.high).all()
    )


def plant(model, word: int, places):
    """A tap that writes the unembedding direction of a word into some positions."""

    def tap(residual: torch.Tensor) -> torch.Tensor:
        changed = residual.clone()
        changed[:, places] += 300 * torch.nn.functional.normalize(model.lm_head.weight[word], dim=0)
        return changed

    return tap


def test_attribute_curves_keep_right_and_wrong_cases_apart(tiny_loaded, short):
    """Whatever is short, " river" is planted after layer 0: cases that say so are right, and settle there."""
    word = tiny_loaded.processor.encode_text(" river")[0]
    cases = [(short, truth) for truth in (" river", " world", " river")]
    told = []
    with taps(tiny_loaded.model, {Site("resid_post", 0): plant(tiny_loaded.model, word, [-1])}):
        curves = attribute_curves(
            tiny_loaded, cases, [" river", " world"], progress=lambda step, share: told.append((step, share))
        )
    assert curves.right.tolist() == [True, False, True] and set(curves.settling) <= {0, 1}
    stat = curves.by_depth()
    assert stat.axis("cases").labels == ("all (3)", "right (2)", "wrong (1)")
    assert (stat.values[1, 1:] > 0.95).all() and (stat.values[2, 1:] < 0.05).all()
    np.testing.assert_allclose(stat.values[0], (2 * stat.values[1] + stat.values[2]) / 3)
    assert told[-1] == ("lens", 1.0) and curves.settles().values.shape == (2,)
    json.dumps(stat.to_dict(), allow_nan=False)


def test_without_wrong_cases_their_curve_is_empty(tiny_loaded, short):
    word = tiny_loaded.processor.encode_text(" river")[0]
    with taps(tiny_loaded.model, {Site("resid_post", 2): plant(tiny_loaded.model, word, [-1])}):
        curves = attribute_curves(tiny_loaded, [(short, " river")], [" river", " world"])
    assert np.isnan(curves.by_depth().values[2]).all() and np.isnan(curves.settles().values[1])


def test_whole_words_tell_apart_what_begins_alike(tiny_loaded, short):
    """Their probabilities are those of the model itself at the last depth; several words of one candidate add up."""
    words = {"greeting": ["good morning", "hello"], "weather": ["good weather"]}
    with pytest.raises(TraceError, match="read='whole'"):
        attribute_curves(tiny_loaded, [(short, "a")], {"a": ["good morning"], "b": ["good weather"]})
    curves = attribute_curves(tiny_loaded, [(short, "greeting")], words, read="whole")
    own = {}
    for name, forms in words.items():
        traces = [capture_trace(tiny_loaded, short, tiny_loaded.processor.encode_text(form)) for form in forms]
        own[name] = sum(np.exp(float(np.nansum(trace.tokens.logprob))) for trace in traces)
    assert curves.share[0, -1] == pytest.approx(own["greeting"] / sum(own.values()), rel=1e-3)


def test_settling_depth_by_hand():
    first = np.array([[0, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0]])
    assert settling_depth(first).tolist() == [1, 0, 2, 3]


def test_candidates_are_found_by_their_first_token_with_and_without_a_space(tiny_loaded):
    encode = tiny_loaded.processor.encode_text
    found = candidate_ids(tiny_loaded.processor, {"greeting": ["hello"], "day": ["今天"]})
    assert found["greeting"] == tuple(sorted({encode("hello")[0], encode(" hello")[0]}))
    assert encode("今天")[0] in found["day"]


def test_a_beginning_that_two_share_only_without_a_space_is_left_out():
    """Inside a sentence they are different tokens, and that is where they are read."""
    ids = {" like": [1], "like": [7, 8], " large": [2], "large": [7, 9], " a": [3], "a": [4]}
    texts = {1: " like", 2: " large", 3: " a", 4: "a", 7: "l"}
    processor = SimpleNamespace(
        encode_text=lambda text: ids[text], decode=lambda some, keep_special: "".join(texts[i] for i in some)
    )
    assert candidate_ids(processor, ["like", "large", "a"]) == {"like": (1,), "large": (2,), "a": (3, 4)}
    with pytest.raises(TraceError, match="the same first token as 'a'"):
        candidate_ids(processor, {"like": ["like"], "a": ["a", "like"]})


@pytest.mark.parametrize("candidates", [["hello", "hello world"], [" "], ["hello", ""]])
def test_candidates_that_cannot_be_told_apart_are_refused(tiny_loaded, candidates):
    with pytest.raises(TraceError, match="first token"):
        candidate_ids(tiny_loaded.processor, candidates)


def test_misuse_is_refused(tiny_loaded, short):
    silent = (short[0], short[2])
    with pytest.raises(TraceError, match="0 audio positions"):
        logit_lens(tiny_loaded, silent, where="audio")
    found = logit_lens(tiny_loaded, short, where="audio")
    with pytest.raises(TraceError, match="over the sound"):
        found.rising()
    with pytest.raises(TraceError, match="without candidates"):
        found.curves()
    with pytest.raises(TraceError, match="truths"):
        attribute_curves(tiny_loaded, [(short, "sea")], ["hello"])


def test_the_answer_rises_and_a_reply_is_not_needed(tiny_loaded, short, reply):  # noqa: F811
    rising = logit_lens(tiny_loaded, short, reply).rising()
    assert rising.values.shape == (4, len(reply)) and (rising.values <= 0).all()
    before = logit_lens(tiny_loaded, short)
    assert before.ids.shape == (4, 1, 5) and before.labels == ("",)
