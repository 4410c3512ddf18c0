"""What the linked view is given: a Trace as plain JSON values, big arrays as base64.

    time axis      | clip 0 ........ | gap | clip 1 .............. |      one axis for all clips of the turn
    sound          16-bit samples                                         to draw and to play
    mel            8 bit, as the model hears it, coarser for long sounds
    attention      8 bit times a scale for each row [head, query]         all layers of a small model; of a large one
                                                                          the first to show, the rest on request

Token texts are data, never markup: the view writes them as text. Nothing here knows a browser or gradio.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from analysis.attention import Word, layer_rows, listening_scores, named_heads, words
from analysis.figures.theme import token_label
from analysis.trace import Trace
from model.audio import FRAME_RATE_HZ, HOP_SAMPLES, Waveform, log_mel, split_chunks

PAYLOAD_VERSION = 1
CLIP_GAP_S = 0.4
"""Silence shown between two clips on the common time axis."""
INLINE_BYTES = 3_000_000
"""Attention up to this size travels with the payload; beyond it layers are fetched one by one."""
MEL_BINS = 64
MEL_COLUMNS = 6000
"""Most mel columns of one clip: 100 per second up to a minute, fewer per second beyond."""
MEL_RANGE = 1.5
"""How far below its maximum the log-mel is shown, in its own units: 60 dB of the 80 dB it holds."""
LEAST_SCORE = 0.02
"""A head below this listening score follows nothing; when all are, the view opens on the mean of the last layer."""
N_BEST = 3
"""How many of the best listening heads the view offers, if they score at least half as much as the best one."""


def view_payload(trace: Trace, *, run_id: str = "", title: str = "") -> dict[str, Any]:
    """Return everything the linked view needs to start, as JSON-able values.

    Args:
        trace: What to show.
        run_id: Passed back by the view when it fetches a layer, so that the app can find the trace again.
        title: Heading for people; the model's name by default.
    """
    offsets = _clip_offsets(trace)
    frames, grouped = trace.frames, words(trace)
    has_attention = "attention.audio" in trace.tensors and trace.n_reply > 0 and len(frames) > 0
    heads = _head_scores(trace) if has_attention else {"best": [], "scores": []}
    start = heads["best"][0] if heads["best"] else {"layer": max(trace.meta.layers, default=0), "head": None}
    shift = np.array([offsets[f"input_{k}"] for k in frames.clip])
    return {
        "version": PAYLOAD_VERSION,
        "id": run_id,
        "title": title or trace.meta.model,
        "offset": trace.meta.capture.offset,
        "duration_s": _timeline_end(trace, offsets),
        "clips": [_clip(name, trace, offsets[name]) for name in offsets],
        "frames": {"start_s": _rounded(frames.start_s + shift), "end_s": _rounded(frames.end_s + shift)},
        "tokens": _tokens(trace, grouped),
        "words": [{"text": word.text, "tokens": list(word.queries)} for word in grouped],
        "layers": list(trace.meta.layers) if has_attention else [],
        "heads": trace.meta.n_heads,
        "heads_averaged": trace.meta.capture.heads == "mean",
        "start": {"layer": start["layer"], "head": start["head"]},
        **heads,
        "matrices": _inline_matrices(trace, start["layer"]) if has_attention else {},
    }


def layer_payload(trace: Trace, layer: int) -> dict[str, Any]:
    """Return the attention of one layer: uint8 [head, query, frame], and a float32 scale for each row.

    value = scale[head, query] * code / 255, so that a row with one strong sink does not cost the others precision.

    Raises:
        TraceError: If the layer was not captured.
    """
    rows = layer_rows(trace, int(layer)).astype(np.float32)
    scale = rows.max(axis=-1, initial=0.0)
    codes = np.rint(255 * np.divide(rows, scale[..., None], out=np.zeros_like(rows), where=scale[..., None] > 0))
    return {"layer": int(layer), "shape": list(rows.shape), "scale": _b64(scale, "<f4"), "codes": _b64(codes, "u1")}


def _inline_matrices(trace: Trace, first: int) -> dict[str, dict]:
    n_bytes = math.prod(trace.tensors["attention.audio"].shape)
    layers = trace.meta.layers if n_bytes <= INLINE_BYTES else (first,)
    return {str(layer): layer_payload(trace, layer) for layer in layers}


def _head_scores(trace: Trace) -> dict[str, Any]:
    """Return the listening score of every head, and the best few: those the checkpoint names, then by score."""
    scores = listening_scores([trace]).values
    layers, averaged = trace.meta.layers, trace.meta.capture.heads == "mean"
    named = [(layers.index(head.layer), head.head) for head in named_heads(trace)]
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked = [(int(place) // scores.shape[1], int(place) % scores.shape[1]) for place in order]
    listening = [place for place in ranked if scores[place] >= max(LEAST_SCORE, 0.5 * scores.max())]
    best = list(dict.fromkeys([*named, *listening]))[:N_BEST]
    return {
        "scores": np.round(scores, 4).tolist(),
        "best": [
            {"layer": layers[row], "head": None if averaged else head, "score": round(float(scores[row, head]), 4)}
            for row, head in best
        ],
    }


def _tokens(trace: Trace, grouped: tuple[Word, ...]) -> list[dict[str, Any]]:
    """Return one entry for each reply token."""
    word_of = {query: number for number, word in enumerate(grouped) for query in word.queries}
    entries = []
    for query, place in enumerate(trace.reply):
        text = trace.tokens.text[place]
        entries.append(
            {
                "text": text,
                "label": token_label(text),
                "kind": trace.tokens.kind[place],
                "space": text[:1].isspace(),
                "word": word_of.get(query, -1),
                "logprob": _finite(trace.tokens.logprob[place]),
                "entropy": _finite(trace.tokens.entropy[place]),
            }
        )
    return entries


# --- sound --------------------------------------------------------------------------------------------------------


def _clip_offsets(trace: Trace) -> dict[str, float]:
    """Place the input clips one after the other on the time axis, in the order they were given."""
    offsets, at_s, number = {}, 0.0, 0
    while (name := f"input_{number}") in trace.audio:
        offsets[name] = at_s
        at_s += trace.audio[name].duration_s + CLIP_GAP_S
        number += 1
    return offsets


def _timeline_end(trace: Trace, offsets: dict[str, float]) -> float:
    ends = [offset + trace.audio[name].duration_s for name, offset in offsets.items()]
    return round(max(ends, default=0.0), 4)


def _clip(name: str, trace: Trace, offset_s: float) -> dict[str, Any]:
    sound, number = trace.audio[name], int(name.removeprefix("input_"))
    codes = np.clip(np.rint(sound.samples * 32768.0), -32768, 32767)
    return {
        "name": trace.meta.clips[number] if number < len(trace.meta.clips) else name,
        "offset_s": round(offset_s, 4),
        "duration_s": round(sound.duration_s, 4),
        "rate": sound.sample_rate_hz,
        "pcm": _b64(codes, "<i2"),
        "mel": _mel(sound),
    }


def _mel(sound: Waveform) -> dict[str, Any]:
    """Return the log-mel as uint8 [bin, column], lowest bin first; the loudest place is 255, 60 dB below it 0."""
    pieces = [log_mel(piece).numpy()[:, : len(piece.samples) // HOP_SAMPLES] for piece in split_chunks(sound)]
    mel = np.concatenate(pieces, axis=1) if pieces else np.zeros((MEL_BINS, 0), np.float32)
    mel = mel.reshape(MEL_BINS, -1, mel.shape[1]).mean(axis=1)
    step = max(1, math.ceil(mel.shape[1] / MEL_COLUMNS))
    starts = np.arange(0, mel.shape[1], step)
    mel = np.maximum.reduceat(mel, starts, axis=1) if starts.size else mel
    top = mel.max(initial=0.0)
    codes = np.rint(255 * np.clip((mel - top) / MEL_RANGE + 1, 0, 1))
    return {
        "bins": MEL_BINS,
        "columns": int(codes.shape[1]),
        "column_s": step / FRAME_RATE_HZ,
        "codes": _b64(codes, "u1"),
    }


# --- plain values -------------------------------------------------------------------------------------------------


def _b64(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode("ascii")


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(values, 4).tolist()


def _finite(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None
