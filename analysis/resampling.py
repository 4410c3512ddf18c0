"""How far a mean over examples could have come out otherwise: bootstrap intervals, whole groups drawn together.

Rows of one group (clips of one speaker, frames of one clip) resemble each other, so the groups are what is drawn with
replacement; drawing single rows would promise more than the data hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.statistic import Axis, Statistic
from model.errors import TraceError

N_RESAMPLES = 2000
"""Bootstrap samples behind an interval."""


def mean_interval(
    values: np.ndarray,
    groups: Sequence | None = None,
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bootstrap interval of the mean over rows.

    Args:
        values: One row for each example, [row, ...]; finite.
        groups: Which rows belong together, [row]; None draws each row on its own.
        confidence: Share of the resampled means inside, in (0, 1).
        n_resamples: How often to draw.
        seed: Makes the interval repeatable.

    Returns:
        Lower and upper end, shaped like one row.

    Raises:
        TraceError: If there is no row, a value is not finite, or the groups do not fit.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.ndim or not len(values) or not np.isfinite(values).all() or not 0 < confidence < 1:
        raise _refusal(f"values {values.shape}, {int((~np.isfinite(values)).sum())} of them not finite")
    owner = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if owner.shape != values.shape[:1]:
        raise _refusal(f"{len(values)} rows in {owner.shape} groups")
    n_groups = int(owner.max()) + 1
    sums, sizes = np.zeros((n_groups, values[0].size)), np.bincount(owner)
    np.add.at(sums, owner, values.reshape(len(values), -1))
    times = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    means = (times @ sums) / (times @ sizes)[:, None]
    edge = (1 - confidence) / 2
    low, high = np.quantile(means, [edge, 1 - edge], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def mean_statistic(name: str, values: np.ndarray, axes: Sequence[Axis], groups: Sequence | None = None, **fields):
    """Return the mean over rows [row, ...] as a Statistic with its 95 % interval; `n` is the number of rows."""
    low, high = mean_interval(values, groups)
    return Statistic(name, np.mean(values, axis=0), tuple(axes), low=low, high=high, n=len(values), **fields)


def _refusal(found: str) -> TraceError:
    return TraceError(
        "make a bootstrap interval",
        found=found,
        expected="at least one row of finite values, one group for each row, and a confidence between 0 and 1",
        todo="Leave out the examples that could not be measured.",
    )
