"""Activation patching: which activation carries the answer, at which layer and position, and through which head.

    denoise   corrupted run + one activation of the clean run   -> does the answer come back?   what suffices
    noise     clean run + one activation of the corrupted run   -> is the answer lost?          what is needed

Both say something else: where two heads back each other up, denoising finds either, noising none. One loop does all
of it. Patches of one layer go through the model together: the run is one row up to that layer and becomes a batch
there, so the layers below are computed once, not once for each patch. What is swapped is an activation at a `Site`
(`analysis/hooks.py`); patch every position and it is the other run, patch none and nothing has happened.

`scale_heads` needs no second run: it mutes (0) or boosts (2) each head and measures one run again.

Source: Vig et al. 2020; Meng et al. 2022; Heimersheim and Nanda 2024 for the two directions and their meaning.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.contrast import Contrast, Region, Run
from analysis.hooks import Site, decoder_of, n_layers, recorded
from analysis.resampling import mean_statistic
from analysis.statistic import Axis, Effect, Statistic
from model.errors import TraceError

Direction = Literal["denoise", "noise"]
Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is done, 0 to 1."""
MAX_POSITIONS = 8192
"""Positions read in one pass, over all patches of the batch."""
MAX_LOGITS = 2**27
"""Logits in one pass, half a gigabyte in float32."""


class Patch(NamedTuple):
    """One change: where."""

    site: Site
    positions: tuple[int, ...]
    parts: tuple[int, ...] | None = None
    """Heads at z, q, k, v or neurons at mlp_post; None is the whole activation."""


Change = Callable[[Patch, Tensor], Tensor]
"""(patch, its part of the activation) -> what to put there; [position, ...] both."""


# --- maps ---------------------------------------------------------------------------------------------------------


