"""When was each word said? Times of tokens and words from the attention of a few heads, with no aligner but the model.

    attention [head, query, frame] --pick heads, each row a share of its own--> mean [query, frame]
        --interpolate to 20 ms, smooth--> [query, cell] --monotonic DTW--> one run of cells for each token
        --join tokens to words, trim silence--> [(word, start_s, end_s)]

    frame      0   1   2   3   4   5   6   7
    "turn"     ####### .
    "left"       .     ###########              the path goes right or down-right, never back: speech is written
    "now"                        . #########    down in its own order

In a notebook:

    found = align(trace)
    found.words                                   # (WordTime("turn", 0.21, 0.43), ...)
    alignment_error([found], [truth])             # median error, share within 50 and 100 ms

Heads are picked without any truth: those that the checkpoint names, else those that score best at listening
(`attention.listening_scores`). Only a trace is read; no model. The reply may also be a text that the model never
wrote: capture it with those ids, and this is forced alignment.

Source: word timestamps by dynamic time warping over attention, as in Whisper (Radford et al. 2022); which heads, how
they are joined and the trimming are our own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from analysis.attention import (
    Head,
    Word,
    WordTime,
    audio_rows,
    listening_scores,
    match_words,
    named_heads,
    words,
)
from analysis.statistic import Axis, Statistic
from analysis.trace import Trace
from model.audio import Waveform
from model.errors import TraceError

N_HEADS = 3
"""Heads that are averaged."""
CELL_S = 0.02
"""What one step of the path is worth; finer than a frame (80 ms), because attention rises and falls between frames."""
MAX_STEPS = 2**25
"""Tokens times steps; hours of sound take longer steps, so that the table fits into memory."""
SMOOTH_S = 0.04
"""Standard deviation of the smoothing along time."""
TRIM_DB = 30.0
"""A word begins and ends where the sound is less than this far below its loud parts."""
N_RESAMPLES = 1000
"""Bootstrap samples behind an interval."""
LIMITS_MS = (50, 100)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Times of the words and tokens of one reply in one clip."""

    trace: Trace
    """What was aligned."""
    clip: int
    """Which clip, counted from 0; times count from its start."""
    heads: tuple[Head, ...]
    """Whose attention was read."""
    words: tuple[WordTime, ...]
    """Words of the reply in order; they never overlap."""
    grouped: tuple[Word, ...]
    """The reply tokens of each word."""
    token_s: np.ndarray
    """Start and end of every reply token before trimming, seconds, float64 [query, 2]; NaN for what is no word."""
    rows: np.ndarray
    """What the path was found on: mean attention of the heads, float64 [query, frame]; rows sum to 1 or are 0."""
    confidence: np.ndarray
    """How much of that attention lies inside each word, frames half overlapping included, float64 [word], 0..1."""

    @property
    def duration_s(self) -> float:
        """Length of the clip."""
        return self.trace.audio[f"input_{self.clip}"].duration_s

    @property
    def tokens(self) -> tuple[WordTime, ...]:
        """The tokens that have a time, as they are written."""
        texts = [self.trace.tokens.text[i] for i in self.trace.reply]
        timed = np.flatnonzero(np.isfinite(self.token_s[:, 0]))
        return tuple(WordTime(texts[k], *map(float, self.token_s[k]), self.clip) for k in timed)

    @property
    def map(self) -> Statistic:
        """The joined attention, [query, frame], for figures."""
        labels = tuple(self.trace.tokens.text[i] for i in self.trace.reply)
        frames = self.trace.frames
        axes = (
            Axis("query", labels=labels),
            Axis("frame", values=frames.centre_s[frames.clip == self.clip], unit="s"),
        )
        notes = {"heads": [list(head) for head in self.heads], "clip": self.clip}
        return Statistic("attention of the chosen heads", self.rows, axes, "share", notes=notes)

    @property
    def path(self) -> Statistic:
        """Start and end of each token, [query, edge], to draw over the map."""
        axes = (self.map.axes[0], Axis("edge", labels=("start", "end")))
        return Statistic("time of the token", self.token_s, axes, "s")


# --- align --------------------------------------------------------------------------------------------------------


