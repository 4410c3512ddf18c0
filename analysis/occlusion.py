"""Which part of the sound does the answer depend on? Take away one part at a time and read the same answer again.

    sound     |....####....=====......|        one window after the other is muted (or noised, or swapped)
    answer    log p with the sound as it was - log p with the window gone = drop, in nats, for each token

    occlusion_map            [query, time]          which window each token depends on
    occlusion_map_mel        [query, time, band]    which window and which frequencies, patched on the log-mel
    deletion_curves          does the answer fall faster when the best-ranked parts go first? against random order

In a notebook:

    found = occlusion_map(loaded, ASR.conversation(sound))
    found.drop()                                  # Statistic [time]
    found.by_token()                              # Statistic [query, time]

Whether attention says the same is measured in `trust.py`. Mind that a sound with a hole in it is itself unusual.

Source: Zeiler and Fergus 2014 (occlusion); Petsiuk et al. 2018 (deletion and insertion curves).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from analysis.capture import token_texts
from analysis.counterfactual import METRIC, answer_of, clip_of, with_clip
from analysis.edits import Edit
from analysis.scoring import Progress, ReplyScorer, repeat_interval
from analysis.statistic import Axis, Effect, Statistic
from model.audio import FRAME_RATE_HZ, INPUT_SAMPLE_RATE_HZ, N_FFT, N_MELS, TOKEN_RATE_HZ, Waveform, mel_filters
from model.chat import Conversation
from model.errors import TraceError
from model.processing_step_audio_2 import EncodedPrompt

MIN_HOP_S = 1 / TOKEN_RATE_HZ
"""One audio position; finer steps than the model's own ask for no more than there is."""
MAX_WINDOWS = 250
"""Windows of a map unless a hop is given; longer clips get longer hops."""
WINDOW_S = 0.4
"""Length of a window unless it is given, about a word; where hops are longer than half of it, two hops. A window that
is shorter than the evidence leaves some of it, and the answer may stand on that."""
QUIET = 0.1
"""A bin is this share of the time at its background or below."""
MEL_RANGE = 2.0
"""A log-mel reaches this far below its own maximum, where digital silence is."""


