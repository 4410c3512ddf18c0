"""Picture of a logit lens: depth upwards, places across, in each cell the best token. A Statistic in, a figure out.

`lens_grid` makes a plotly figure for the app, `print_lens_grid` a matplotlib figure for paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import axis_title, colour_map, plotly_ticks, print_axes, print_ticks
from analysis.statistic import Axis, Statistic
from model.errors import TraceError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

MOST_WRITTEN = 48
"""Columns up to which the words are written into the cells; beyond, they are shown when pointed at."""
LONGEST = 8
"""Characters of a word in a cell."""


def lens_grid(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw which token is best at every depth and place, and how likely it is there.

    Args:
        statistic: `Lens.best()`: values 0..1 and texts over [depth, place].
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    depths, places, words = _checked(statistic)
    palette = theme.DARK if dark else theme.LIGHT
    short = np.array([[_shortened(word) for word in row] for row in words], dtype=object)
    written = {"text": short, "texttemplate": "%{text}", "textfont": {"size": 10}} if _fits(places) else {}
    figure = go.Figure(
        go.Heatmap(
            z=statistic.values,
            customdata=np.stack([words, np.broadcast_to(np.array(places.ticks, dtype=object), words.shape)], axis=-1),
            colorscale=theme.colour_scale(palette.heat),
            zmin=0,
            zmax=1,
            colorbar={"title": {"text": "probability"}, "thickness": 10, "outlinewidth": 0},
            hovertemplate=f"depth %{{y}}<br>{places.name} %{{customdata[1]}}<br>%{{customdata[0]}} %{{z:.3f}}"
            "<extra></extra>",
            **written,
        )
    )
    figure.update_layout(**theme.plotly_layout(palette), height=max(260, min(900, 100 + 22 * len(depths))))
    figure.update_yaxes(title=axis_title(depths), **plotly_ticks(depths))
    figure.update_xaxes(title=axis_title(places), **plotly_ticks(_rounded(places)))
    return figure


def print_lens_grid(statistic: Statistic) -> PrintFigure:
    """Draw `lens_grid` for paper."""
    depths, places, words = _checked(statistic)
    width = min(11.0, max(4.0, 1.2 + 0.5 * len(places)))
    figure, axes = print_axes(width=width, height=max(2.2, min(9.0, 1.0 + 0.24 * len(depths))))
    image = axes.imshow(
        statistic.values, aspect="auto", interpolation="nearest", origin="lower", cmap=colour_map(), vmin=0, vmax=1
    )
    if _fits(places):
        for row, column in np.ndindex(*words.shape):
            ink = theme.LIGHT.on_accent if statistic.values[row, column] > 0.55 else theme.LIGHT.text
            axes.text(column, row, _shortened(words[row, column]), ha="center", va="center", fontsize=6, color=ink)
    axes.set_yticks(*print_ticks(depths))
    axes.set_xticks(*print_ticks(_rounded(places), most=24), rotation=60, ha="right")
    axes.set(xlabel=axis_title(places), ylabel=axis_title(depths))
    figure.colorbar(image, ax=axes, label="probability", shrink=0.8)
    return figure


def _checked(statistic: Statistic) -> tuple[Axis, Axis, np.ndarray]:
    """Return the axes and the words as they are written down."""
    if len(statistic.axes) != 2 or statistic.texts is None:
        raise TraceError(
            f"draw {statistic.name!r} as a lens",
            found=f"{len(statistic.axes)} axes and {'no ' if statistic.texts is None else ''}texts",
            expected="two axes, depth and place, with a text for each value",
            todo="Pass `Lens.best()`; curves have `analysis.figures.curves`.",
        )
    words = [[theme.token_label(str(word)) for word in row] for row in statistic.texts]
    return *statistic.axes, np.array(words, dtype=object).reshape(statistic.values.shape)


def _fits(places: Axis) -> bool:
    return len(places) <= MOST_WRITTEN


def _shortened(word: str) -> str:
    return word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"


def _rounded(axis: Axis) -> Axis:
    """Return an axis of times as one of names, so that its cells are equally wide."""
    if axis.values is None:
        return axis
    return Axis(axis.name, labels=[f"{value:.2f}" for value in axis.values], unit=axis.unit)
