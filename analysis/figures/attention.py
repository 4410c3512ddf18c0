"""Pictures of attention: a Statistic in, a figure out, and nothing else.

Names without a prefix make plotly figures for the app; `print_` ones make matplotlib figures for paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import axis_title, colour_map, plotly_ticks, print_axes, print_ticks, two_axes, value_title
from analysis.statistic import Statistic

MOST_ACROSS = 64
"""Characters of labels that fit under a printed map beside each other."""
_two_axes = partial(two_axes, expected="a Statistic with two axes", todo="Select or average over the others first.")

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure


def heatmap(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw two axes as a heat map: tokens x frames, or layers x heads. The first axis runs downwards."""
    import plotly.graph_objects as go

    rows, columns = _two_axes(statistic)
    palette = theme.DARK if dark else theme.LIGHT
    figure = go.Figure(
        go.Heatmap(
            z=statistic.values,
            x=list(columns.values) if columns.values is not None else list(range(len(columns))),
            colorscale=theme.colour_scale(palette.heat),
            zmin=min(0.0, float(statistic.values.min(initial=0.0))),
            colorbar={"title": {"text": statistic.unit}, "thickness": 10, "outlinewidth": 0},
            hovertemplate=f"{rows.name} %{{y}}<br>{columns.name} %{{x}}<br>%{{z:.3f}} {statistic.unit}<extra></extra>",
        )
    )
    figure.update_layout(**theme.plotly_layout(palette), height=max(240, min(900, 80 + 18 * len(rows))))
    figure.update_yaxes(title=axis_title(rows), autorange="reversed", **plotly_ticks(rows, by_place=True))
    figure.update_xaxes(title=axis_title(columns), **plotly_ticks(columns, by_place=columns.values is None))
    return figure


def stacked(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw shares that sum to one, stacked: the second axis on top of each other along the first."""
    import plotly.graph_objects as go

    rows, parts = _two_axes(statistic)
    palette = theme.DARK if dark else theme.LIGHT
    bars = [
        go.Bar(name=name, x=list(rows.ticks), y=statistic.values[:, k], marker={"line": {"width": 0}})
        for k, name in enumerate(parts.ticks)
    ]
    figure = go.Figure(bars)
    figure.update_layout(**theme.plotly_layout(palette), barmode="stack", bargap=0.15, height=320)
    figure.update_xaxes(title=axis_title(rows), type="category")
    figure.update_yaxes(title=statistic.name, range=[0, 1], tickformat=".0%")
    return figure


def intervals(statistics: Sequence[Statistic], names: Sequence[str], *, dark: bool = False) -> Figure:
    """Draw single numbers with their 95 % intervals below each other, such as pointing errors of several models."""
    import plotly.graph_objects as go

    palette = theme.DARK if dark else theme.LIGHT
    values, below, above = _estimates(statistics)
    figure = go.Figure(
        go.Scatter(
            x=values,
            y=list(names),
            mode="markers",
            marker={"size": 10, "color": palette.accent},
            error_x={"type": "data", "array": above, "arrayminus": below, "color": palette.accent, "thickness": 2},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.update_layout(**theme.plotly_layout(palette), height=120 + 36 * len(names))
    figure.update_xaxes(title=value_title(statistics[0]), rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def print_heatmap(statistic: Statistic) -> PrintFigure:
    """Draw `heatmap` for paper."""
    rows, columns = _two_axes(statistic)
    figure, axes = print_axes(width=7.0, height=max(2.0, min(9.0, 0.9 + 0.18 * len(rows))))
    image = axes.imshow(statistic.values, aspect="auto", interpolation="nearest", cmap=colour_map(), vmin=0)
    axes.set_yticks(*print_ticks(rows))
    places, labels = print_ticks(columns, most=12)
    room = sum(map(len, labels)) <= MOST_ACROSS
    axes.set_xticks(places, labels, **({} if room else {"rotation": 45, "ha": "right"}))
    axes.set_ylabel(axis_title(rows))
    axes.set_xlabel(axis_title(columns))
    figure.colorbar(image, ax=axes, label=statistic.unit, shrink=0.8)
    return figure


def print_stacked(statistic: Statistic) -> PrintFigure:
    """Draw `stacked` for paper."""
    rows, parts = _two_axes(statistic)
    figure, axes = print_axes(width=6.0, height=2.8)
    base = np.zeros(len(rows))
    for k, name in enumerate(parts.ticks):
        axes.bar(
            range(len(rows)), statistic.values[:, k], bottom=base, label=name, color=theme.SERIES[k % 8], width=0.85
        )
        base = base + statistic.values[:, k]
    axes.set_xticks(*print_ticks(rows))
    axes.set(xlabel=axis_title(rows), ylabel=statistic.name, ylim=(0, 1))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def print_intervals(statistics: Sequence[Statistic], names: Sequence[str]) -> PrintFigure:
    """Draw `intervals` for paper."""
    values, below, above = _estimates(statistics)
    figure, axes = print_axes(width=5.0, height=0.8 + 0.35 * len(names))
    axes.errorbar(values, range(len(names)), xerr=[below, above], fmt="o", color=theme.LIGHT.accent, capsize=3)
    axes.set_yticks(range(len(names)), list(names))
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(value_title(statistics[0]))
    return figure


def _estimates(statistics: Sequence[Statistic]) -> tuple[list[float], list[float], list[float]]:
    """Return values and how far their intervals reach below and above; 0 without an interval."""
    values = [float(one) for one in statistics]
    below = [v - float(one.low) if one.low is not None else 0.0 for v, one in zip(values, statistics)]
    above = [float(one.high) - v if one.high is not None else 0.0 for v, one in zip(values, statistics)]
    return values, below, above
