"""Pictures of what an answer depends on: maps over time and frequency, deletion curves, and the trust meter.

Names without a prefix make plotly figures for the app; `print_` ones make matplotlib figures for paper. Maps by token
are drawn by `figures.attention.heatmap`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import axis_title, colour_map, print_axes, value_title
from analysis.statistic import Statistic
from model.audio import Waveform
from model.errors import TraceError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

MAX_POINTS = 2000
"""Points of a drawn waveform; each is the loudest sample of its stretch."""
DASHES = ("solid", "dash", "dot", "dashdot")
"""Lines are told apart by dashes too, never by colour alone."""


def over_waveform(drop: Statistic, sound: Waveform, *, dark: bool = False) -> Figure:
    """Draw what was lost without each window over the sound itself.

    Args:
        drop: Values over time [time], such as `Occlusion.drop()`; an interval is drawn as a band.
        sound: The clip.
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    time = _axes(drop, "time")[0].values
    palette = theme.DARK if dark else theme.LIGHT
    at, loud = envelope(sound)
    grey = {"color": palette.trace, "width": 0}
    waves = [
        go.Scatter(x=at, y=side, yaxis="y2", line=grey, fill=fill, fillcolor=palette.trace, hoverinfo="skip")
        for side, fill in ((-loud, None), (loud, "tonexty"))
    ]
    line = {"color": palette.accent, "width": 2}
    hover = f"%{{x:.2f}} s<br>%{{y:.3f}} {drop.unit}<extra></extra>"
    curve = go.Scatter(x=time, y=drop.values, line=line, hovertemplate=hover)
    figure = go.Figure([*waves, *_band(drop, time, palette.accent), curve])
    figure.update_layout(**theme.plotly_layout(palette), height=280, showlegend=False)
    limit = float(np.abs(loud).max(initial=1e-3))
    figure.update_layout(yaxis2={"overlaying": None, "visible": False, "range": [-limit, limit]})
    figure.update_layout(yaxis={"title": value_title(drop), "overlaying": "y2", "tickmode": "auto"})
    figure.update_xaxes(title="time (s)", range=[0, sound.duration_s])
    return figure


def print_over_waveform(drop: Statistic, sound: Waveform) -> PrintFigure:
    """Draw `over_waveform` for paper."""
    time = _axes(drop, "time")[0].values
    figure, axes = print_axes(width=7.0, height=2.4)
    behind = axes.twinx()
    at, loud = envelope(sound)
    behind.fill_between(at, -loud, loud, color=theme.LIGHT.line, linewidth=0)
    behind.set_axis_off()
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    if drop.low is not None:
        axes.fill_between(time, drop.low, drop.high, color=theme.LIGHT.accent, alpha=0.2, linewidth=0)
    axes.plot(time, drop.values, color=theme.LIGHT.accent)
    axes.set(xlabel="time (s)", ylabel=value_title(drop), xlim=(0, sound.duration_s))
    return figure


def time_mel(drop: Statistic, *, dark: bool = False) -> Figure:
    """Draw what was lost without each patch of time and frequency, low frequencies at the bottom, [time, band]."""
    import plotly.graph_objects as go

    time, band = _axes(drop, "time", "band")
    palette = theme.DARK if dark else theme.LIGHT
    figure = go.Figure(
        go.Heatmap(
            z=drop.values.T,
            x=time.values,
            y=[f"{hz:.0f}" for hz in band.values],
            colorscale=theme.colour_scale(palette.heat),
            zmin=0,
            colorbar={"title": {"text": drop.unit}, "thickness": 10, "outlinewidth": 0},
            hovertemplate=f"%{{x:.2f}} s, %{{y}} Hz<br>%{{z:.3f}} {drop.unit}<extra></extra>",
        )
    )
    figure.update_layout(**theme.plotly_layout(palette), height=300)
    figure.update_xaxes(title=axis_title(time))
    figure.update_yaxes(title=axis_title(band), type="category")
    return figure


def print_time_mel(drop: Statistic) -> PrintFigure:
    """Draw `time_mel` for paper."""
    time, band = _axes(drop, "time", "band")
    figure, axes = print_axes(width=7.0, height=2.6)
    edges = (float(time.values[0]), float(time.values[-1]), -0.5, len(band) - 0.5)
    image = axes.imshow(
        drop.values.T, origin="lower", aspect="auto", extent=edges, cmap=colour_map(), vmin=0, interpolation="nearest"
    )
    axes.set_yticks(range(len(band)), [f"{hz:.0f}" for hz in band.values])
    axes.set(xlabel=axis_title(time), ylabel=axis_title(band))
    figure.colorbar(image, ax=axes, label=drop.unit, shrink=0.8)
    return figure