def align(
    trace: Trace, heads: Sequence[Head] | None = None, *, clip: int | None = None, trim_db: float | None = TRIM_DB
) -> Alignment:
    """Find when each word of a reply was said.

    Args:
        trace: A captured turn with attention to the sound.
        heads: Whose attention to read; None picks them with `pick_heads`.
        clip: Which clip; None takes the one that these heads look at most.
        trim_db: Move word edges to where the sound rises above this far below its loud parts; None leaves the path's.

    Raises:
        TraceError: If there is no attention, no word, no such clip, or less sound than tokens.
    """
    heads = tuple(heads) if heads else pick_heads([trace])
    grouped = words(trace)
    if not grouped or not len(trace.frames):
        raise _refusal(f"{len(grouped)} words and {len(trace.frames)} frames of sound", "some of both")
    mean = np.mean([_shares(audio_rows(trace, head)) for head in heads], axis=0)
    clip = int(np.bincount(trace.frames.clip, weights=mean.sum(axis=0)).argmax()) if clip is None else clip
    here = trace.frames.clip == clip
    if not here.any():
        raise _refusal(f"clip {clip} without frames", "a clip of the trace, counted from 0")
    rows, sound = _shares(mean[:, here]), trace.audio[f"input_{clip}"]
    queries = [query for word in grouped for query in word.queries]
    token_s = np.full((trace.n_reply, 2), np.nan)
    token_s[queries] = _token_times(rows[queries], trace.frames.centre_s[here], sound.duration_s)
    spans = [(token_s[list(word.queries), 0].min(), token_s[list(word.queries), 1].max()) for word in grouped]
    if trim_db is not None:
        spans = _trimmed(spans, sound, trim_db)
    inside = [_mass_inside(rows[list(w.queries)], trace.frames.centre_s[here], *s) for w, s in zip(grouped, spans)]
    found = tuple(WordTime(word.text, float(s), float(e), clip) for word, (s, e) in zip(grouped, spans))
    return Alignment(trace, clip, heads, found, grouped, token_s, rows, np.array(inside))


def pick_heads(traces: Sequence[Trace], n: int = N_HEADS, *, exclude: Collection[Head] = ()) -> tuple[Head, ...]:
    """Pick the heads to align with, without any truth.

    Args:
        traces: Turns of one model, captured alike; more of them say more about a head.
        n: How many heads.
        exclude: Heads that may not be picked, such as those that training told where to look.

    Returns:
        The heads that the checkpoint names, best first; filled up, or replaced where it names none, by listening score.
    """
    named = [head for head in named_heads(traces[0]) if head not in exclude][:n]
    if len(named) == n:
        return tuple(named)
    scores = listening_scores(traces)
    mean_only = traces[0].meta.capture.heads == "mean"
    for place in np.argsort(-scores.values, axis=None, kind="stable"):
        layer, head = (int(k) for k in np.unravel_index(place, scores.values.shape))
        one = Head(traces[0].meta.layers[layer], None if mean_only else head)
        if one not in named and one not in exclude and len(named) < n:
            named.append(one)
    if not named:
        raise _refusal("every head excluded", "at least one head to pick")
    return tuple(named)


def monotonic_path(scores: np.ndarray) -> np.ndarray:
    """Give every row one run of columns, in order and without gaps, so that the scores inside add up to the most.

        row 0   * * * . . . . .
        row 1   . . . * * . . .       D[i, j] = s[i, j] + max(D[i, j-1], D[i-1, j-1])
        row 2   . . . . . * * *

    Args:
        scores: Any numbers, [row, column], at least as many columns as rows.

    Returns:
        First column and the one after the last of each row, int64 [row, 2].

    Raises:
        TraceError: If there are more rows than columns.
    """
    n_rows, n_columns = scores.shape
    if n_rows > n_columns:
        raise _refusal(f"{n_rows} tokens in {n_columns} steps of {1000 * CELL_S:.0f} ms", "no more tokens than steps")
    columns = np.arange(n_columns)
    began = np.zeros((n_rows, n_columns), np.int32)
    best = np.where(columns == 0, 0.0, -np.inf)  # the score of everything before a run that begins at column j
    for i, row in enumerate(scores):
        before = np.concatenate([[0.0], row.cumsum()])
        gain = best - before[:-1]  # s[i, k..j] = before[j + 1] - before[k]: the best k so far is a running maximum
        running = np.maximum.accumulate(gain)
        began[i] = np.maximum.accumulate(np.where(gain >= running, columns, 0))
        ends = before[1:] + running
        best = np.concatenate([[-np.inf], ends[:-1]])
    runs, stop = np.zeros((n_rows, 2), np.int64), n_columns
    for i in range(n_rows - 1, -1, -1):
        runs[i] = began[i, stop - 1], stop
        stop = runs[i, 0]
    return runs


def _shares(rows: np.ndarray) -> np.ndarray:
    total = rows.sum(axis=-1, keepdims=True)
    return np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)


