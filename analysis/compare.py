"""Two traces side by side: the same sound for two models, two seeds, before and after an edit or a training.

    left     turn   the   light    on   .
             |      |     |        :    |          equal | substituted : deleted - inserted +
    right    turn   the   light    off  .

    found = compare_traces(left, right)
    changes(found.logprob())                      # analysis.figures.counterfactual: right minus left, by token
    curves(found.over_time())                     # attention to the sound on one time axis
    effect_map(found.segments())                  # [layer, segment], right minus left

Tokens are paired by what they say, so the two models may have other vocabularies; where they cut words differently,
`per="word"` pairs words instead. Everything is right minus left, and NaN where there is nothing to subtract. A
difference between two single runs is not yet a difference between two models: average over many clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from analysis.attention import Head, attention_time_s, listening_scores, segment_mass, words
from analysis.resampling import mean_statistic
from analysis.statistic import Axis, Statistic
from analysis.timeline import timeline
from analysis.trace import Trace
from analysis.trust import attention_over_time
from model.errors import TraceError
from model.events import TurnDone
from model.tasks.metrics import Operation, align

Per = Literal["token", "word"]


class Pair(NamedTuple):
    """One token (or word) of both replies, or of one of them."""

    operation: Operation
    left: int | None
    """Place in the left reply; None for what only the right one says."""
    right: int | None
    text: str
    """What is said; `before → after` where it differs."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two traces with their replies paired."""

    left: Trace
    right: Trace
    pairs: tuple[Pair, ...]
    per: Per = "token"

    @property
    def same(self) -> Statistic:
        """Share of the pairs that say the same, a single number."""
        equal = [pair.operation == "equal" for pair in self.pairs]
        return Statistic("share of the reply that is the same", np.mean(equal) if equal else 1.0, (), "share",
                         n=len(equal))  # fmt: skip

    def logprob(self) -> Statistic:
        """Return how much surer the right trace is of each pair that says the same, nat, [pair]."""
        return self._by_pair("change of log-probability", *(self._sums(t.tokens.logprob, t) for t in self._both), "nat")

    def entropy(self) -> Statistic:
        """Return how much more undecided it was before each pair that says the same, nat, [pair]."""
        return self._by_pair("change of entropy", *(self._sums(t.tokens.entropy, t) for t in self._both), "nat")

    def attended(self, left: Head | None = None, right: Head | None = None) -> Statistic:
        """Return how much later in the sound the right trace looks for each pair that says the same, s, [pair].

        Args:
            left: Head of the left trace to read; None takes `default_head`.
            right: Head of the right one.
        """
        times = [attention_time_s(trace, head, per=self.per).values for trace, head in zip(self._both, (left, right))]
        return self._by_pair("change of attended time", *times, "s")

    def segments(self) -> Statistic:
        """Return how attention is shared out differently, [layer, segment], for layers and segments of both."""
        masses = [segment_mass(trace) for trace in self._both]
        axes = [_shared_axis(*(mass.axes[k] for mass in masses)) for k in range(2)]
        values = [_pick(mass, axes) for mass in masses]
        return Statistic("change of the share of attention", values[1] - values[0], axes, "share")

    def heads(self) -> Statistic:
        """Return which heads listen more, [layer, head]; of models with the same layers and heads.

        Raises:
            TraceError: If the two traces have other layers or heads.
        """
        scores = [listening_scores([trace]) for trace in self._both]
        if scores[0].values.shape != scores[1].values.shape:
            raise _refusal(f"heads {scores[0].values.shape} and {scores[1].values.shape}", "traces with the same heads")
        return Statistic("change of the listening score", scores[1].values - scores[0].values, scores[0].axes)

    def over_time(self, *, clip: int = 0, left: Head | None = None, right: Head | None = None) -> Statistic:
        """Return the attention that each reply pays to each moment of a clip, [trace, time], in shares of its sum.

        Args:
            clip: Which clip, counted from 0; as long as the shorter of the two.
            left: Head of the left trace to read; None takes `default_head`.
            right: Head of the right one.
        """
        rows = [attention_over_time(trace, head, clip=clip) for trace, head in zip(self._both, (left, right))]
        time = min((row.axes[0].values for row in rows), key=len)
        values = [np.interp(time, row.axes[0].values, row.values) for row in rows]
        shares = [row / row.sum() if row.sum() > 0 else row for row in values]
        axes = Axis("trace", labels=_names(*self._both)), Axis("time", values=time, unit="s")
        return Statistic("attention to the sound", shares, axes, "share")

    def timings(self) -> Statistic:
        """Return what took longer, [measure]: right minus left, of what happened in both turns.

        Raises:
            TraceError: If a trace was captured without events.
        """
        found = [timeline(trace).summary() for trace in self._both]
        by_name = [dict(zip(one.axes[0].labels, one.values)) for one in found]
        shared = [name for name in by_name[0] if name in by_name[1]]
        values = [by_name[1][name] - by_name[0][name] for name in shared]
        return Statistic("change of time since the turn began", values, (Axis("measure", labels=shared),), "s")

    def summary(self) -> Statistic:
        """Return the few numbers to look at first, [measure]; what cannot be said of these two is left out."""
        equal = [pair for pair in self.pairs if pair.operation == "equal"]
        found = {
            "share of the reply that is the same": float(self.same),
            "log-probability of what is the same": float(np.nansum(self.logprob().values)) if equal else np.nan,
            "share of attention on the sound": self._sound(),
        }
        if all(any(isinstance(event, TurnDone) for event in trace.events) for trace in self._both):
            timings = self.timings()
            found |= {f"{name} (s)": value for name, value in zip(timings.axes[0].labels, timings.values)}
        known = {name: value for name, value in found.items() if np.isfinite(value)}
        return Statistic("right minus left", list(known.values()), (Axis("measure", labels=known),),
                         notes={"traces": list(_names(*self._both))})  # fmt: skip

    @property
    def _both(self) -> tuple[Trace, Trace]:
        return self.left, self.right

    def _sums(self, column: np.ndarray, trace: Trace) -> np.ndarray:
        """Return a column of the token table by token or word of the reply, float64."""
        reply = column[list(trace.reply)].astype(np.float64)
        if self.per == "token":
            return reply
        return np.array([reply[list(word.queries)].sum() for word in words(trace)])

    def _by_pair(self, name: str, left: np.ndarray, right: np.ndarray, unit: str) -> Statistic:
        values = [right[pair.right] - left[pair.left] if pair.operation == "equal" else np.nan for pair in self.pairs]
        notes = {"operations": [pair.operation for pair in self.pairs], "per": self.per}
        return Statistic(name, values, (Axis("pair", labels=[pair.text for pair in self.pairs]),), unit, notes=notes)

    def _sound(self) -> float:
        """Return how much more attention goes to the sound, mean over layers; NaN without attention to it."""
        if any("attention.segments" not in trace.tensors or not trace.n_reply for trace in self._both):
            return np.nan
        masses = [segment_mass(trace) for trace in self._both]
        if any("audio" not in mass.axes[1].labels for mass in masses):
            return np.nan
        first, second = (mass.values[:, mass.axes[1].labels.index("audio")].mean() for mass in masses)
        return float(second - first)


