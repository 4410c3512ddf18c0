"""Neurons of the decoder: which of them carry an answer, and how it changes as they are turned down or up.

    rank     (clean - corrupted activation) x (slope of the metric), summed over positions     one backward pass
    dose     activation of a set x 0 .. 1 .. 2 -> metric; the same for random sets of equal size in the same layers

The ranking is a first-order guess of what patching each neuron would do (attribution patching), the dose curve is the
measurement. A set that matters no more than random sets of its size does not matter. A neuron is a column of the last
projection of a layer's MLP, at the site `mlp_post`.

Source: Nanda 2023 (attribution patching); random sets of equal size as control follow common practice in neuron
ablation.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.capture import evaluating
from analysis.contrast import Contrast, Run
from analysis.hooks import Site, Tap, decoder_of, n_layers, recorded
from analysis.patching import Patch, Progress, run_patches
from analysis.statistic import Axis, Effect, Statistic
from model.errors import TraceError

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Factors on the activation: 0 removes, 1 changes nothing."""


class Neuron(NamedTuple):
    """One hidden unit of an MLP."""

    layer: int
    """Decoder layer, counted from 0."""
    unit: int
    """Counted from 0."""


def rank_neurons(pair: Contrast) -> Statistic:
    """Guess, for every neuron, what patching it from clean into corrupted would add to the metric, [layer, neuron].

    The sum over all neurons is not the whole effect: heads and embeddings carry some of it, and slopes are local.
    """
    sites = [Site("mlp_post", layer) for layer in range(n_layers(pair.clean.model))]
    with recorded(pair.clean.model, sites, lambda activation: activation.detach()[0].clone()) as clean:
        pair.clean.value()
    scores = []
    for site, (there, slope) in zip(sites, _slopes(pair.corrupted, sites)):
        scores.append(((clean[site].to(there) - there) * slope).sum(dim=0).double().cpu().numpy())
    axes = Axis("layer", labels=range(len(sites))), Axis("neuron", labels=range(len(scores[0])))
    notes = {"answer": pair.answers[0], "rival": pair.answers[1]}
    return Statistic(f"guessed change of {pair.clean.metric.name}", np.stack(scores), axes, notes=notes)


def top_neurons(ranking: Statistic, n: int = 10) -> list[Neuron]:
    """Return the neurons with the largest guesses, whatever their sign, largest first."""
    order = np.argsort(-np.abs(ranking.values), axis=None, kind="stable")[:n]
    return [Neuron(*map(int, np.unravel_index(int(place), ranking.values.shape))) for place in order]


