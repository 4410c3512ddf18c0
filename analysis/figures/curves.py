"""Pictures of curves with their intervals: lens by depth, probes by site, doses. A Statistic in, a figure out.

Names without a prefix make plotly figures for the app; `print_` ones make matplotlib figures for paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import axis_title, plotly_ticks, print_axes, print_ticks, value_title
from analysis.statistic import Axis, Statistic
from model.errors import TraceError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PRINT_DASHES = ("-", "--", ":", "-.", (0, (8, 3)), (0, (8, 3, 1, 3)))
"""Curves are told apart by their stroke as well as by their colour."""
BAND = 0.15
"""Opacity of an interval."""


def curves(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw one curve for each place of the first axis along the second, intervals as bands.

    A chance level in the notes is drawn as a line; curves that are nowhere finite are left out.

    Args:
        statistic: [series, x], such as `ProbeResult.scores`, `AttributeCurves.by_depth` or `dose_response`; or [x].
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    series, along, rows = _rows(statistic)
    palette, x = theme.DARK if dark else theme.LIGHT, _positions(along)
    figure = go.Figure()
    for number, (name, values, low, high) in enumerate(rows):
        colour = _colours(palette)[number % len(_colours(palette))]
        if low is not None:
            band = {"x": x, "mode": "lines", "line": {"width": 0}, "legendgroup": name, "hoverinfo": "skip"}
            figure.add_scatter(y=high, showlegend=False, **band)
            fill = {"fill": "tonexty", "fillcolor": _faint(colour), "showlegend": False}
            figure.add_scatter(y=low, **fill, **band)
        figure.add_scatter(
            x=x,
            y=values,
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line={"color": colour, "dash": DASHES[number % len(DASHES)], "width": 2},
            hovertemplate=f"{name}<br>%{{x}}: %{{y:.3f}} {statistic.unit}<extra></extra>",
        )
    chance = statistic.notes.get("chance")
    if chance is not None:
        figure.add_hline(y=chance, line={"color": palette.muted, "dash": "dot", "width": 1}, annotation_text="chance")
    figure.update_layout(**theme.plotly_layout(palette), height=360, showlegend=len(series) > 1)
    figure.update_xaxes(title=axis_title(along), **plotly_ticks(along, by_place=along.values is None))
    figure.update_yaxes(title=value_title(statistic))
    return figure


def print_curves(statistic: Statistic) -> PrintFigure:
    """Draw `curves` for paper."""
    series, along, rows = _rows(statistic)
    x = _positions(along)
    figure, axes = print_axes(width=5.0, height=3.0)
    for number, (name, values, low, high) in enumerate(rows):
        colour = _colours(theme.LIGHT)[number % len(_colours(theme.LIGHT))]
        dash = PRINT_DASHES[number % len(PRINT_DASHES)]
        axes.plot(x, values, label=name, color=colour, linestyle=dash, marker="o", markersize=3)
        if low is not None:
            axes.fill_between(x, low, high, color=colour, alpha=BAND, linewidth=0)
    if statistic.notes.get("chance") is not None:
        axes.axhline(statistic.notes["chance"], color=theme.LIGHT.muted, linestyle=":", linewidth=0.8)
    if along.values is None:
        axes.set_xticks(*print_ticks(along, most=24), rotation=45, ha="right")
    axes.set(xlabel=axis_title(along), ylabel=value_title(statistic))
    if len(series) > 1:
        axes.legend()
    return figure


def _rows(statistic: Statistic) -> tuple[Axis, Axis, list[tuple]]:
    """Return the series that have a value: name, values, low, high."""
    if len(statistic.axes) not in (1, 2):
        raise TraceError(
            f"draw {statistic.name!r}",
            found=f"{len(statistic.axes)} axes",
            expected="a Statistic with one or two axes",
            todo="Select or average over the others first.",
        )
    series, along = (Axis("", labels=(statistic.name,)), *statistic.axes)[-2:]
    shape = len(series), len(along)
    low, high = (None if end is None else end.reshape(shape) for end in (statistic.low, statistic.high))
    rows = [
        (name, values, None if low is None else low[k], None if high is None else high[k])
        for k, (name, values) in enumerate(zip(series.ticks, statistic.values.reshape(shape)))
        if np.isfinite(values).any()
    ]
    return series, along, rows


def _positions(axis: Axis) -> list[float]:
    return list(axis.values) if axis.values is not None else list(range(len(axis)))


def _colours(palette: theme.Palette) -> tuple[str, ...]:
    """Return the series colours that can be seen on the ground."""
    return (palette.accent, *theme.SERIES[1:-1])


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{BAND})"
