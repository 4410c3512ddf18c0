"""The laws of looking inside, on nano as it is, and in half precision: nothing here knows what nano has learned."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.capture import capture_trace
from analysis.contrast import contrast
from analysis.features import record_features
from analysis.hooks import Site, n_layers, recorded
from analysis.lens import attribute_curves, logit_lens
from analysis.neurons import dose_response, rank_neurons, top_neurons
from analysis.patching import patch_heads, patch_positions, scale_heads
from analysis.segments import rollout, segment_shares
from analysis.trace import CaptureSpec
from model.checkpoint import syllables
from model.events import collect
from model.generation import GenerationOptions, stream
from model.tasks.asr import ASR
from tests.analysis.test_patching import conversations, nano_answers


@pytest.fixture(scope="module")
def turn(nano):
    conversation = ASR.conversation(syllables(1.5))
    options = GenerationOptions(max_new_tokens=12)
    return conversation, collect(stream(nano.model, nano.processor, conversation, options)).ids


def test_the_lens_ends_in_the_models_own_logits(nano, turn):
    conversation, reply = turn
    prompt = nano.processor.encode(conversation)
    places = torch.arange(len(prompt.ids) - 1, len(prompt.ids) + len(reply) - 1)
    batch = nano.processor.collate([prompt])
    ids = torch.cat([batch["input_ids"], torch.tensor([reply])], dim=1)
    inputs = {"input_ids": ids, "wavs": batch["wavs"], "wav_lens": batch["wav_lens"]}
    with torch.inference_mode():
        before = nano.model(**inputs, logits_to_keep=places, use_cache=False).logits[0].log_softmax(-1)
        lens = logit_lens(nano, conversation, reply, top=10**6)
        after = nano.model(**inputs, logits_to_keep=places, use_cache=False).logits[0].log_softmax(-1)
    own = np.take_along_axis(before.numpy(), lens.ids[-1].astype(np.int64), -1)
    np.testing.assert_array_equal(lens.logprob[-1], own)
    assert torch.equal(before, after)


def test_what_greedy_decoding_said_is_best_at_the_last_depth(nano, turn):
    lens = logit_lens(nano, *turn)
    np.testing.assert_allclose(lens.came[-1], lens.logprob[-1, :, 0], atol=1e-3)  # equal but for ties


def test_looking_at_every_site_changes_no_bit(nano, turn):
    """Law 6 on nano: encoder, adaptor and decoder watched at once."""
    inputs = dict(nano.processor(turn[0]))
    names = "resid_pre resid_mid resid_post attn_out mlp_out mlp_post z".split()
    sites = [Site(name, k, part) for part in ("encoder", "decoder") for name in names
             for k in range(n_layers(nano.model, part))]  # fmt: skip
    with torch.inference_mode():
        before = nano.model(**inputs).logits
        with recorded(nano.model, [*sites, Site("out", part="adaptor")]):
            assert torch.equal(before, nano.model(**inputs).logits)
        assert torch.equal(before, nano.model(**inputs).logits)


def test_attention_of_the_reply_is_shared_out_completely(nano, turn):
    trace = capture_trace(nano, *turn, spec=CaptureSpec(residuals="float16"))
    np.testing.assert_allclose(segment_shares(trace).values.sum(axis=-1), 1, atol=5e-3)
    np.testing.assert_allclose(rollout(nano, *turn).segments.values.sum(axis=-1), 1, atol=1e-4)
    assert trace.tensors["resid_post.reply"].shape == (len(trace.meta.layers), len(turn[1]), trace.meta.width)


def test_features_of_nano_are_as_wide_as_nano(nano):
    features = record_features(nano, [syllables(0.8), syllables(1.1)])
    audio, text = nano.model.config.audio_encoder_config, nano.model.config.text_config
    assert features.values["encoder"].shape == (2, audio.n_audio_state)
    assert features.values["adaptor"].shape == features.values["decoder in"].shape == (2, text.hidden_size)
    assert len(features.sites) == audio.n_audio_layer + 3 + 2 * text.num_hidden_layers


def test_muting_nothing_and_dosing_by_one_change_nothing_in_nano(nano):
    pair = contrast(nano, *conversations(), answers=nano_answers(nano))
    np.testing.assert_allclose(scale_heads(pair.clean, 1.0).change.values, 0, atol=1e-3)
    curve = dose_response(pair.clean, top_neurons(rank_neurons(pair), 5), (1.0,), n_controls=2)
    np.testing.assert_allclose(curve.values, pair.values[0], atol=1e-3)


def test_everything_runs_in_half_precision(tiny_loaded):
    """As on an accelerator: bfloat16 weights; numbers come back as ordinary floats."""
    half = SimpleNamespace(**vars(tiny_loaded) | {"model": copy.deepcopy(tiny_loaded.model).to(torch.bfloat16)})
    first, second = conversations()
    reply = half.processor.encode_text("good day")
    lens = logit_lens(half, first, reply, candidates=["hello", "river"])
    assert np.isfinite(lens.logprob).all() and lens.rising().values.dtype == np.float64
    assert attribute_curves(half, [(first, "river")], ["hello", "river"]).share.shape == (1, 4)
    trace = capture_trace(half, first, reply, spec=CaptureSpec(residuals="float32"))
    assert trace.tensors["resid_post.audio"].dtype == np.float32
    assert np.isfinite(record_features(half, [first]).values["answer 2"]).all()
    assert np.isfinite(rollout(half, first, reply).audio.values).all()
    pair = contrast(half, first, second, answers=("hello", "good"))
    assert np.isfinite(patch_positions(pair).patched).all() and np.isfinite(patch_heads(pair, "noise").patched).all()
    ranking = rank_neurons(pair)
    assert np.isfinite(dose_response(pair.clean, top_neurons(ranking, 2), n_controls=2).values).all()