def _token_times(rows: np.ndarray, centre_s: np.ndarray, duration_s: float) -> np.ndarray:
    """Return start and end of each row's run, seconds, float64 [row, 2]."""
    n_cells = max(1, min(round(duration_s / CELL_S), max(len(rows), MAX_STEPS // len(rows))))
    step_s = duration_s / n_cells
    cells_s = (np.arange(n_cells) + 0.5) * step_s
    fine = np.stack([np.interp(cells_s, centre_s, row) for row in rows])
    return monotonic_path(gaussian_filter1d(fine, SMOOTH_S / step_s, axis=1)) * step_s


def _trimmed(spans: Sequence[tuple[float, float]], sound: Waveform, trim_db: float) -> list[tuple[float, float]]:
    """Move edges that lie in silence inwards, to the sound; a word that is all silence stays as it is."""
    hop = max(1, sound.sample_rate_hz // 100)
    n = len(sound.samples) // hop
    if not n:
        return list(spans)
    power = np.square(sound.samples[: n * hop].reshape(n, hop), dtype=np.float64).mean(axis=1)
    level_db = 10 * np.log10(power + 1e-10)
    loud, quiet = np.percentile(level_db, [95, 5])
    heard = level_db > max(loud - trim_db, quiet + 3)
    hop_s, out = hop / sound.sample_rate_hz, []
    for start, end in spans:
        first, last = round(start / hop_s), round(end / hop_s)
        inside = first + np.flatnonzero(heard[first:last])
        out.append((inside[0] * hop_s, (inside[-1] + 1) * hop_s) if len(inside) else (start, end))
    return out


def _mass_inside(rows: np.ndarray, centre_s: np.ndarray, start_s: float, end_s: float) -> float:
    """Return the share of the attention within a word, frames that reach into it by half included."""
    half = 0.04
    inside = (centre_s >= start_s - half) & (centre_s <= end_s + half)
    return float(rows[:, inside].sum() / max(rows.sum(), 1e-12))


# --- against the truth --------------------------------------------------------------------------------------------


def alignment_error(
    alignments: Sequence[Alignment], truth: Sequence[Sequence[WordTime]], *, seed: int = 0
) -> Statistic:
    """Measure how far the edges of words are from the true ones.

    A word counts when the reply says it whole (`attention.match_words`); its edges are the first and last edge of the
    words that say it, so it does not matter whether "九点" is one word or two.

    Args:
        alignments: One for each clip.
        truth: The true word times of each clip.
        seed: Seed of the bootstrap.

    Returns:
        Median |dt| over starts and ends, in seconds, with a 95 % bootstrap interval that resamples clips; `n` counts
        the words. Notes: the share of edges within 50 and 100 ms, the medians of starts, ends and centres, words found
        and words in all.

    Raises:
        TraceError: If the two do not match, or no word was found.
    """
    if len(alignments) != len(truth) or not truth:
        raise _refusal(f"{len(alignments)} alignments and {len(truth)} lists of word times", "the same number")
    by_clip = [_errors(found, times) for found, times in zip(alignments, truth)]
    every = np.concatenate(by_clip)
    if not len(every):
        raise _refusal("no true word in any reply", "replies that say the words")
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(by_clip), size=len(by_clip)) for _ in range(N_RESAMPLES))
    medians = [np.median(np.abs(some)) for k in drawn if len(some := np.concatenate([by_clip[i] for i in k]))]
    start, end = np.median(np.abs(every), axis=0).tolist()
    notes = {
        "within": {f"{limit} ms": float((np.abs(every) <= limit / 1000).mean()) for limit in LIMITS_MS},
        "median |dt|": {"start": start, "end": end, "centre": float(np.median(np.abs(every.mean(axis=1))))},
        "bias": dict(zip(("start", "end"), np.median(every, axis=0).tolist())),
        "heads": sorted({tuple(head) for found in alignments for head in found.heads}),
        "clips": len(by_clip),
        "words": sum(map(len, truth)),
    }
    low, high = np.percentile(medians, [2.5, 97.5])
    return Statistic("median |dt| of word edges", np.median(np.abs(every)), (), "s", low, high, len(every), notes)


def _errors(found: Alignment, truth: Sequence[WordTime]) -> np.ndarray:
    """Return found minus true start and end of each word that was found, float64 [word, 2]."""
    owner = {query: k for k, word in enumerate(found.grouped) for query in word.queries}
    out = []
    for index, queries in match_words(found.trace, truth).items():
        said = sorted({owner[query] for query in queries if query in owner})
        if said and truth[index].clip == found.clip:
            first, last = found.words[said[0]], found.words[said[-1]]
            out.append((first.start_s - truth[index].start_s, last.end_s - truth[index].end_s))
    return np.array(out).reshape(-1, 2)


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Capture a turn that answers with words about a sound."
    return TraceError("align a reply with its sound", found=found, expected=expected, todo=todo)
