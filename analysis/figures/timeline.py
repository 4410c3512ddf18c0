"""Pictures of a turn in time: lanes above each other, and the sound that had arrived beside the sound that was heard.

Names without a prefix make plotly figures for the app; `print_` ones make matplotlib figures for paper. Time spent by
stage is drawn by `figures.counterfactual.changes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import theme
from analysis.figures.parts import print_axes, two_axes
from analysis.statistic import Statistic

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

LEAST = 0.004
"""Share of the whole width that the shortest span takes, so that it can be seen."""
LETTER = 0.013
"""Share of the whole width that a letter takes; labels that do not fit into their bar are left out."""
THICK = 0.62
"""Share of a lane's height that its spans take."""


def lanes(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw everything of a turn as bars from start to end, one lane for each kind of thing.

    Args:
        statistic: `Timeline.lanes()`, [span, edge], with `lanes` and `labels` in the notes.
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    palette, figure = theme.DARK if dark else theme.LIGHT, go.Figure()
    names, bars = _bars(statistic)
    for number, name in enumerate(names):
        here = [bar for bar in bars if bar[0] == name]
        figure.add_bar(
            name=name,
            orientation="h",
            y=[number] * len(here),
            base=[start for _, _, start, _ in here],
            x=[end - start for _, _, start, end in here],
            width=THICK,
            customdata=[(label, true_start, true_end) for label, true_start, true_end in _truth(statistic, name)],
            text=[_shown(label, end - start, statistic) for _, label, start, end in here],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": palette.on_accent, "size": 11},
            constraintext="none",
            textangle=0,
            marker={"color": palette.accent, "line": {"width": 1, "color": palette.panel}},
            hovertemplate="%{customdata[0]}<br>%{customdata[1]:.3f} to %{customdata[2]:.3f} s<extra></extra>",
        )
    figure.update_layout(**theme.plotly_layout(palette), barmode="overlay", height=110 + 34 * len(names))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="time since the turn began (s)", rangemode="tozero")
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed")
    return figure


def print_lanes(statistic: Statistic) -> PrintFigure:
    """Draw `lanes` for paper."""
    names, bars = _bars(statistic)
    figure, axes = print_axes(width=7.0, height=0.8 + 0.32 * len(names))
    for number, name in enumerate(names):
        spans = [(start, end - start) for lane, _, start, end in bars if lane == name]
        low = number - THICK / 2
        axes.broken_barh(spans, (low, THICK), facecolor=theme.LIGHT.accent, edgecolor=theme.LIGHT.panel, linewidth=0.5)
        for label, (start, width) in zip((label for lane, label, *_ in bars if lane == name), spans):
            look = {"color": theme.LIGHT.on_accent, "ha": "center", "va": "center", "fontsize": 7}
            axes.text(start + width / 2, number, _shown(label, width, statistic), **look)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="time since the turn began (s)")
    axes.set_xlim(left=0)
    return figure


def clocks(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw how much sound had arrived (steps) and had been heard by each moment; the space between is the reserve.

    Args:
        statistic: `Timeline.clock()`, [clock, time].
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    names, time = _clock_axes(statistic)
    palette, figure = theme.DARK if dark else theme.LIGHT, go.Figure()
    looks = {"arrived": ("hv", "solid", palette.accent), "heard": ("linear", "dash", palette.doubt)}
    for name, values in zip(names.ticks, statistic.values):
        shape, dash, colour = looks[name]
        figure.add_scatter(
            x=time.values,
            y=values,
            name=name,
            mode="lines",
            line={"shape": shape, "dash": dash, "color": colour, "width": 2},
            hovertemplate=f"{name} %{{y:.2f}} s at %{{x:.2f}} s<extra></extra>",
        )
    figure.update_layout(**theme.plotly_layout(palette), height=300)
    figure.update_xaxes(title="time since the turn began (s)", rangemode="tozero")
    figure.update_yaxes(title="seconds of sound", rangemode="tozero")
    return figure


def print_clocks(statistic: Statistic) -> PrintFigure:
    """Draw `clocks` for paper."""
    names, time = _clock_axes(statistic)
    figure, axes = print_axes(width=5.0, height=2.6)
    looks = {"arrived": ("steps-post", "-", theme.LIGHT.accent), "heard": ("default", "--", theme.LIGHT.doubt)}
    for name, values in zip(names.ticks, statistic.values):
        drawn, dash, colour = looks[name]
        axes.plot(time.values, values, label=name, drawstyle=drawn, linestyle=dash, color=colour)
    axes.set(xlabel="time since the turn began (s)", ylabel="seconds of sound")
    axes.legend()
    return figure


def _bars(statistic: Statistic) -> tuple[list[str], list[tuple[str, str, float, float]]]:
    """Return the lanes from top to bottom, and lane, label, start and end of each bar, wide enough to be seen."""
    two_axes(statistic, expected="a Statistic [span, edge]", todo="Draw `Timeline.lanes()`.")
    of_lane, labels = statistic.notes["lanes"], statistic.notes["labels"]
    least = LEAST * max(float(statistic.values.max(initial=0.0)), 1e-3)
    bars = [
        (lane, label, float(start), max(float(end), float(start) + least))
        for lane, label, (start, end) in zip(of_lane, labels, statistic.values)
    ]
    return list(dict.fromkeys(of_lane)), bars


def _shown(label: str, width: float, statistic: Statistic) -> str:
    """Return the label of a bar if it is wide enough for it, else nothing."""
    label = theme.token_label(label)
    return label if len(label) * LETTER * float(statistic.values.max(initial=0.0)) <= width else ""


def _truth(statistic: Statistic, name: str) -> list[tuple[str, float, float]]:
    """Return label, start and end of the spans of a lane as they were."""
    rows = zip(statistic.notes["lanes"], statistic.notes["labels"], statistic.values)
    return [(theme.token_label(label), float(start), float(end)) for lane, label, (start, end) in rows if lane == name]


def _clock_axes(statistic: Statistic) -> tuple:
    return two_axes(statistic, expected="a Statistic [clock, time]", todo="Draw `Timeline.clock()`.")
