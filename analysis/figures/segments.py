"""Picture of where each token of a reply looks, segment by segment. A Statistic in, a figure out.

`token_shares` makes a plotly figure for the app, `print_token_shares` a matplotlib figure for paper.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import plotly_ticks, print_axes, print_ticks, two_axes
from analysis.statistic import Statistic

_two_axes = partial(
    two_axes, expected="shares of [query, segment]", todo="Pick a layer with `analysis.segments.at_layer`."
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "oo")
PATTERNS = ("", "/", ".", "x", "\\", "-", "+", "|")
"""Segments are told apart by their hatching as well as by their colour."""


def token_shares(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw the shares of every token stacked to one, tokens across.

    Args:
        statistic: `at_layer(segment_shares(trace))` or `Rollout.segments`, [query, segment].
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    tokens, parts = _two_axes(statistic)
    palette, x = theme.DARK if dark else theme.LIGHT, list(range(len(tokens)))
    labels = [theme.token_label(text) for text in tokens.ticks]
    figure = go.Figure()
    for k, name in enumerate(parts.ticks):
        figure.add_bar(
            name=name,
            x=x,
            y=statistic.values[:, k],
            customdata=labels,
            marker={"line": {"width": 0}, "pattern": {"shape": PATTERNS[k % len(PATTERNS)], "solidity": 0.25}},
            hovertemplate=f"%{{customdata}}<br>{name} %{{y:.1%}}<extra></extra>",
        )
    figure.update_layout(**theme.plotly_layout(palette), barmode="stack", bargap=0.08, height=340)
    figure.update_xaxes(title=tokens.name, **plotly_ticks(tokens))
    figure.update_yaxes(title=statistic.name, range=[0, 1], tickformat=".0%")
    return figure


def print_token_shares(statistic: Statistic) -> PrintFigure:
    """Draw `token_shares` for paper."""
    tokens, parts = _two_axes(statistic)
    figure, axes = print_axes(width=7.0, height=2.8)
    base = np.zeros(len(tokens))
    for k, name in enumerate(parts.ticks):
        look = {"color": theme.SERIES[k % 8], "hatch": HATCHES[k % 8], "edgecolor": theme.LIGHT.ground}
        axes.bar(range(len(tokens)), statistic.values[:, k], bottom=base, label=name, width=0.92, linewidth=0, **look)
        base = base + statistic.values[:, k]
    axes.set_xticks(*print_ticks(tokens), rotation=60, ha="right")
    axes.set(xlabel=tokens.name, ylabel=statistic.name, ylim=(0, 1))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