def curves(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw deletion or insertion curves, one line for each order, [order, share]; random orders with their interval."""
    import plotly.graph_objects as go

    order, share = _axes(statistic, "order", "share")
    palette = theme.DARK if dark else theme.LIGHT
    lines = []
    for k, name in enumerate(order.ticks):
        colour = theme.SERIES[k % 7]
        one = _row(statistic, k)
        if one.low is not None and not np.array_equal(one.low, one.high):
            lines += _band(one, share.values, colour)
        style = {"color": colour, "dash": DASHES[k % len(DASHES)], "width": 2}
        lines.append(go.Scatter(x=share.values, y=one.values, name=_with_area(statistic, name), line=style))
    figure = go.Figure(lines)
    figure.update_layout(**theme.plotly_layout(palette), height=320)
    figure.update_xaxes(title=_share_title(statistic), tickformat=".0%")
    figure.update_yaxes(title=value_title(statistic))
    return figure


def print_curves(statistic: Statistic) -> PrintFigure:
    """Draw `curves` for paper."""
    order, share = _axes(statistic, "order", "share")
    figure, axes = print_axes(width=4.5, height=3.0)
    styles = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
    for k, name in enumerate(order.ticks):
        one, colour = _row(statistic, k), theme.SERIES[k % 7]
        if one.low is not None:
            axes.fill_between(share.values, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
        style = styles[DASHES[k % len(DASHES)]]
        axes.plot(share.values, one.values, style, color=colour, label=_with_area(statistic, name))
    axes.set(xlabel=_share_title(statistic), ylabel=value_title(statistic))
    axes.legend()
    return figure


def trust_meter(statistic: Statistic, *, dark: bool = False) -> Figure:
    """Draw the trust meter: rank agreement from -1 to 1 with its interval, and the line that chance stays below."""
    import plotly.graph_objects as go

    palette = theme.DARK if dark else theme.LIGHT
    value, chance = float(statistic), float(statistic.notes.get("chance 95 %", 0.0))
    low, high = (value if end is None else float(end) for end in (statistic.low, statistic.high))
    error = {"type": "data", "array": [high - value], "arrayminus": [value - low], "color": palette.accent}
    dot = go.Scatter(
        x=[value], y=[""], mode="markers", marker={"size": 14, "color": palette.accent}, error_x=error,
        hovertemplate="%{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(dot)
    figure.update_layout(**theme.plotly_layout(palette), height=150)
    figure.update_xaxes(title=statistic.name, range=[-1, 1], zeroline=True, zerolinecolor=palette.line)
    figure.add_vline(
        x=chance, line={"color": palette.muted, "dash": "dash"}, annotation_text="chance (95 %)",
        annotation_font_color=palette.muted,
    )  # fmt: skip
    return figure


def print_trust_meter(statistic: Statistic) -> PrintFigure:
    """Draw `trust_meter` for paper."""
    figure, axes = print_axes(width=4.5, height=1.0)
    value = float(statistic)
    if statistic.low is not None:
        axes.plot([float(statistic.low), float(statistic.high)], [0, 0], color=theme.LIGHT.accent)
    axes.plot([value], [0], "o", color=theme.LIGHT.accent)
    chance = float(statistic.notes.get("chance 95 %", 0.0))
    axes.axvline(chance, color=theme.LIGHT.muted, linestyle="--", linewidth=0.8)
    axes.annotate("chance (95 %)", (chance, 0.6), fontsize=7, color=theme.LIGHT.muted)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel=statistic.name, yticks=[])
    return figure


def envelope(sound: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """Return times and loudest samples of a sound, at most MAX_POINTS of them."""
    step = max(1, -(-len(sound.samples) // MAX_POINTS))
    size = np.abs(np.pad(sound.samples, (0, -len(sound.samples) % step))).reshape(-1, step).max(axis=1)
    return (np.arange(len(size)) + 0.5) * step / sound.sample_rate_hz, size


def _band(statistic: Statistic, at: np.ndarray, colour: str) -> list:
    """Return the interval as a shaded band, or nothing."""
    import plotly.graph_objects as go

    if statistic.low is None:
        return []
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    fill = f"rgba({red},{green},{blue},0.18)"
    quiet = {"line": {"width": 0}, "showlegend": False, "hoverinfo": "skip", "mode": "lines"}
    return [
        go.Scatter(x=at, y=statistic.low, **quiet),
        go.Scatter(x=at, y=statistic.high, fill="tonexty", fillcolor=fill, **quiet),
    ]


def _row(statistic: Statistic, k: int) -> Statistic:
    ends = (None, None) if statistic.low is None else (statistic.low[k], statistic.high[k])
    return Statistic(statistic.name, statistic.values[k], statistic.axes[1:], statistic.unit, *ends)


def _with_area(statistic: Statistic, name: str) -> str:
    area = statistic.notes.get("area", {}).get(name)
    return name if area is None else f"{name} (area {area:.2f})"


def _share_title(statistic: Statistic) -> str:
    insertion = statistic.notes.get("mode") == "insertion"
    return "share of the sound given back" if insertion else "share of the sound taken away"


def _axes(statistic: Statistic, *names: str) -> tuple:
    found = tuple(axis.name for axis in statistic.axes)
    if found != names:
        raise TraceError(
            f"draw {statistic.name!r}",
            found=f"axes {list(found)}",
            expected=f"axes {list(names)}",
            todo="Select or average over the others first.",
        )
    return statistic.axes
