"""Patching finds what was planted, obeys its law at both ends, and leaves the model as it was."""

import threading

import numpy as np
import pytest
import torch

from analysis import patching
from analysis.contrast import Region, contrast
from analysis.hooks import Site, n_layers
from analysis.patching import Patch, mean_effect, patch_heads, patch_positions, run_patches, scale_heads, strongest
from analysis.statistic import Axis, Effect
from model.chat import Audio, Message, Text
from model.checkpoint import syllables
from model.errors import TraceError
from tests.analysis import circuit
from tests.analysis.test_capture import n_hooks


@pytest.fixture(scope="module")
def pair():
    return circuit.planted_pair()


@pytest.fixture(scope="module")
def heard_pair(tiny_loaded):
    """A random model that hears two sounds of the same length."""
    return contrast(tiny_loaded, *conversations(), answers=("hello", "good"))


def conversations():
    sound = syllables(1.2)
    backwards = type(sound)(sound.samples[::-1].copy(), sound.sample_rate_hz)
    ask, answer = Message("system", (Text("Be brief."),)), Message("assistant", closed=False)
    return tuple((ask, Message("human", (Audio(one),)), answer) for one in (sound, backwards))


# --- planted ------------------------------------------------------------------------------------------------------


def test_the_planted_pair_is_answered_differently(pair):
    clean, corrupted = pair.values
    assert clean > 1 and corrupted < -1


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_positions_show_the_way_of_the_letter(pair, direction):
    """Before the head it stands at the source, from the head on at the last position, and nowhere else."""
    found = patch_positions(pair, direction).recovered.values
    expected = np.zeros((3, circuit.N))
    expected[0, circuit.SOURCE] = expected[1:, circuit.LAST] = 1
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_heads_show_the_planted_one_and_no_other(pair, direction):
    found = patch_heads(pair, direction).recovered
    assert strongest(found, 1)[0][0] == tuple(map(str, circuit.HEAD))
    others = np.delete(found.values.ravel(), np.ravel_multi_index(circuit.HEAD, found.values.shape))
    assert found.values[circuit.HEAD] == pytest.approx(1, abs=0.05) and np.abs(others).max() < 0.05


def test_the_head_writes_at_the_last_position_only(pair):
    there = patch_heads(pair, positions=[circuit.LAST]).recovered.values[circuit.HEAD]
    elsewhere = patch_heads(pair, positions=range(circuit.LAST)).recovered.values[circuit.HEAD]
    assert there == pytest.approx(1, abs=0.05) and elsewhere == pytest.approx(0, abs=0.05)


def test_attention_and_mlp_outputs_tell_the_layers_apart(pair):
    attention = patch_positions(pair, site="attn_out", regions=pair.clean.tokens).recovered.values
    assert np.unravel_index(np.abs(attention).argmax(), attention.shape) == (circuit.HEAD[0], circuit.LAST)
    mlp = patch_positions(pair, site="mlp_out").recovered.values
    assert np.unravel_index(np.abs(mlp).argmax(), mlp.shape) == (circuit.NEURON[0], circuit.LAST)
    assert 0.2 < mlp.max() < 0.8  # the neuron carries a part of it, the head's own writing the rest


def test_muting_the_head_takes_the_answer_away_and_boosting_makes_it_stronger(pair):
    muted, boosted = scale_heads(pair.clean, 0.0), scale_heads(pair.clean, 2.0)
    assert muted.baseline == pytest.approx(pair.values[0])
    assert abs(muted.patched[circuit.HEAD]) < 0.1 * muted.baseline
    assert boosted.patched[circuit.HEAD] > 1.1 * boosted.baseline
    others = np.ones((3, 4), dtype=bool)
    others[circuit.HEAD] = False
    for effect in (muted, boosted):
        assert np.abs(effect.change.values[others]).max() < 0.1
    np.testing.assert_allclose(scale_heads(pair.clean, 1.0).change.values, 0, atol=1e-4)


# --- law 9 --------------------------------------------------------------------------------------------------------


def check_both_ends(pair):
    """Patch everything and you get the other run; patch nothing and you get this one."""
    clean, corrupted = pair.values
    assert abs(clean - corrupted) > 1e-3
    regions = [Region("all", tuple(range(len(pair.clean)))), Region("none", ())]
    for direction, (base, other) in {"denoise": (corrupted, clean), "noise": (clean, corrupted)}.items():
        effect = patch_positions(pair, direction, regions=regions)
        assert effect.baseline == base and effect.reference == other
        close = {"rtol": 1e-4, "atol": 2e-4}
        np.testing.assert_allclose(effect.patched[:, 0], other, **close)
        np.testing.assert_allclose(effect.patched[:, 1], base, **close)
        entry = patch_positions(pair, direction, site="resid_pre", regions=regions, layers=[0])
        np.testing.assert_allclose(entry.patched[0], [other, base], **close)


