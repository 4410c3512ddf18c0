"""Where the audio encoder looks: attention between moments of one clip, before any word is said.

    encoder frames, 50 a second      q0 q1 q2 q3 | q4 q5 ...        x  k0 k1 k2 k3 | k4 ...
    positions, 12.5 a second           query 0   |  query 1                key 0   |  key 1
                                       mean over 4                         sum over 4          rows still sum to 1

The squares of 50 frames a second are formed one layer at a time, pooled to the positions that the decoder reads, and
forgotten; what is kept is predicted in megabytes and refused before it is measured when it would not fit.

    found = encoder_attention(loaded, sound)
    heatmap(found.map(layer=3, head=1))           # analysis.figures.attention
    effect_map(found.reach())                     # how far each head looks, seconds

A clip longer than 25 s is encoded in pieces that never see each other; `piece` chooses one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from analysis.capture import evaluating
from analysis.statistic import Axis, Statistic
from model.audio import (
    INPUT_SAMPLE_RATE_HZ,
    Waveform,
    log_mel,
    n_audio_tokens,
    split_chunks,
    token_time_s,
    usable_length,
)
from model.errors import TraceError

POOL = 4
"""Encoder frames in one position of the decoder."""
NEAR_S = 0.2
"""Attention within so many seconds counts as local."""


@dataclass(frozen=True, eq=False)
class EncoderAttention:
    """Pooled attention of some encoder layers over one piece of a clip."""

    layers: tuple[int, ...]
    weights: np.ndarray
    """Shares, float16 [layer, head, query, key]; rows sum to 1. One head, their mean, if they were averaged."""
    centre_s: np.ndarray
    """Middle of each position in its clip, seconds, float64 [position]."""
    averaged: bool = False

    def __post_init__(self) -> None:
        n = len(self.centre_s)
        if self.weights.ndim != 4 or self.weights.shape[0] != len(self.layers) or self.weights.shape[2:] != (n, n):
            raise _refusal(
                f"weights {self.weights.shape} of {len(self.layers)} layers and {n} positions", "a square each"
            )

    def map(self, layer: int, head: int | None = None) -> Statistic:
        """Return who looks at whom, [query, key], in seconds; the mean over heads without one."""
        if layer not in self.layers or (head is not None and not 0 <= head < self.weights.shape[1]):
            raise _refusal(f"layer {layer}, head {head}", f"layers {list(self.layers)}, {self.weights.shape[1]} heads")
        rows = self.weights[self.layers.index(layer)].astype(np.float64)
        values = rows.mean(axis=0) if head is None else rows[head]
        axes = Axis("query", values=self.centre_s, unit="s"), Axis("key", values=self.centre_s, unit="s")
        return Statistic("attention in the encoder", values, axes, "share", notes={"layer": layer, "head": head})

    def reach(self) -> Statistic:
        """Return how far each head looks, [layer, head]: the mean distance in seconds, weighted by attention."""
        values = (self._rows() * self._distance_s).sum(axis=-1).mean(axis=-1)
        return Statistic("distance looked", values, self._axes, "s", n=len(self.centre_s))

    def nearby(self, within_s: float = NEAR_S) -> Statistic:
        """Return the share of attention that stays within some seconds of the query, [layer, head]."""
        values = (self._rows() * (self._distance_s <= within_s + 1e-9)).sum(axis=-1).mean(axis=-1)
        name = f"attention within {within_s:g} s"
        return Statistic(name, values, self._axes, "share", n=len(self.centre_s), notes={"within_s": within_s})

    def received(self) -> Statistic:
        """Return how much attention each moment receives, mean over queries and heads, [layer, time]; sums to 1."""
        axes = Axis("layer", labels=self.layers), Axis("time", values=self.centre_s, unit="s")
        return Statistic("attention received", self._rows().mean(axis=(1, 2)), axes, "share")

    def _rows(self) -> np.ndarray:
        return self.weights.astype(np.float64)

    @property
    def _distance_s(self) -> np.ndarray:
        return np.abs(self.centre_s[:, None] - self.centre_s[None, :])

    @property
    def _axes(self) -> tuple[Axis, Axis]:
        heads = ("mean",) if self.averaged else tuple(map(str, range(self.weights.shape[1])))
        return Axis("layer", labels=self.layers), Axis("head", labels=heads)


def encoder_attention(
    loaded: Any,
    sound: Waveform,
    *,
    layers: Sequence[int] | None = None,
    heads: Literal["all", "mean"] = "all",
    piece: int = 0,
    max_megabytes: float = 512.0,
) -> EncoderAttention:
    """Measure where the encoder looks in one piece of a clip, in one pass.

    Args:
        loaded: A LoadedModel: `.model`.
        sound: The clip.
        layers: Encoder layers, counted from 0; None takes all.
        heads: Keep every head, or their mean as a single one.
        piece: Which piece of 25 s, counted from 0.
        max_megabytes: Refuse to keep more than this.

    Raises:
        TraceError: If it would not fit, or there is no such layer or piece.
    """
    encoder, pieces = loaded.model.encoder, split_chunks(sound.resample(INPUT_SAMPLE_RATE_HZ))
    known = range(len(encoder.blocks))
    chosen = tuple(known) if layers is None else tuple(layers)
    if not 0 <= piece < len(pieces) or not chosen or any(layer not in known for layer in chosen):
        raise _refusal(f"piece {piece}, layers {chosen}", f"{len(pieces)} pieces and layers 0 to {len(known) - 1}")
    n = n_audio_tokens(len(pieces[piece].samples))
    _check_size(len(chosen), 1 if heads == "mean" else encoder.config.n_audio_head, n, max_megabytes)
    kept = _Pooled(chosen, n, heads)
    mel = log_mel(pieces[piece])
    with evaluating(encoder), torch.inference_mode():
        lens = torch.tensor([usable_length(mel.shape[-1])], device=loaded.model.device)
        encoder(mel[None].to(loaded.model.device), lens, attentions=kept)
    spans = np.array([token_time_s(k, chunk_index=piece) for k in range(n)])
    return EncoderAttention(chosen, np.stack(kept.rows), spans.mean(axis=1), heads == "mean")


class _Pooled(list):
    """Takes the weights of each layer as the encoder hands them over, keeps the wanted ones pooled, and no others."""

    def __init__(self, layers: Sequence[int], n: int, heads: str) -> None:
        super().__init__()
        self.layers, self.n, self.heads = layers, n, heads
        self.seen, self.rows = 0, []

    def append(self, weights: Tensor) -> None:
        """Take the next layer's weights, [1, head, frame, frame]."""
        if self.seen in self.layers:
            rows = weights[0].float()
            rows = rows.mean(dim=0, keepdim=True) if self.heads == "mean" else rows
            self.rows.append(pooled(rows, self.n).to("cpu", torch.float16).numpy())
        self.seen += 1


