"""The planted neuron is found, its dose curve is a line, and random sets do nothing."""

import threading

import numpy as np
import pytest
import torch

from analysis.contrast import answer_run
from analysis.hooks import Site
from analysis.neurons import Neuron, ablate_neurons, dose_response, rank_neurons, top_neurons
from analysis.patching import Patch, run_patches
from model.errors import TraceError
from tests.analysis import circuit
from tests.analysis.test_capture import n_hooks
from tests.analysis.test_patching import conversations


@pytest.fixture(scope="module")
def pair():
    return circuit.planted_pair()


@pytest.fixture(scope="module")
def ranking(pair):
    return rank_neurons(pair)


def test_the_planted_neuron_comes_first_by_far(ranking):
    assert top_neurons(ranking, 1) == [Neuron(*circuit.NEURON)]
    sizes = np.sort(np.abs(ranking.values).ravel())
    assert sizes[-1] > 20 * sizes[-2] and ranking.values.shape == (3, 48)


def test_the_guess_is_the_slope_of_a_small_patch(pair, ranking):
    """Move one neuron a hundredth of the way to the clean run: the metric moves by a hundredth of the guess."""
    layer, unit = circuit.NEURON
    site, step = Site("mlp_post", layer), 0.01
    kept = {}
    from analysis.hooks import recorded

    with recorded(pair.clean.model, [site], lambda x: kept.setdefault(site, x.detach()[0])):
        pair.clean.value()
    patch = Patch(site, tuple(range(circuit.N)), (unit,))
    moved = run_patches(pair.corrupted, [patch], lambda p, there: there + step * (kept[site][:, [unit]] - there))[0]
    assert (moved - pair.values[1]) / step == pytest.approx(ranking.values[layer, unit], rel=0.02)


def test_ranking_leaves_no_gradient_and_no_hook(pair):
    before = n_hooks(pair.clean.model)
    rank_neurons(pair)
    assert all(weight.grad is None for weight in pair.clean.model.parameters()) and n_hooks(pair.clean.model) == before


def test_ablation_of_single_neurons(pair):
    neurons = [Neuron(*circuit.NEURON), Neuron(0, 3), Neuron(2, 9)]
    effect = ablate_neurons(pair.clean, neurons)
    assert effect.index[0].labels == ("L2N7", "L0N3", "L2N9")
    share = effect.change.values / effect.baseline
    assert share[0] < -0.2 and np.abs(share[1:]).max() < 0.01
    np.testing.assert_allclose(ablate_neurons(pair.clean, neurons, dose=1.0).change.values, 0, atol=1e-4)


def test_the_dose_curve_rises_with_the_dose_and_random_sets_stay_flat(pair):
    told = []
    curve = dose_response(
        pair.clean, [Neuron(*circuit.NEURON)], n_controls=8, progress=lambda step, share: told.append(share)
    )
    chosen, random = curve.values
    assert (np.diff(chosen) > 0).all() and curve.axes[1].values[4] == 1
    assert chosen[4] == pytest.approx(pair.values[0], abs=1e-4) and np.ptp(random) < 0.02 * np.ptp(chosen)
    assert (curve.low[1] <= random).all() and (random <= curve.high[1]).all() and curve.n == 8
    assert chosen[0] < curve.low[1][0] and told[-1] == 1
    alone = ablate_neurons(pair.clean, [Neuron(*circuit.NEURON)])
    assert chosen[0] == pytest.approx(float(alone.patched[0]), abs=1e-4)


def test_toward_the_mean_keeps_what_a_neuron_always_says(pair):
    """A neuron that is the same everywhere loses nothing; at dose 1 nothing changes either way."""
    curve = dose_response(pair.clean, [Neuron(*circuit.NEURON)], (0.0, 1.0), toward="mean", n_controls=0)
    assert curve.values[0, 1] == pytest.approx(pair.values[0], abs=1e-4) and np.isnan(curve.values[1]).all()
    zero = dose_response(pair.clean, [Neuron(*circuit.NEURON)], (0.0,), n_controls=0)
    assert curve.values[0, 0] > zero.values[0, 0]  # a ninth of it is left


def test_neurons_of_several_layers_share_a_pass(pair):
    """Doses make the batch in the first layer that is touched; later layers get it ready-made."""
    both = [Neuron(0, 1), Neuron(*circuit.NEURON)]
    curve = dose_response(pair.clean, both, (0.0, 1.0, 2.0), n_controls=3, seed=1)
    single = dose_response(pair.clean, both[1:], (0.0, 1.0, 2.0), n_controls=0)
    np.testing.assert_allclose(curve.values[0], single.values[0], atol=0.05)


def test_it_works_on_a_model_that_hears(tiny_loaded):
    reply = [*tiny_loaded.processor.encode_text("good"), tiny_loaded.processor.ids.eot]
    run = answer_run(tiny_loaded, conversations()[0], reply)
    curve = dose_response(run, [Neuron(1, 5), Neuron(2, 8)], n_controls=2)
    assert curve.unit == "nat" and np.isfinite(curve.values).all() and torch.is_grad_enabled()


def test_cancelling_and_misuse(pair):
    cancel = threading.Event()
    cancel.set()
    assert np.isnan(dose_response(pair.clean, [Neuron(0, 0)], cancel=cancel).values).all()
    with pytest.raises(TraceError, match="no neuron"):
        dose_response(pair.clean, [])
    with pytest.raises(TraceError, match="more than half"):
        dose_response(pair.clean, [Neuron(0, unit) for unit in range(30)])
