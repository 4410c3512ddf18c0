"""What the model would have said instead, and how near each reply token came to being another.

    reply   turn    left      at     the
    1st     turn    left      at     the        probability of each, with its text
    2nd     Turn    right     on     ...
    margin  4.2     0.1       2.0    5.1        nats between the token that came and the best other one

Read from a Trace (`CaptureSpec.alternatives`), no model needed.

    lens_grid(alternatives(trace))                # analysis.figures.lens
    changes(margin(trace))                        # analysis.figures.counterfactual
"""

from __future__ import annotations

import numpy as np

from analysis.statistic import Axis, Statistic
from analysis.trace import Alternatives, Trace
from model.errors import TraceError


def alternatives(trace: Trace) -> Statistic:
    """Return the likeliest tokens at each reply token with their texts, [rank, query], in probabilities."""
    found = _found(trace)
    labels = tuple(trace.tokens.text[place] for place in trace.reply)
    ranks = tuple(str(rank + 1) for rank in range(found.ids.shape[1]))
    axes = Axis("rank", labels=ranks), Axis("query", labels=labels)
    values = np.exp(found.logprob.astype(np.float64)).T
    return Statistic("probability", values, axes, "share", n=len(found), texts=np.array(found.text).T)


def margin(trace: Trace) -> Statistic:
    """Return how much likelier each reply token was than the best other one, nat, [query]; below 0 it was not the best.

    Raises:
        TraceError: If fewer than two alternatives were kept.
    """
    found = _found(trace)
    if found.ids.shape[1] < 2:
        raise _refusal("a single alternative", "at least two")
    came = trace.tokens.ids[list(trace.reply)]
    first = found.ids[:, 0] == came
    rival = np.where(first, found.logprob[:, 1], found.logprob[:, 0]).astype(np.float64)
    texts = [row[int(is_first)] for row, is_first in zip(found.text, first)]
    said = [trace.tokens.text[place] for place in trace.reply]
    labels = [f"{token.strip()} / {other.strip()}" for token, other in zip(said, texts)]
    values = trace.tokens.logprob[list(trace.reply)].astype(np.float64) - rival
    return Statistic("lead over the best other token", values, (Axis("query", labels=labels),), "nat", n=len(found))


def _found(trace: Trace) -> Alternatives:
    if trace.alternatives is None or not len(trace.alternatives):
        raise _refusal("a trace without alternatives", "one captured with `CaptureSpec(alternatives=5)`")
    return trace.alternatives


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("read what else could have been said", found=found, expected=expected,
                      todo="Capture the turn again.")  # fmt: skip
