"""Where attention goes as a whole: shares by segment for every token and layer, sinks apart, and rollout.

    a row of attention = first token + system + human + audio + assistant + reply (+ thought + codes)      sums to 1
                         (a sink)                     |
                                       audio sinks + the rest of the audio

A sink is a place that is looked at whatever is said: the first token, and audio positions that more than half of the
reply tokens give more than `SINK_SHARE` of their attention in one head. It says where a head rests, not what it hears,
so it is shown apart, and `without_sinks` takes it out of a trace for every view that reads traces.

Rollout follows attention through all layers down to the input: at each layer a position is half itself (the residual
stream) and half what it attends to, mean over heads. It needs the rows of all positions, so it runs the model again,
and keeps only [position, frame + segment] of them.

Source: Abnar and Zuidema 2020 (rollout); Xiao et al. 2023 and Gu et al. 2024 (attention sinks, threshold 0.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.attention import listening_scores
from analysis.capture import FIRST, Layout, evaluating, lay_out, sound_inputs
from analysis.hooks import attention_rows, n_layers
from analysis.statistic import Axis, Statistic
from analysis.trace import Trace
from model.chat import Conversation, with_reply
from model.errors import TraceError

SINK_SHARE = 0.3
"""Attention that makes a place a sink."""
MIN_TOKENS = 4
"""Reply tokens that it takes to tell a sink from a look; with fewer, no audio position is called one."""
AUDIO, AUDIO_SINKS = "audio", "audio sinks"


def segment_shares(trace: Trace, *, head: int | None = None, sinks_apart: bool = True) -> Statistic:
    """Return how the attention of each reply token is shared out, [layer, query, segment]; sums to 1.

    Args:
        trace: With attention over segments.
        head: One head; None is the mean over heads.
        sinks_apart: Split `audio sinks` off from `audio`.
    """
    shares, names = _segments(trace), trace.meta.segments
    if sinks_apart and AUDIO in names:
        rows = trace.tensors["attention.audio"].astype(np.float64)
        parked = (rows * sink_frames(trace)[:, :, None]).sum(axis=-1)
        shares = np.concatenate([shares, parked[..., None]], axis=-1)
        shares[..., names.index(AUDIO)] -= parked
        names = (*names, AUDIO_SINKS)
    if head is not None and not 0 <= head < shares.shape[1]:
        raise _refusal(f"head {head} of {shares.shape[1]}", "a head that was captured")
    picked = shares.mean(axis=1) if head is None else shares[:, head]
    texts = tuple(trace.tokens.text[place] for place in trace.reply)
    axes = Axis("layer", labels=trace.meta.layers), Axis("query", labels=texts), Axis("segment", labels=names)
    return Statistic("share of attention", np.clip(picked, 0, 1), axes, unit="share", n=trace.n_reply)


def at_layer(shares: Statistic, layer: int | None = None) -> Statistic:
    """Return one layer of `segment_shares`, or the mean over layers, [query, segment], for figures."""
    if layer is None:
        values = shares.values.mean(axis=0)
    else:
        labels = shares.axes[0].labels
        if str(layer) not in labels:
            raise _refusal(f"layer {layer}", f"one of the captured layers {list(labels)}")
        values = shares.values[labels.index(str(layer))]
    return Statistic(shares.name, values, shares.axes[1:], unit=shares.unit, notes={"layer": layer})


def by_layer(shares: Statistic) -> Statistic:
    """Return the mean of `segment_shares` over the reply tokens, [layer, segment]."""
    axes = shares.axes[0], shares.axes[2]
    return Statistic(shares.name, shares.values.mean(axis=1), axes, unit=shares.unit, n=shares.n)


# --- sinks --------------------------------------------------------------------------------------------------------


def sink_frames(trace: Trace) -> np.ndarray:
    """Mark the audio positions that are sinks of a head, bool [layer, head, frame]."""
    rows = trace.tensors.get("attention.audio")
    if rows is None:
        raise _refusal("a trace without attention to the sound", "one made by `capture_trace`")
    if trace.n_reply < MIN_TOKENS:
        return np.zeros(rows.shape[:2] + rows.shape[3:], dtype=bool)
    return np.median(rows.astype(np.float32), axis=2) > SINK_SHARE


def sink_shares(trace: Trace) -> Statistic:
    """Return how much attention each head parks on sinks, mean over reply tokens, [layer, head]."""
    first = _segments(trace)[..., trace.meta.segments.index(FIRST)] if FIRST in trace.meta.segments else 0.0
    parked = (trace.tensors["attention.audio"].astype(np.float64) * sink_frames(trace)[:, :, None]).sum(axis=-1)
    axes = Axis("layer", labels=trace.meta.layers), Axis("head", labels=range(trace.meta.n_heads))
    return Statistic("attention parked on sinks", (first + parked).mean(axis=2), axes, unit="share", n=trace.n_reply)


def without_sinks(trace: Trace) -> Trace:
    """Return the trace with attention to sinks taken out and the rest of each row scaled up to sum to 1 again.

    A row that was nothing but sink stays as it is.
    """
    shares, audio = _segments(trace), trace.tensors["attention.audio"].astype(np.float64)
    kept = np.where(sink_frames(trace)[:, :, None], 0.0, audio)
    cleaned = shares.copy()
    if AUDIO in trace.meta.segments:
        cleaned[..., trace.meta.segments.index(AUDIO)] -= (audio - kept).sum(axis=-1)
    if FIRST in trace.meta.segments:
        cleaned[..., trace.meta.segments.index(FIRST)] = 0
    total = np.clip(cleaned, 0, None).sum(axis=-1, keepdims=True)
    scaled = total > 1e-3  # below that, float16 has no digits left to scale up
    safe = np.where(scaled, total, 1.0)
    tensors = {
        "attention.audio": np.where(scaled, kept / safe, audio).clip(0, 1).astype(np.float32),
        "attention.segments": np.where(scaled, np.clip(cleaned, 0, None) / safe, shares).astype(np.float32),
    }
    return replace(trace, tensors={**trace.tensors, **tensors})


# --- heads --------------------------------------------------------------------------------------------------------


def rank_heads(traces: Sequence[Trace], n: int = 10) -> Statistic:
    """Return the heads that listen best, best first, [head]; the score is that of `listening_scores`."""
    scores = listening_scores(traces)
    order = np.argsort(-scores.values, axis=None, kind="stable")[:n]
    places = [np.unravel_index(int(place), scores.values.shape) for place in order]
    labels = [f"L{scores.axes[0].labels[layer]} H{head}" for layer, head in places]
    values = [scores.values[place] for place in places]
    return Statistic(scores.name, values, (Axis("head", labels=labels),), n=scores.n)


# --- rollout ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rollout:
    """What each reply token is made of, when attention is followed down to the input."""

    audio: Statistic
    """Share of each audio position, [query, frame]."""
    segments: Statistic
    """Share of each segment, [query, segment]; sums to 1."""


def rollout(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int],
    *,
    residual: float = 0.5,
    on_layer: Callable[[int], None] | None = None,
) -> Rollout:
    """Follow attention from each reply token through all layers to the input, in one pass.

    Memory grows with positions x (frames + segments), never with positions squared; time does.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given.
        reply_ids: What it answered (`Turn.ids`), at least one id; the row that predicted each is followed.
        residual: How much of a position stays itself at each layer, 0 to 1.
        on_layer: Called with each layer that is done; raising stops.
    """
    if not len(reply_ids) or not 0 <= residual <= 1:
        raise _refusal(f"{len(reply_ids)} reply tokens and a residual of {residual}", "a reply, and a share of 0 to 1")
    model, processor = loaded.model, loaded.processor
    prompt = processor.encode(with_reply(conversation))
    layout = lay_out(prompt, reply_ids, processor)
    flow = _Flow(layout, residual)
    device = next(model.parameters()).device
    ids, everywhere = torch.as_tensor(layout.ids, device=device)[None], torch.arange(len(layout.ids))

    def done(layer: int) -> None:
        flow.next_layer()
        if on_layer is not None:
            on_layer(layer)

    with evaluating(model), torch.inference_mode():
        with attention_rows(model, everywhere, {"flow": flow}, layers=range(n_layers(model)), on_layer=done):
            model(input_ids=ids, use_cache=False, logits_to_keep=1, **sound_inputs(processor, prompt))
    return flow.rollout(layout)


class _Flow:
    """A reducer of attention rows that multiplies them, layer by layer, with what flows in from below."""

    def __init__(self, layout: Layout, residual: float) -> None:
        n, frames = len(layout.ids), torch.as_tensor(layout.frames)
        to_frames = torch.zeros(n, len(frames))
        to_frames[frames, torch.arange(len(frames))] = 1
        to_segments = torch.nn.functional.one_hot(torch.as_tensor(layout.segment).long(), len(layout.segment_names))
        self.below = torch.cat([to_frames, to_segments.float()], dim=1)
        self.blocks: list[Tensor] = []
        self.residual = residual

    def __call__(self, rows: Tensor) -> Tensor:
        """Take the next block of rows, [head, query, key]; nothing of it is kept as it is."""
        self.below = self.below.to(rows.device)
        start = sum(map(len, self.blocks))
        itself = self.below[start : start + rows.shape[1]]
        self.blocks.append(self.residual * itself + (1 - self.residual) * (rows.mean(dim=0) @ self.below))
        return rows[:1, :, :0]

    def next_layer(self) -> None:
        """Let what came out of this layer flow into the next."""
        self.below, self.blocks = torch.cat(self.blocks), []

    def rollout(self, layout: Layout) -> Rollout:
        """Return the rows that predicted the reply."""
        rows = self.below[layout.n_prompt - 1 : -1].double().cpu().numpy()
        queries, n_frames = Axis("query", labels=layout.text[layout.n_prompt :]), len(layout.frames)
        centres = (layout.start_s + layout.end_s)[layout.frames] / 2
        audio = Statistic(
            "rollout to the sound", rows[:, :n_frames], (queries, Axis("frame", values=centres, unit="s")), unit="share"
        )
        names = Axis("segment", labels=layout.segment_names)
        return Rollout(audio, Statistic("rollout", rows[:, n_frames:], (queries, names), unit="share", n=len(rows)))


def _segments(trace: Trace) -> np.ndarray:
    """Return float64 [layer, head, query, segment]."""
    if "attention.segments" not in trace.tensors or not trace.n_reply:
        raise _refusal("no attention over segments, or an empty reply", "a trace made by `capture_trace`")
    return trace.tensors["attention.segments"].astype(np.float64)


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("share out attention", found=found, expected=expected, todo="Capture the turn again.")
