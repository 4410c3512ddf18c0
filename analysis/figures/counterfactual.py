"""Pictures of what an edit did to an answer: a Statistic in, a figure out, and nothing else.

Names without a prefix make plotly figures for the app; `print_` ones make matplotlib figures for paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import axis_title, print_axes, value_title
from analysis.statistic import Axis, Statistic
from model.errors import TraceError
from model.tasks.metrics import Edit

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

MARKS = {"substitute": "{0} → {1}", "delete": "− {0}", "insert": "+ {1}"}
"""How a change is written; never by colour alone."""


def changes(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw one value for each token, word or edit as bars to both sides of zero, with intervals where there are any.

    Args:
        statistic: One axis of names, such as `Counterfactual.change` or `compare`.
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    axis, labels = _named(statistic)
    palette = theme.DARK if dark else theme.LIGHT
    below, above = _reach(statistic)
    places = list(range(len(axis)))
    error = {"type": "data", "array": above, "arrayminus": below, "color": palette.text, "thickness": 1.5}
    figure = go.Figure(
        go.Bar(
            x=statistic.values.tolist(),
            y=places,
            orientation="h",
            marker={"color": palette.accent, "line": {"width": 0}},
            error_x=error if statistic.low is not None else None,
            customdata=labels,
            hovertemplate=f"%{{customdata}}<br>%{{x:.3f}} {statistic.unit}<extra></extra>",
        )
    )
    figure.update_layout(**theme.plotly_layout(palette), height=max(160, 90 + 20 * len(axis)), bargap=0.25)
    figure.update_xaxes(title=value_title(statistic), zeroline=True, zerolinecolor=palette.muted)
    figure.update_yaxes(title=axis_title(axis), autorange="reversed", tickvals=places, ticktext=labels)
    return figure


def print_changes(statistic: Statistic) -> PrintFigure:
    """Draw `changes` for paper."""
    axis, labels = _named(statistic)
    figure, axes = print_axes(width=5.0, height=0.8 + 0.22 * len(axis))
    spread = np.array(_reach(statistic)) if statistic.low is not None else None
    axes.barh(range(len(axis)), statistic.values, xerr=spread, color=theme.LIGHT.accent, height=0.75)
    axes.axvline(0, color=theme.LIGHT.muted, linewidth=0.8)
    axes.set_yticks(range(len(axis)), labels)
    axes.invert_yaxis()
    axes.set(xlabel=value_title(statistic), ylabel=axis_title(axis))
    return figure


def diff_table(diff: Sequence[Edit], *, dark: bool = False) -> Figure:
    """Draw the token diff of two answers: before above after, changes marked and shaded."""
    import plotly.graph_objects as go

    palette = theme.DARK if dark else theme.LIGHT
    shades = [palette.panel if step.operation == "equal" else palette.line for step in diff]
    shown = [[theme.token_label(side) if side else "" for side in step[1:]] for step in diff]
    font = {"font": {"color": palette.text}, "align": "center"}
    figure = go.Figure(
        go.Table(
            header={
                "values": ["before", *(before for before, _ in shown)],
                "fill_color": [palette.panel, *shades],
                **font,
            },
            cells={
                "values": [["after", ""], *([after, _mark(step)] for (_, after), step in zip(shown, diff))],
                "fill_color": [palette.panel, *shades],
                **font,
            },
        )
    )
    figure.update_layout(**theme.plotly_layout(palette), height=175)
    return figure


def diff_text(diff: Sequence[Edit]) -> str:
    """Write a token diff in one line: `Turn [+ off] the [light → fan]`."""
    return " ".join(f"[{_mark(step)}]" if _mark(step) else theme.token_label(step.reference) for step in diff)


def _mark(step: Edit) -> str:
    """Return how one change is written; nothing for a token that stayed."""
    texts = (theme.token_label(side) for side in step[1:])
    return MARKS.get(step.operation, "").format(*texts)


def _named(statistic: Statistic) -> tuple[Axis, list[str]]:
    if len(statistic.axes) != 1:
        raise TraceError(
            f"draw {statistic.name!r}",
            found=f"{len(statistic.axes)} axes",
            expected="a Statistic with one axis",
            todo="Select or add up over the others first.",
        )
    axis = statistic.axes[0]
    return axis, [theme.token_label(text) for text in axis.ticks]


def _reach(statistic: Statistic) -> tuple[list[float], list[float]]:
    """Return how far the interval of each value reaches below and above."""
    if statistic.low is None:
        return [0.0] * len(statistic.values), [0.0] * len(statistic.values)
    below, above = statistic.values - statistic.low, statistic.high - statistic.values
    return np.maximum(below, 0).tolist(), np.maximum(above, 0).tolist()