def pooled(weights: Tensor, n: int) -> Tensor:
    """Pool attention of encoder frames to positions: keys are added up, queries averaged, rows sum to 1 again.

    Args:
        weights: [head, frame, frame].
        n: Positions; frames beyond them (padding, and the last half position) are left out.
    """
    frames = min(weights.shape[-1], POOL * n)
    pad = POOL * n - frames
    kept = torch.nn.functional.pad(weights[:, :frames, :frames], (0, pad, 0, pad))
    summed = kept.unflatten(2, (n, POOL)).sum(dim=-1).unflatten(1, (n, POOL)).sum(dim=2)
    return summed / summed.sum(dim=-1, keepdim=True).clamp(min=1e-12)


def _check_size(layers: int, heads: int, n: int, max_megabytes: float) -> None:
    megabytes = layers * heads * n * n * 2 / 1e6
    if megabytes > max_megabytes:
        raise TraceError(
            "keep the attention of the encoder",
            found=f"{megabytes:,.0f} MB ({layers} layers, {heads} heads, {n} x {n} positions)",
            expected=f"at most {max_megabytes:,.0f} MB",
            todo=f"Use heads='mean', which takes {megabytes / heads:,.0f} MB, or name fewer layers.",
        )


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Count layers, heads and pieces from 0."
    return TraceError("look into the encoder", found=found, expected=expected, todo=todo)
