"""Bootstrap intervals cover the truth as often as they say, also when examples come in groups."""

import numpy as np
import pytest

from analysis.resampling import mean_interval, mean_statistic
from analysis.statistic import Axis
from model.errors import TraceError
from model.tasks.metrics import bootstrap_interval


def test_it_agrees_with_the_interval_of_the_metrics():
    """Law 8: a second implementation, which draws row by row."""
    values = np.random.default_rng(0).normal(2, 1, 80)
    np.testing.assert_allclose(mean_interval(values), bootstrap_interval(values), atol=0.03)


@pytest.mark.parametrize("grouped", [False, True])
def test_95_percent_of_the_intervals_hold_the_true_mean(grouped):
    rng, hits = np.random.default_rng(1), 0
    for seed in range(300):
        shared = np.repeat(rng.normal(0, 1, 40), 5) if grouped else np.zeros(200)
        groups = np.repeat(np.arange(40), 5) if grouped else None
        low, high = mean_interval(shared + rng.normal(0, 1, 200), groups, n_resamples=300, seed=seed)
        hits += bool(low <= 0 <= high)
    assert 0.9 <= hits / 300 <= 0.985


def test_groups_widen_the_interval_when_their_rows_are_alike():
    values, groups = np.repeat([0.0, 1.0, 0.0, 1.0], 25), np.repeat([0, 1, 2, 3], 25)
    alone, together = (np.subtract(*mean_interval(values, g)[::-1]) for g in (None, groups))
    assert together > 3 * alone


def test_a_row_may_have_any_shape_and_becomes_a_statistic():
    values = np.random.default_rng(2).normal(0, 1, (30, 2, 3))
    axes = (Axis("a", labels="xy"), Axis("b", labels="uvw"))
    stat = mean_statistic("m", values, axes, unit="s")
    assert stat.n == 30 and stat.unit == "s"
    low, high = mean_interval(values[:, 1, 2])
    assert (stat.low[1, 2], stat.high[1, 2]) == pytest.approx((float(low), float(high)))


@pytest.mark.parametrize("values", [np.zeros(0), np.array([1.0, np.nan])])
def test_nothing_and_nan_are_refused(values):
    with pytest.raises(TraceError, match="bootstrap interval"):
        mean_interval(values)
    with pytest.raises(TraceError, match="groups"):
        mean_interval(np.ones(3), [0, 1])