@dataclass(frozen=True, eq=False)
class Occlusion:
    """What each token of an answer lost when a part of the sound was taken away."""

    spans_s: np.ndarray
    """Start and end of each window in its clip, seconds, float64 [time, 2]."""
    baseline: np.ndarray
    """Natural log-probability of each token with the whole sound, float64 [token]."""
    logprob: np.ndarray
    """The same without each part, float64 [repeat, time, token] or [repeat, time, band, token]; NaN if cancelled."""
    reply_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """Texts of the answer's tokens."""
    clip: int = 0
    """Which clip of the conversation, counted from 0."""
    bands_hz: np.ndarray | None = None
    """Lower and upper edge of each band, float64 [band, 2]; None for windows of all frequencies."""
    notes: Mapping[str, object] = field(default_factory=dict)
    """How it was made: edit, seeds, window and hop."""

    @property
    def complete(self) -> bool:
        """Whether every window was measured."""
        return bool(np.isfinite(self.logprob).all())

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Time (centres of the windows), and band where there are bands."""
        time = Axis("time", values=self.spans_s.mean(axis=1), unit="s")
        return (time,) if self.bands_hz is None else (time, Axis("band", values=self.bands_hz.mean(axis=1), unit="Hz"))

    def drop(self, queries: Sequence[int] | None = None) -> Statistic:
        """Return what the answer lost without each part, in nats, [time] or [time, band].

        Args:
            queries: Tokens to count, from the first of the answer; None counts all.

        Returns:
            Above 0 where the part spoke for the answer. With a 95 % interval when there were repeats.
        """
        wanted = slice(None) if queries is None else list(queries)
        lost = (self.baseline - self.logprob)[..., wanted].sum(axis=-1)
        mean, low, high = repeat_interval(lost)
        return Statistic("log-probability lost", mean, self.axes, "nat", low, high, len(lost), dict(self.notes))

    def by_token(self) -> Statistic:
        """Return what each token lost, mean over repeats, [query, time] or [query, time, band]."""
        lost = np.moveaxis((self.baseline - self.logprob).mean(axis=0), -1, 0)
        axes = (Axis("query", labels=self.tokens), *self.axes)
        return Statistic("log-probability lost", lost, axes, "nat", n=len(self.logprob), notes=dict(self.notes))

    def effect(self, queries: Sequence[int] | None = None) -> Effect:
        """Return the log-probability of the answer (or some of its tokens), whole and without each part."""
        wanted = slice(None) if queries is None else list(queries)
        patched = self.logprob[..., wanted].mean(axis=0).sum(axis=-1)
        return Effect(METRIC, float(self.baseline[wanted].sum()), patched, self.axes, notes=dict(self.notes))


# --- maps ---------------------------------------------------------------------------------------------------------


def occlusion_map(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int] | None = None,
    *,
    clip: int = 0,
    window_s: float | None = None,
    hop_s: float | None = None,
    edit: Edit | None = None,
    repeats: int = 1,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Occlusion:
    """Take away one window of the sound at a time.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given.
        reply_ids: The answer to look at (`Turn.ids`); left out, the model answers first, greedily.
        clip: Which clip of the conversation, counted from 0.
        window_s: Length of a window in seconds; by default 0.4 s, about a word, or two hops if they are longer.
        hop_s: From one window to the next; by default one audio position (80 ms), more for clips over 20 s.
        edit: How to take a window away, with any span; by default it is muted.
        repeats: How many seeds to try, for edits that draw noise.
        progress: Told what is being done and how much of it is done.
        cancel: Looked at between batches; windows that were not reached are NaN.

    Raises:
        TraceError: If there is no such clip, or window and hop make no sense.
    """
    sound = clip_of(conversation, clip)
    reply_ids = answer_of(loaded, conversation) if reply_ids is None else reply_ids
    edit, spans = edit or Edit("mute"), windows(sound.duration_s, window_s, hop_s)
    seeds = [None] if edit.seed is None else [edit.seed + k for k in range(repeats)]

    def versions() -> Iterator[Conversation]:
        for seed in seeds:
            for start, end in spans:
                changed = replace(edit, start_s=float(start), end_s=float(end), seed=seed)(sound)
                yield with_clip(conversation, clip, changed)

    scorer = ReplyScorer(loaded, conversation, reply_ids)
    n = len(seeds) * len(spans)
    rows = scorer.score(versions(), n=n, progress=progress, cancel=cancel)
    notes = {"edit": edit.kind, "seeds": seeds, **_grid_notes(spans)}
    logprob = rows.reshape(len(seeds), len(spans), -1)
    return _occlusion(loaded, scorer, spans, logprob, clip, notes)


def occlusion_map_mel(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int] | None = None,
    *,
    clip: int = 0,
    n_bands: int = 8,
    window_s: float | None = None,
    hop_s: float | None = None,
    fill: Literal["background", "mean", "floor"] = "background",
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Occlusion:
    """Take away one patch of the log-mel at a time; arguments as for `occlusion_map`, and two more.

    Args:
        loaded: See `occlusion_map`.
        conversation: See there.
        reply_ids: See there.
        clip: See there.
        n_bands: Bands of equally many mel bins, 1 to 128.
        window_s: See there; here windows start and end on mel frames (10 ms).
        hop_s: See there; by default twice as long as for windows of all frequencies.
        fill: What to put there. "background" is what each bin shows when the clip is quiet (its 10th percentile);
            "mean" is the bin's mean over the clip; "floor" is what digital silence would show, which in a noisy clip
            is a sight of its own: models were seen to take the hole for a sound.
        progress: See there.
        cancel: See there.
    """
    if not 1 <= n_bands <= N_MELS:
        raise _refusal(f"n_bands = {n_bands}", f"1 to {N_MELS} bands", "Correct it.")
    sound = clip_of(conversation, clip)
    reply_ids = answer_of(loaded, conversation) if reply_ids is None else reply_ids
    spans = windows(sound.duration_s, window_s, hop_s or max(2 * MIN_HOP_S, 2 * sound.duration_s / MAX_WINDOWS))
    edges = np.linspace(0, N_MELS, n_bands + 1).round().astype(int)
    prompt = loaded.processor.encode(conversation)
    patches = [(span, slice(*band)) for span in spans for band in zip(edges, edges[1:])]
    versions = (_patched(prompt, clip, span, bins, fill) for span, bins in patches)
    scorer = ReplyScorer(loaded, conversation, reply_ids)
    rows = scorer.score(versions, n=len(patches), progress=progress, cancel=cancel)
    notes = {"edit": f"log-mel patch, {fill}", "seeds": [None], **_grid_notes(spans)}
    logprob = rows.reshape(1, len(spans), n_bands, -1)
    return _occlusion(loaded, scorer, spans, logprob, clip, notes, _bands_hz(edges))


def windows(duration_s: float, window_s: float | None = None, hop_s: float | None = None) -> np.ndarray:
    """Lay windows over a clip, float64 [time, 2] in seconds; the first begins at 0, the last ends with the clip.

    Raises:
        TraceError: If window or hop is not positive, or windows would leave gaps.
    """
    hop_s = max(MIN_HOP_S, duration_s / MAX_WINDOWS) if hop_s is None else hop_s
    window_s = max(WINDOW_S, 2 * hop_s) if window_s is None else window_s
    if not 0 < hop_s <= window_s:
        found, expected = f"windows of {window_s} s every {hop_s} s", "a positive hop, at most as long as the window"
        raise _refusal(found, expected, "Correct `window_s` or `hop_s`.")
    window_s = min(window_s, duration_s)
    n = int(np.ceil((duration_s - window_s) / hop_s - 1e-9)) + 1
    starts = np.minimum(hop_s * np.arange(n), duration_s - window_s)
    return np.stack([starts, starts + window_s], axis=1)


def _occlusion(
    loaded: Any,
    scorer: ReplyScorer,
    spans: np.ndarray,
    logprob: np.ndarray,
    clip: int,
    notes: dict,
    bands_hz: np.ndarray | None = None,
) -> Occlusion:
    tokens = token_texts(loaded.processor, scorer.reply_ids)
    return Occlusion(spans, scorer.baseline, logprob, scorer.reply_ids, tokens, clip, bands_hz, notes)


def _grid_notes(spans: np.ndarray) -> dict[str, float]:
    hop = float(spans[1, 0] - spans[0, 0]) if len(spans) > 1 else 0.0
    return {"window_s": round(float(np.ptp(spans[0])), 6), "hop_s": round(hop, 6)}


def _patched(prompt: EncodedPrompt, clip: int, span_s: np.ndarray, bins: slice, fill: str) -> EncodedPrompt:
    """Return the prompt with a patch of one clip's log-mels filled."""
    pieces = [span for span in prompt.spans if span.kind == "audio"]
    mels = list(prompt.mels)
    for k, piece in enumerate(pieces):
        start, stop = (round((t - piece.start_s) * FRAME_RATE_HZ) for t in span_s)
        if piece.clip_index != clip or stop <= 0 or start >= mels[k].shape[-1]:
            continue
        mel = mels[k] = mels[k].clone()
        mel[bins, max(start, 0) : stop] = _filling(mel, fill)[bins]
    return replace(prompt, mels=mels)


