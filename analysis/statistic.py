"""What every analysis returns and every figure draws: named values with named axes.

A figure never sees a model or a trace, only one of these records; so a number can be printed, tested, saved and
drawn from the same place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from model.errors import TraceError


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a Statistic: a name, and one label or one number for each place along it."""

    name: str
    """What runs along the axis, in the glossary's words: `layer`, `head`, `query`, `frame`."""
    labels: tuple[str, ...] = ()
    """Text for each place; may be empty when `values` are given."""
    values: np.ndarray | None = None
    """Position of each place, [n] float64, for axes that measure something; None for names."""
    unit: str = ""
    """Unit of `values`: `s`, `Hz`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        if self.values is not None:
            object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float64))
        lengths = {len(part) for part in (self.labels, self.values) if part is not None and len(part)}
        if len(lengths) > 1:
            raise _refusal(f"{len(self.labels)} labels and {len(self.values)} values on axis {self.name!r}")

    def __len__(self) -> int:
        return len(self.values) if self.values is not None else len(self.labels)

    @property
    def ticks(self) -> tuple[str, ...]:
        """Text for each place, made from the values when there are no labels."""
        return self.labels or tuple(f"{value:g}" for value in self.values)


@dataclass(frozen=True, eq=False)
class Statistic:
    """Values over named axes, with a unit and, where they were estimated, an interval.

    Statistic("attention mass", values [layer, head], axes (Axis("layer"), Axis("head")), unit "share")
    """

    name: str
    """What the values are, in words that can title a figure."""
    values: np.ndarray
    """float64, one dimension for each axis; a single number has none."""
    axes: tuple[Axis, ...] = ()
    """In the order of the dimensions."""
    unit: str = ""
    """Unit of the values: `s`, `nat`, `share`."""
    low: np.ndarray | None = None
    """Lower end of the 95 % interval, shaped like `values`."""
    high: np.ndarray | None = None
    """Upper end of the 95 % interval, shaped like `values`."""
    n: int | None = None
    """How many observations the values were estimated from."""
    notes: Mapping[str, object] = field(default_factory=dict)
    """How it was computed: JSON-able facts a reader needs to repeat it."""
    texts: np.ndarray | None = None
    """Words that belong to each value, such as the token it is the probability of, str, shaped like `values`."""

    def __post_init__(self) -> None:
        for name in ("values", "low", "high"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, np.asarray(given, dtype=np.float64))
        object.__setattr__(self, "axes", tuple(self.axes))
        if self.values.shape != tuple(len(axis) for axis in self.axes):
            raise _refusal(f"values {self.values.shape} on axes {[(a.name, len(a)) for a in self.axes]}")
        if (self.low is None) != (self.high is None):
            raise _refusal("only one end of an interval")
        if self.texts is not None:
            object.__setattr__(self, "texts", np.asarray(self.texts, dtype=np.str_))
            if self.texts.shape != self.values.shape:
                raise _refusal(f"values {self.values.shape} with texts {self.texts.shape}")
        if self.low is not None and not self.low.shape == self.high.shape == self.values.shape:
            raise _refusal(f"values {self.values.shape} with an interval {self.low.shape} to {self.high.shape}")

    def __float__(self) -> float:
        """Return the value of a Statistic without axes."""
        if self.axes:
            raise _refusal(f"{self.name!r} with {len(self.axes)} axes where a single number was wanted")
        return float(self.values)

    def __str__(self) -> str:
        """Say it in one line: `median |dt| 0.036 s [0.031, 0.042], n 48`; of many values only where they lie.

        >>> str(Statistic("share", 0.5, unit="", low=0.25, high=0.75, n=8))
        'share 0.5 [0.25, 0.75], n 8'
        """
        if self.axes:
            return f"{self.name} [{', '.join(f'{len(axis)} {axis.name}' for axis in self.axes)}]"
        parts = [self.name, f"{float(self):.3g}", self.unit]
        parts += [] if self.low is None else [f"[{float(self.low):.3g}, {float(self.high):.3g}]"]
        return " ".join(filter(None, parts)) + (f", n {self.n}" if self.n is not None else "")

    def axis(self, name: str) -> Axis:
        """Return the axis of that name."""
        return self.axes[self._number(name)]

    def select(self, name: str, place: int | str) -> Statistic:
        """Return one place of an axis, by number or by label, as a Statistic without that axis.

        Raises:
            TraceError: If there is no such axis or place.
        """
        number = self._number(name)
        ticks, axes = self.axes[number].ticks, self.axes[:number] + self.axes[number + 1 :]
        at = ticks.index(place) if place in ticks else place
        if isinstance(at, str) or not -len(ticks) <= at < len(ticks):
            raise _refusal(f"no place {place!r} on the axis {name!r} of {len(ticks)}: {', '.join(ticks[:12])}")
        parts = {part: getattr(self, part) for part in ("values", "low", "high", "texts")}
        taken = {part: None if all_ is None else all_.take(at, axis=number) for part, all_ in parts.items()}
        return replace(self, axes=axes, **taken)

    def _number(self, name: str) -> int:
        names = [axis.name for axis in self.axes]
        if name not in names:
            raise _refusal(f"no axis {name!r} among {names}")
        return names.index(name)

    def to_dict(self) -> dict:
        """Return a JSON-able form; NaN becomes None."""
        return {
            "name": self.name,
            "unit": self.unit,
            "n": self.n,
            "values": _plain(self.values),
            "low": _plain(self.low),
            "high": _plain(self.high),
            "axes": [
                {"name": a.name, "unit": a.unit, "labels": list(a.labels), "values": _plain(a.values)}
                for a in self.axes
            ],
            "notes": dict(self.notes),
            "texts": None if self.texts is None else self.texts.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Effect:
    """What an intervention did: one metric with and without it, for each place it was tried at."""

    metric: str
    """What was measured: `logit difference`, `log-probability of the answer`."""
    baseline: float
    """Its value without the intervention."""
    patched: np.ndarray
    """Its value with the intervention at each place, float64, one dimension for each axis of `index`."""
    index: tuple[Axis, ...]
    """The places: (layer, position), (time,) ..."""
    reference: float | None = None
    """Its value in the run that was patched from; None where there is no such run."""
    notes: Mapping[str, object] = field(default_factory=dict)
    """How it was computed: JSON-able facts a reader needs to repeat it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "patched", np.asarray(self.patched, dtype=np.float64))
        object.__setattr__(self, "index", tuple(self.index))
        if self.patched.shape != tuple(len(axis) for axis in self.index):
            raise _refusal(f"effects {self.patched.shape} on axes {[(a.name, len(a)) for a in self.index]}")

    @property
    def change(self) -> Statistic:
        """Patched minus baseline, as the Statistic that figures draw."""
        return Statistic(f"change of {self.metric}", self.patched - self.baseline, self.index, notes=self.notes)

    @property
    def recovered(self) -> Statistic:
        """How much of the way from the baseline to the reference each place goes: 0 none, 1 all of it."""
        if self.reference is None or abs(self.reference - self.baseline) < 1e-9:
            raise TraceError(
                f"say which share of the {self.metric} was recovered",
                found=f"a baseline of {self.baseline:.4g} and a reference of {self.reference}",
                expected="two runs with different values",
                todo="Choose a pair that the model answers differently, or look at `change`.",
            )
        share = (self.patched - self.baseline) / (self.reference - self.baseline)
        return Statistic(f"share of {self.metric} recovered", share, self.index, unit="share", notes=self.notes)


def _plain(values: np.ndarray | None) -> object:
    """Return nested lists of floats with None for NaN and infinities."""
    if values is None:
        return None
    return np.where(np.isfinite(values), values.astype(object), None).tolist()


def _refusal(found: str) -> TraceError:
    return TraceError(
        "make a Statistic",
        found=found,
        expected="one axis for each dimension, as long as that dimension, and interval ends shaped like the values",
        todo="Compare the shapes of what you pass in.",
    )
