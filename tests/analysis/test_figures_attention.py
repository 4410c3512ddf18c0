"""Figures draw what the Statistic says."""

import numpy as np
import pytest

from analysis import attention
from analysis.attention import Head
from analysis.figures import attention as figures
from analysis.statistic import Axis, Statistic
from model.errors import TraceError
from tests.analysis.planted import planted_trace


@pytest.fixture(scope="module")
def trace():
    return planted_trace()[0]


@pytest.mark.parametrize("dark", [False, True])
def test_heatmap_shows_tokens_downwards_and_seconds_across(trace, dark):
    stat = attention.attention_map(trace, Head(1, 2))
    figure = figures.heatmap(stat, dark=dark)
    np.testing.assert_allclose(figure.data[0].z, stat.values)
    np.testing.assert_allclose(figure.data[0].x, trace.frames.centre_s)
    assert figure.layout.yaxis.ticktext[1] == "morning" and figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.xaxis.title.text == "frame (s)"


def test_stacked_shares_reach_one(trace):
    figure = figures.stacked(attention.segment_mass(trace))
    np.testing.assert_allclose(sum(np.array(bar.y) for bar in figure.data), 1, atol=5e-3)
    assert [bar.name for bar in figure.data] == list(trace.meta.segments)


def test_intervals_reach_from_low_to_high():
    stat = Statistic("median |dt|", 0.1, unit="s", low=0.08, high=0.15)
    figure = figures.intervals([stat, Statistic("median |dt|", 0.2, unit="s")], ["nano", "mini"])
    np.testing.assert_allclose(figure.data[0].error_x.array, [0.05, 0])
    np.testing.assert_allclose(figure.data[0].error_x.arrayminus, [0.02, 0])


@pytest.mark.parametrize(("label", "degrees"), [("L3", 0), ("encoder 3", 45)])
def test_labels_that_would_run_into_each_other_are_turned(label, degrees):
    axes = Axis("property", labels=("pitch",)), Axis("site", labels=[label] * 12)
    printed = figures.print_heatmap(Statistic("share", np.zeros((1, 12)), axes))
    assert {tick.get_rotation() for tick in printed.axes[0].get_xticklabels()} == {degrees}


def test_print_figures_carry_the_same_values(trace, tmp_path):
    stat = attention.attention_map(trace, Head(1, 2))
    printed = figures.print_heatmap(stat)
    np.testing.assert_allclose(printed.axes[0].images[0].get_array(), stat.values)
    mass = attention.segment_mass(trace)
    bars = figures.print_stacked(mass).axes[0].patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(mass.values.sum())
    error = Statistic("median |dt|", 0.1, unit="s", low=0.08, high=0.15)
    dots = figures.print_intervals([error], ["nano"])
    assert dots.axes[0].get_xlabel() == "median |dt| (s)"
    for number, figure in enumerate((printed, dots)):
        figure.savefig(tmp_path / f"{number}.png")


def test_a_statistic_with_other_axes_is_refused():
    with pytest.raises(TraceError, match="0 axes"):
        figures.heatmap(Statistic("x", 1.0))