def ablate_neurons(
    run: Run,
    neurons: Sequence[Neuron],
    dose: float = 0.0,
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Effect:
    """Scale each neuron on its own, at all positions; the metric, [neuron], NaN where it was cancelled."""
    order = sorted(range(len(neurons)), key=lambda k: neurons[k].layer)  # neighbours of one layer share a pass
    everywhere = tuple(range(len(run)))
    patches = [Patch(Site("mlp_post", neurons[k].layer), everywhere, (neurons[k].unit,)) for k in order]
    measured = run_patches(run, patches, lambda patch, there: dose * there, progress=progress, cancel=cancel)
    values = np.empty(len(neurons))
    values[order] = measured
    axis = Axis("neuron", labels=[f"L{neuron.layer}N{neuron.unit}" for neuron in neurons])
    return Effect(run.metric.name, float(run.value()[0]), values, (axis,), notes={"dose": dose})


def dose_response(
    run: Run,
    neurons: Sequence[Neuron],
    doses: Sequence[float] = DOSES,
    *,
    toward: Literal["zero", "mean"] = "zero",
    n_controls: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Statistic:
    """Scale a set of neurons together, at all positions, and random sets of the same size beside it.

    Args:
        run: What is changed; see `analysis.contrast`.
        neurons: The set.
        doses: Factors; all of them go through the model in one batch.
        toward: What dose 0 leaves: nothing, or each neuron's mean over the positions of the run, which keeps what the
            neuron always says and removes only what it says here.
        n_controls: How many random sets, with as many neurons in each layer as the set has, none of them in it.
        seed: Seed of the random sets.
        progress: Told after each set.
        cancel: Looked at between sets.

    Returns:
        The metric, [set, dose]: the set, and the mean of the random sets with the range that 95 % of them fall in.

    Raises:
        TraceError: If there is no neuron, or a layer has too few others for a random set.
    """
    controls = _random_sets(run, neurons, n_controls, seed)
    tell, curves = progress or (lambda step, fraction: None), []
    for number, some in enumerate([neurons, *controls]):
        if cancel is not None and cancel.is_set():
            break
        curves.append(run.value(_dose_taps(some, doses, toward)))
        tell("dose", (number + 1) / (n_controls + 1))
    nothing = np.full(len(doses), np.nan)
    chosen, random = (curves or [nothing])[0], np.stack(curves[1:] or [nothing])
    low, high = np.quantile(random, [0.025, 0.975], axis=0)
    axes = Axis("set", labels=("chosen", "random sets")), Axis("dose", values=np.array(doses))
    return Statistic(
        run.metric.name,
        np.stack([chosen, random.mean(axis=0)]),
        axes,
        unit=run.metric.unit,
        low=np.stack([chosen, low]),
        high=np.stack([chosen, high]),
        n=len(curves[1:]),
        notes={"neurons": [list(neuron) for neuron in neurons], "toward": toward, "seed": seed},
    )


def _slopes(run: Run, sites: Sequence[Site]) -> list[tuple[Tensor, Tensor]]:
    """Return of each site the activation and the slope of the metric by it, [position, neuron] each."""
    kept: dict[Site, Tensor] = {}

    def keep(site: Site) -> Tap:
        def tap(activation: Tensor) -> None:
            kept[site] = activation

        return tap

    at = {site: keep(site) for site in sites}
    # Weights need no gradient, so the graph is made to begin at what flows into the first layer.
    at[Site("resid_pre", 0)] = lambda residual: residual.detach().requires_grad_()
    with evaluating(run.model), torch.enable_grad():
        slopes = torch.autograd.grad(run.measure(at).sum(), [kept[site] for site in sites])
    return [(kept[site].detach()[0], slope[0]) for site, slope in zip(sites, slopes)]


def _dose_taps(neurons: Sequence[Neuron], doses: Sequence[float], toward: str) -> dict[Site, Tap]:
    """Return taps that make one row for each dose."""
    by_layer: dict[int, list[int]] = {}
    for neuron in neurons:
        by_layer.setdefault(neuron.layer, []).append(neuron.unit)
    return {Site("mlp_post", layer): _dose_tap(units, doses, toward) for layer, units in by_layer.items()}


def _dose_tap(units: Sequence[int], doses: Sequence[float], toward: str) -> Callable[[Tensor], Tensor]:
    def tap(activation: Tensor) -> Tensor:
        rows = activation.expand(len(doses), *activation.shape[1:]).clone()
        here = rows[..., list(units)]
        rest = here.mean(dim=1, keepdim=True) if toward == "mean" else torch.zeros_like(here)
        factor = torch.tensor(doses, dtype=here.dtype, device=here.device)[:, None, None]
        rows[..., list(units)] = rest + factor * (here - rest)
        return rows

    return tap


def _random_sets(run: Run, neurons: Sequence[Neuron], n_sets: int, seed: int) -> list[list[Neuron]]:
    """Draw sets with as many neurons in each layer, none of the given ones among them."""
    if not neurons:
        raise _refusal("no neuron", "at least one", "Take some from `top_neurons`.")
    width, rng = decoder_of(run.model).config.intermediate_size, np.random.default_rng(seed)
    counts = Counter(neuron.layer for neuron in neurons)
    others = {layer: sorted(set(range(width)) - {n.unit for n in neurons if n.layer == layer}) for layer in counts}
    short = [layer for layer, count in counts.items() if len(others[layer]) < count]
    if short and n_sets:
        raise _refusal(
            f"more than half of the {width} neurons of layers {short}", "room for a random set", "Choose fewer."
        )
    return [
        [
            Neuron(layer, int(unit))
            for layer, count in counts.items()
            for unit in rng.choice(others[layer], count, False)
        ]
        for _ in range(n_sets)
    ]


def _refusal(found: str, expected: str, todo: str) -> TraceError:
    return TraceError("change neurons", found=found, expected=expected, todo=todo)