def test_patch_everything_or_nothing_in_the_toy(pair):
    check_both_ends(pair)


def test_patch_everything_or_nothing_in_a_model_that_hears(heard_pair):
    check_both_ends(heard_pair)


def test_patch_everything_or_nothing_in_nano(nano):
    first, second = conversations()
    check_both_ends(contrast(nano, first, second, answers=nano_answers(nano)))


def nano_answers(nano) -> tuple[str, str]:
    """Two words that begin differently, whatever the tokenizer."""
    texts = {text: nano.processor.encode_text(text) for text in ("yes", "no", "on", "off", "a", "b")}
    first, *others = texts
    return first, next(text for text in others if texts[text][0] != texts[first][0])


# --- the loop -----------------------------------------------------------------------------------------------------


def test_batches_of_patches_give_what_single_ones_do(heard_pair, monkeypatch):
    together = patch_positions(heard_pair).patched
    monkeypatch.setattr(patching, "MAX_POSITIONS", 1)
    np.testing.assert_allclose(together, patch_positions(heard_pair).patched, atol=1e-4)


def test_progress_is_told_and_cancelling_leaves_the_rest_nan(heard_pair, monkeypatch):
    monkeypatch.setattr(patching, "MAX_POSITIONS", 1)
    told, cancel = [], threading.Event()

    def progress(step: str, fraction: float) -> None:
        told.append((step, fraction))
        if len(told) == 5:
            cancel.set()

    effect = patch_heads(heard_pair, progress=progress, cancel=cancel)
    assert told[-1] == ("patch", 5 / 12)
    assert np.isfinite(effect.patched.ravel()[:5]).all() and np.isnan(effect.patched.ravel()[5:]).all()


def test_looking_changes_nothing_and_stopping_cleans_up(heard_pair):
    model = heard_pair.clean.model
    hooked, before = n_hooks(model), heard_pair.values
    model.train()
    model.encoder.eval()
    try:
        patch_heads(heard_pair)

        def stop(step: str, fraction: float) -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            patch_positions(heard_pair, progress=stop)
        assert model.training and not model.encoder.training
    finally:
        model.eval()
    assert n_hooks(model) == hooked and heard_pair.values == before


def test_a_patch_may_pick_dimensions(pair):
    """A site without heads can be patched in some of its dimensions: the letter's is all it takes."""
    kept = patching._activations(pair.clean, [Site("resid_pre", 0)])
    patches = [
        Patch(Site("resid_pre", 0), (circuit.SOURCE,), (dimension,)) for dimension in (circuit.LETTER, circuit.INFO)
    ]
    values = run_patches(pair.corrupted, patches, patching._from(kept))
    np.testing.assert_allclose(values, pair.values, atol=0.05)


def test_misuse_is_refused(pair):
    with pytest.raises(TraceError, match="direction 'back'"):
        patch_heads(pair, "back")
    with pytest.raises(TraceError, match="encoder"):
        run_patches(pair.clean, [Patch(Site("z", 0, "encoder"), (0,))], lambda patch, there: there)


# --- reading ------------------------------------------------------------------------------------------------------


def test_mean_over_pairs_has_an_interval():
    index = (Axis("head", labels="ab"),)
    effects = [Effect("m", 0.0, [value, 0.0], index, reference=2.0) for value in (1.0, 2.0, 3.0)]
    mean = mean_effect(effects)
    np.testing.assert_allclose(mean.values, [1.0, 0.0])
    assert mean.n == 3 and 0.5 <= mean.low[0] < 1 < mean.high[0] <= 1.5
    with pytest.raises(TraceError, match="different sets"):
        mean_effect([effects[0], Effect("m", 0.0, [1.0], (Axis("head", labels="a"),), reference=1.0)])


def test_strongest_names_the_places_whatever_the_sign():
    stat = Effect(
        "m", 0.0, [[0.1, -3.0], [np.nan, 2.0]], (Axis("layer", labels="01"), Axis("head", labels="xy"))
    ).change
    assert strongest(stat, 2) == [(("0", "y"), -3.0), (("1", "y"), 2.0)]


def test_a_share_needs_two_different_runs():
    effect = Effect("m", 1.0, [1.0], (Axis("head", labels="a"),), reference=1.0)
    with pytest.raises(TraceError, match="which share of the m"):
        effect.recovered  # noqa: B018
    with pytest.raises(TraceError, match="reference of None"):
        Effect("m", 1.0, [1.0], (Axis("head", labels="a"),)).recovered  # noqa: B018


def test_every_layer_and_head_is_on_the_map(heard_pair):
    effect = patch_heads(heard_pair)
    assert effect.patched.shape == (n_layers(heard_pair.clean.model), 4)
    assert effect.notes["answer"] and effect.notes["site"] == "z" and torch.is_grad_enabled()
