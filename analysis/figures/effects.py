"""Pictures of interventions over two axes: layer x position, layer x head. A Statistic in, a figure out.

Gain and loss are blue and orange around zero, and the two sides reach equally far. What was not reached stays empty.
Names without a prefix make plotly figures for the app; `print_` ones make matplotlib figures for paper.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import axis_title, plotly_ticks, print_axes, print_ticks, two_axes, value_title
from analysis.statistic import Statistic

_two_axes = partial(
    two_axes,
    expected="a Statistic with two axes",
    todo="Draw a single one with `analysis.figures.counterfactual.changes`.",
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure


def effect_map(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw an effect over two axes; the first, layers, runs upwards.

    Args:
        statistic: `Effect.change` or `Effect.recovered`, two axes.
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    rows, columns = _two_axes(statistic)
    palette, reach = theme.DARK if dark else theme.LIGHT, _reach(statistic)
    places = [list(range(len(axis))) for axis in (columns, rows)]
    figure = go.Figure(
        go.Heatmap(
            z=np.where(np.isfinite(statistic.values), statistic.values.astype(object), None).tolist(),
            x=places[0],
            y=places[1],
            customdata=np.array([[(row, column) for column in columns.ticks] for row in rows.ticks], dtype=object),
            colorscale=theme.colour_scale(theme.diverging(palette)),
            zmin=-reach,
            zmax=reach,
            colorbar={"title": {"text": statistic.unit}, "thickness": 10, "outlinewidth": 0},
            hovertemplate=f"{rows.name} %{{customdata[0]}}<br>{columns.name} %{{customdata[1]}}<br>%{{z:.3f}} "
            f"{statistic.unit}<extra></extra>",
        )
    )
    figure.update_layout(**theme.plotly_layout(palette), height=max(260, min(900, 120 + 18 * len(rows))))
    figure.update_layout(title={"text": value_title(statistic), "font": {"size": 13}}, margin={"t": 40})
    figure.update_xaxes(title=axis_title(columns), **plotly_ticks(columns))
    figure.update_yaxes(title=axis_title(rows), **plotly_ticks(rows))
    return figure


def print_effect_map(statistic: Statistic) -> PrintFigure:
    """Draw `effect_map` for paper."""
    from matplotlib.colors import LinearSegmentedColormap

    rows, columns = _two_axes(statistic)
    reach = _reach(statistic)
    figure, axes = print_axes(width=6.0, height=max(2.2, min(9.0, 1.4 + 0.16 * len(rows))))
    image = axes.imshow(
        statistic.values,
        aspect="auto",
        interpolation="nearest",
        origin="lower",
        cmap=LinearSegmentedColormap.from_list("effect", theme.diverging(theme.LIGHT)),
        vmin=-reach,
        vmax=reach,
    )
    axes.set_yticks(*print_ticks(rows))
    axes.set_xticks(*print_ticks(columns, most=30), rotation=60, ha="right")
    axes.set(xlabel=axis_title(columns), ylabel=axis_title(rows), title=value_title(statistic))
    figure.colorbar(image, ax=axes, label=statistic.unit, shrink=0.8)
    return figure


def _reach(statistic: Statistic) -> float:
    """Return how far the colours go to both sides; 1 if there is nothing to see."""
    return float(np.abs(np.nan_to_num(statistic.values)).max(initial=0.0)) or 1.0
