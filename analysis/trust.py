"""The trust meter: does attention rank the parts of the sound as occlusion does?

    attention of a token to each window   0.02 0.40 0.11 ...  --ranks--> Spearman's rho, -1 to 1
    drop of the token without each window 0.1  3.2  0.4  ...  --ranks-->

Occlusion is an intervention, attention is not; where they disagree, believe the intervention. Both are smooth in time,
so two unrelated curves agree by accident more often than white noise would: chance is measured by moving the attention
along the clip, and stands beside every value.

    found = occlusion_map(loaded, conversation)
    trace = capture_trace(loaded, conversation, found.reply_ids)
    trust(found, trace), trust_by_head(found, trace)

Source: Jain and Wallace 2019 (attention against other measures of importance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from analysis.attention import Head, audio_rows, default_head, layer_rows, words
from analysis.occlusion import MIN_HOP_S, Occlusion
from analysis.statistic import Axis, Statistic
from analysis.trace import Trace
from model.errors import TraceError
from model.tasks.metrics import bootstrap_interval


def trust(
    found: Occlusion,
    trace: Trace,
    head: Head | None = None,
    *,
    queries: Sequence[int] | None = None,
    n_shifts: int = 500,
    seed: int = 0,
) -> Statistic:
    """Say how far attention can be trusted: does it rank the windows as occlusion does?

    For each token, Spearman's rank correlation over the windows between the attention they got and the drop without
    them. Both are smooth in time, so chance is not 0 but what attention reaches when it is moved along the clip.

    Args:
        found: An occlusion map of windows.
        trace: The same answer, captured.
        head: Whose attention; None takes `default_head`.
        queries: Tokens to count; by default those that belong to a word.
        n_shifts: Random circular shifts behind "chance".
        seed: Seed of the shifts and of the interval.

    Returns:
        Mean over the tokens, -1 to 1, with a 95 % bootstrap interval over tokens; `n` is their number. Notes: the
        head, each token's value, and the 95th percentile of chance.

    Raises:
        TraceError: If map and trace are not of the same answer.
    """
    head = head or default_head(trace)
    queries = _queries(found, trace, queries)
    looked, lost = attention_in_windows(found, trace, head).values[queries], found.by_token().values[queries]
    each = _rank_agreement(looked, lost)
    rng = np.random.default_rng(seed)
    shifted = [np.roll(looked, rng.integers(1, max(2, looked.shape[1])), axis=1) for _ in range(n_shifts)]
    chance = [float(_rank_agreement(one, lost).mean()) for one in shifted]
    low, high = bootstrap_interval(each, seed=seed)
    notes = {
        "head": list(head),
        "tokens": [found.tokens[query] for query in queries],
        "by token": each.tolist(),
        "chance 95 %": float(np.percentile(chance, 95)),
        "seed": seed,
    }
    name = "rank agreement of attention and occlusion"
    return Statistic(name, each.mean(), (), "", low, high, len(queries), notes)


def trust_by_head(found: Occlusion, trace: Trace, queries: Sequence[int] | None = None) -> Statistic:
    """Return the rank agreement of every head, mean over tokens, [layer, head]."""
    queries = _queries(found, trace, queries)
    lost = found.by_token().values[queries]
    inside = _members(found, trace)
    values = [
        [_rank_agreement(rows[queries] @ inside.T, lost).mean() for rows in layer_rows(trace, layer)]
        for layer in trace.meta.layers
    ]
    axes = (Axis("layer", labels=trace.meta.layers), Axis("head", labels=tuple(range(trace.meta.n_heads))))
    return Statistic("rank agreement of attention and occlusion", values, axes, "", n=len(queries))


def attention_in_windows(found: Occlusion, trace: Trace, head: Head | None = None) -> Statistic:
    """Return the attention of each token to each window of a map, [query, time], to be compared with `by_token`."""
    rows = audio_rows(trace, head or default_head(trace)) @ _members(found, trace).T
    return Statistic("attention to the window", rows, (Axis("query", labels=found.tokens), found.axes[0]), "share")


def hits(rows: Statistic, truth: Mapping[int, tuple[float, float]], *, tolerance_s: float = MIN_HOP_S / 2) -> Statistic:
    """Return the share of tokens whose highest window has its centre where the token's evidence is (pointing game).

    Args:
        rows: [query, time], such as `Occlusion.by_token()` or `attention_in_windows`.
        truth: Token -> start and end of its evidence, seconds.
        tolerance_s: How far outside still counts.

    Returns:
        A single share; `n` counts the tokens. Notes: each token's hit.
    """
    centres = rows.axis("time").values
    at = {query: float(centres[int(np.argmax(rows.values[query]))]) for query in truth}
    each = {q: truth[q][0] - tolerance_s <= t <= truth[q][1] + tolerance_s for q, t in at.items()}
    share = float(np.mean(list(each.values()))) if each else np.nan
    notes = {"hit": {str(query): bool(hit) for query, hit in each.items()}}
    name = "share of tokens with the highest window on their evidence"
    return Statistic(name, share, (), "share", n=len(each), notes=notes)


def _queries(found: Occlusion, trace: Trace, queries: Sequence[int] | None) -> list[int]:
    if trace.reply_ids != found.reply_ids or found.bands_hz is not None:
        raise _refusal(
            "a map and a trace of different answers, or a map with bands",
            "windows of all frequencies, and the trace of the same reply",
            "Pass `found.reply_ids` to `capture_trace`.",
        )
    chosen = [q for word in words(trace) for q in word.queries] if queries is None else list(queries)
    if not chosen:
        raise _refusal("an answer without words", "at least one token to compare", "Name `queries`.")
    return chosen


def _members(found: Occlusion, trace: Trace) -> np.ndarray:
    """Say which frames lie in which window, float64 [time, frame]."""
    frames = trace.frames
    inside = (frames.centre_s >= found.spans_s[:, :1]) & (frames.centre_s < found.spans_s[:, 1:])
    return (inside & (frames.clip == found.clip)).astype(np.float64)


def _rank_agreement(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of rows [query, time], 0 where a row is constant."""
    a, b = (rankdata(side, axis=-1) for side in (left, right))
    a, b = (side - side.mean(axis=-1, keepdims=True) for side in (a, b))
    size = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), size, out=np.zeros_like(size), where=size > 0)


def attention_over_time(
    trace: Trace, head: Head | None = None, *, clip: int = 0, queries: Sequence[int] | None = None
) -> Statistic:
    """Return the attention that some tokens (all by default) pay to each moment of a clip, [time], in shares."""
    frames = trace.frames
    here = frames.clip == clip
    rows = audio_rows(trace, head or default_head(trace))[:, here]
    wanted = slice(None) if queries is None else list(queries)
    axis = Axis("time", values=frames.centre_s[here], unit="s")
    return Statistic("attention to the sound", rows[wanted].sum(axis=0), (axis,), "share")


def _refusal(found: str, expected: str, todo: str) -> TraceError:
    return TraceError("compare attention with occlusion", found=found, expected=expected, todo=todo)