def compare_traces(left: Trace, right: Trace, *, per: Per = "token") -> Comparison:
    """Pair the replies of two traces.

    Args:
        left: What is compared with.
        right: What is compared.
        per: Pair tokens, or words where the two models cut them differently.
    """
    said = [_said(trace, per) for trace in (left, right)]
    pairs, places = [], [0, 0]
    for step in align(*said):
        here = [step.operation != "insert", step.operation != "delete"]
        spots = [place if there else None for place, there in zip(places, here)]
        pairs.append(Pair(step.operation, *spots, _text(step)))
        places = [place + there for place, there in zip(places, here)]
    return Comparison(left, right, tuple(pairs), per)


def mean_segments(found: Sequence[Comparison]) -> Statistic:
    """Return `segments` as the mean over many clips with 95 % bootstrap intervals, [layer, segment].

    Raises:
        TraceError: If the comparisons have other layers or segments, or there is none.
    """
    each = [one.segments() for one in found]
    if len({tuple(axis.labels for axis in one.axes) for one in each}) != 1:
        raise _refusal(f"{len(found)} comparisons with other layers or segments", "at least one, all alike")
    return mean_statistic(each[0].name, np.stack([one.values for one in each]), each[0].axes, unit="share")


def _said(trace: Trace, per: Per) -> list[str]:
    if per == "word":
        return [word.text for word in words(trace)]
    return [trace.tokens.text[place] for place in trace.reply]


def _text(step: NamedTuple) -> str:
    before, after = step[1:]
    return before if step.operation == "equal" else f"{before.strip()} → {after.strip()}".strip()


def _names(left: Trace, right: Trace) -> tuple[str, str]:
    """Return what to call the two; by side where both are of one model."""
    if left.meta.model != right.meta.model:
        return left.meta.model, right.meta.model
    return f"left: {left.meta.model}", f"right: {right.meta.model}"


def _shared_axis(left: Axis, right: Axis) -> Axis:
    shared = [label for label in left.labels if label in right.labels]
    if not shared:
        raise _refusal(f"no {left.name} that both have", f"traces that share a {left.name}")
    return Axis(left.name, labels=shared)


def _pick(statistic: Statistic, axes: Sequence[Axis]) -> np.ndarray:
    places = [[mine.labels.index(label) for label in axis.labels] for mine, axis in zip(statistic.axes, axes)]
    return statistic.values[np.ix_(*places)]


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("compare two traces", found=found, expected=expected, todo="Capture the two turns alike.")