def patch_positions(
    pair: Contrast,
    direction: Direction = "denoise",
    *,
    site: str = "resid_post",
    regions: Sequence[Region] | None = None,
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Effect:
    """Patch each region at each layer, one at a time.

    Args:
        pair: The two runs.
        direction: `denoise` patches clean into corrupted, `noise` corrupted into clean.
        site: What is swapped: resid_pre, resid_post, attn_out, mlp_out ...
        regions: Positions that go together; by default the pair's own, `pair.clean.tokens` for single positions.
        layers: Which layers; None takes all.
        progress: Told after each batch.
        cancel: Looked at between batches.

    Returns:
        The metric, [layer, position]; NaN where it was cancelled. `.recovered` is 0 where nothing changed and 1 where
        the patched run is as good as the run patched from.
    """
    base, source = _directed(pair, direction)
    layers = range(n_layers(base.model)) if layers is None else layers
    regions = base.regions if regions is None else regions
    patches = [Patch(Site(site, layer), region.positions) for layer in layers for region in regions]
    kept = _activations(source, [Site(site, layer) for layer in layers])
    values = run_patches(base, patches, _from(kept), progress=progress, cancel=cancel)
    index = (Axis("layer", labels=layers), Axis("position", labels=[region.label for region in regions]))
    return _effect(pair, direction, values.reshape(len(layers), len(regions)), index, site)


def patch_heads(
    pair: Contrast,
    direction: Direction = "denoise",
    *,
    site: Literal["z", "q"] = "z",
    positions: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Effect:
    """Patch each head, one at a time; the metric, [layer, head].

    Args:
        pair: The two runs.
        direction: As for `patch_positions`.
        site: `z`, what a head writes; `q`, where it looks.
        positions: Where to patch; None takes all positions.
        progress: Told after each batch.
        cancel: Looked at between batches.
    """
    base, source = _directed(pair, direction)
    patches, index = _every_head(base, site, positions)
    kept = _activations(source, list(dict.fromkeys(patch.site for patch in patches)))
    values = run_patches(base, patches, _from(kept), progress=progress, cancel=cancel)
    return _effect(pair, direction, values.reshape(len(index[0]), len(index[1])), index, site)


def scale_heads(
    run: Run,
    factor: float = 0.0,
    *,
    positions: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Effect:
    """Multiply what each head writes by a factor, one head at a time; the metric, [layer, head].

    Args:
        run: One run (`answer_run`, or one of a pair).
        factor: 0 mutes, 1 changes nothing, 2 boosts.
        positions: Where; None takes all positions.
        progress: Told after each batch.
        cancel: Looked at between batches.
    """
    patches, index = _every_head(run, "z", positions)
    values = run_patches(run, patches, lambda patch, there: factor * there, progress=progress, cancel=cancel)
    shape = len(index[0]), len(index[1])
    return Effect(run.metric.name, float(run.value()[0]), values.reshape(shape), index, notes={"factor": factor})


# --- reading maps -------------------------------------------------------------------------------------------------


def strongest(statistic: Statistic, n: int = 5) -> list[tuple[tuple[str, ...], float]]:
    """Return the places with the largest values, whatever their sign: their labels, and the value."""
    order = np.argsort(-np.abs(np.nan_to_num(statistic.values)), axis=None, kind="stable")[:n]
    places = [np.unravel_index(int(place), statistic.values.shape) for place in order]
    return [
        (tuple(axis.ticks[i] for axis, i in zip(statistic.axes, place)), float(statistic.values[place]))
        for place in places
    ]


def mean_effect(effects: Sequence[Effect]) -> Statistic:
    """Return the share recovered, mean over pairs with its interval; one pair proves little.

    Raises:
        TraceError: If the maps have other axes; patch regions that all pairs share.
    """
    ticks = {tuple(axis.ticks for axis in effect.index) for effect in effects}
    if len(ticks) != 1:
        raise _refusal(
            f"maps with {len(ticks)} different sets of places",
            "at least one map, all over the same layers and places",
            "Patch heads, or regions with the same labels in every pair.",
        )
    rows = np.stack([effect.recovered.values for effect in effects])
    return mean_statistic(effects[0].recovered.name, rows, effects[0].index, unit="share", notes=effects[0].notes)


# --- the loop -----------------------------------------------------------------------------------------------------


def run_patches(
    run: Run,
    patches: Sequence[Patch],
    change: Change,
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """Measure a run again with each patch on its own; the metric, float64 [patch], NaN where it was cancelled.

    Args:
        run: What is changed.
        patches: Where; neighbours at the same site share a pass.
        change: What is put there.
        progress: Told after each batch.
        cancel: Looked at between batches.

    Raises:
        TraceError: If a patch is not in the decoder; the sound of a run is encoded once and not again.
    """
    outside = sorted({patch.site.part for patch in patches} - {"decoder"})
    if outside:
        raise _refusal(
            f"sites in {outside}", "sites of the decoder", "Patch resid_pre of layer 0 for the sound itself."
        )
    values = np.full(len(patches), np.nan)
    tell = progress or (lambda step, fraction: None)
    for first, batch in _batches(run, patches):
        if cancel is not None and cancel.is_set():
            break
        values[first : first + len(batch)] = run.value({batch[0].site: _tap(batch, change)})
        tell("patch", (first + len(batch)) / len(patches))
    return values


def _batches(run: Run, patches: Sequence[Patch]) -> Iterator[tuple[int, list[Patch]]]:
    """Yield patches of one site that fit into one pass, with the place of the first."""
    vocabulary = decoder_of(run.model).config.vocab_size
    most = max(1, min(MAX_POSITIONS // len(run), MAX_LOGITS // (len(run.metric.keep) * vocabulary)))
    first = 0
    for _, group in groupby(patches, key=lambda patch: patch.site):
        of_site = list(group)
        for start in range(0, len(of_site), most):
            yield first + start, of_site[start : start + most]
        first += len(of_site)


def _tap(batch: Sequence[Patch], change: Change) -> Callable[[Tensor], Tensor]:
    """Return a tap that makes one row for each patch out of the run's single row."""

    def tap(activation: Tensor) -> Tensor:
        rows = activation.expand(len(batch), *activation.shape[1:]).clone()
        for row, patch in zip(rows, batch):
            where = _where(patch, row.device)
            row[where] = change(patch, row[where]).to(row)
        return rows

    return tap


def _where(patch: Patch, device: torch.device) -> tuple[Tensor, ...]:
    """Return the index of a patch into [position, ...]."""
    positions = torch.tensor(patch.positions, dtype=torch.long, device=device)
    if patch.parts is None:
        return (positions,)
    return positions[:, None], torch.tensor(patch.parts, dtype=torch.long, device=device)[None]


def _from(kept: dict[Site, Tensor]) -> Change:
    """Return the change that puts another run's activation in place."""
    return lambda patch, there: kept[patch.site][_where(patch, there.device)]


def _activations(run: Run, sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Return the activations of a run as it is, [position, ...] each."""
    with recorded(run.model, sites, lambda activation: activation.detach()[0]) as seen:
        run.value()
    return seen


def _every_head(run: Run, site: str, positions: Sequence[int] | None) -> tuple[list[Patch], tuple[Axis, Axis]]:
    layers, heads = range(n_layers(run.model)), range(decoder_of(run.model).config.num_attention_heads)
    places = tuple(range(len(run))) if positions is None else tuple(positions)
    patches = [Patch(Site(site, layer), places, (head,)) for layer in layers for head in heads]
    return patches, (Axis("layer", labels=layers), Axis("head", labels=heads))


def _directed(pair: Contrast, direction: Direction) -> tuple[Run, Run]:
    """Return the run that is patched, and the run it is patched from."""
    if direction not in ("denoise", "noise"):
        todo = "denoise patches clean into corrupted, noise the other way."
        raise _refusal(f"direction {direction!r}", "denoise or noise", todo)
    return (pair.corrupted, pair.clean) if direction == "denoise" else (pair.clean, pair.corrupted)


def _effect(pair: Contrast, direction: Direction, values: np.ndarray, index: tuple[Axis, ...], site: str) -> Effect:
    clean, corrupted = pair.values
    baseline, reference = (corrupted, clean) if direction == "denoise" else (clean, corrupted)
    notes = {"direction": direction, "site": site, "answer": pair.answers[0], "rival": pair.answers[1]}
    return Effect(pair.clean.metric.name, baseline, values, index, reference, notes)


def _refusal(found: str, expected: str, todo: str) -> TraceError:
    return TraceError("patch a run", found=found, expected=expected, todo=todo)