def _filling(mel: Tensor, fill: str) -> Tensor:
    """Return what a patch of each bin is filled with, [bin, 1]."""
    if fill == "background":
        return mel.quantile(QUIET, dim=-1, keepdim=True)
    return mel.mean(dim=-1, keepdim=True) if fill == "mean" else (mel.max() - MEL_RANGE).expand(len(mel), 1)


def _bands_hz(edges: np.ndarray) -> np.ndarray:
    """Return the frequencies between which each band of mel bins has its peaks, float64 [band, 2]."""
    peaks = mel_filters().argmax(axis=1) * (INPUT_SAMPLE_RATE_HZ / N_FFT)
    borders = np.interp(np.append(edges[:-1], N_MELS - 1), np.arange(N_MELS), peaks)
    return np.stack([borders[:-1], borders[1:]], axis=1)


# --- deletion and insertion ---------------------------------------------------------------------------------------


def deletion_curves(
    loaded: Any,
    conversation: Conversation,
    orders: Mapping[str, Statistic],
    reply_ids: Sequence[int],
    *,
    mode: Literal["deletion", "insertion"] = "deletion",
    clip: int = 0,
    queries: Sequence[int] | None = None,
    cell_s: float | None = None,
    steps: int = 10,
    edit: Edit | None = None,
    n_random: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Statistic:
    """Take the sound away (or give it back) piece by piece, the best-ranked pieces first.

        deletion    a good ranking falls fast    its area is small
        insertion   a good ranking rises fast    its area is large

    Args:
        loaded: A LoadedModel.
        conversation: What the model was given.
        orders: Name -> importance over time [time], such as `Occlusion.drop()` or `trust.attention_over_time`.
        reply_ids: The answer.
        mode: Begin with the whole sound, or with none of it.
        clip: Which clip.
        queries: Tokens to count; None counts all.
        cell_s: Length of the pieces; by default one audio position, more for clips over 20 s.
        steps: Points of the curve after the first.
        edit: How to take away, by default mute.
        n_random: Random orders to compare with; their mean is the row "random", with an interval over them.
        seed: Seed of the random orders.
        progress: Told how much is done.
        cancel: Looked at between batches; what was not reached is NaN.

    Returns:
        Log-probability per token, [order, share]; share of the sound that is gone (or back), 0 to 1. Notes: the area
        under each curve.
    """
    sound, edit = clip_of(conversation, clip), edit or Edit("mute")
    cells = _cells(sound.duration_s, cell_s)
    rng = np.random.default_rng(seed)
    ranked = {name: _ranking(order, cells) for name, order in orders.items()}
    ranked |= {f"random {k}": rng.permutation(len(cells)) for k in range(n_random)}
    shares = np.linspace(0, 1, steps + 1)

    def versions() -> Iterator[Conversation]:
        for order in ranked.values():
            for share in shares:
                first = order[: round(share * len(cells))]
                gone = first if mode == "deletion" else np.setdiff1d(order, first)
                yield with_clip(conversation, clip, _without(sound, cells, gone, edit))

    scorer = ReplyScorer(loaded, conversation, reply_ids)
    rows = scorer.score(versions(), n=len(ranked) * len(shares), progress=progress, cancel=cancel)
    wanted = slice(None) if queries is None else list(queries)
    values = rows[:, wanted].mean(axis=1).reshape(len(ranked), len(shares))
    notes = {"mode": mode, "edit": edit.kind, "cell_s": float(np.ptp(cells[0])), "seed": seed, "clip": clip}
    return _curves(values, tuple(orders), shares, n_random, notes)


def _curves(values: np.ndarray, names: tuple[str, ...], shares: np.ndarray, n_random: int, notes: dict) -> Statistic:
    """Fold the random orders into one row with an interval, and add the areas."""
    known, drawn = values[: len(names)], values[len(names) :]
    low = high = known
    if n_random:
        mean, below, above = repeat_interval(drawn)
        names = (*names, "random")
        known, low, high = (np.vstack([known, mean if end is None else end]) for end in (mean, below, above))
    axes = (Axis("order", labels=names), Axis("share", values=shares))
    areas = dict(zip(names, np.trapezoid(known, shares, axis=1).tolist()))
    return Statistic("log-probability per token", known, axes, "nat", low, high, notes={**notes, "area": areas})


def _cells(duration_s: float, cell_s: float | None) -> np.ndarray:
    """Cut a clip into pieces of about `cell_s`, float64 [cell, 2]."""
    cell_s = max(MIN_HOP_S, duration_s / MAX_WINDOWS) if cell_s is None else cell_s
    edges = np.linspace(0, duration_s, max(1, round(duration_s / cell_s)) + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _ranking(order: Statistic, cells: np.ndarray) -> np.ndarray:
    """Return the cells from the most to the least important."""
    if len(order.axes) != 1 or order.axes[0].values is None:
        raise _refusal(f"an order over {[axis.name for axis in order.axes]}", "one axis of seconds", "Select a row.")
    scores = np.interp(cells.mean(axis=1), order.axes[0].values, np.nan_to_num(order.values))
    return np.argsort(-scores, kind="stable")


def _without(sound: Waveform, cells: np.ndarray, gone: np.ndarray, edit: Edit) -> Waveform:
    """Return the sound without some cells; neighbours are taken away as one, so that no rest is left between."""
    for run in np.split(np.sort(gone), np.flatnonzero(np.diff(np.sort(gone)) > 1) + 1):
        if len(run):
            sound = replace(edit, start_s=float(cells[run[0], 0]), end_s=float(cells[run[-1], 1]))(sound)
    return sound


def _refusal(found: str, expected: str, todo: str) -> TraceError:
    return TraceError("measure an occlusion", found=found, expected=expected, todo=todo)
