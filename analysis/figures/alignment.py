"""Pictures of word times: tokens against the sound with the path through it, and the words under the waveform.

Names without a prefix make plotly figures for the app; `print_` ones make matplotlib figures for paper. The figures
read `Alignment.map`, `Alignment.path` and plain word times; how good an alignment is is drawn by
`figures.attention.intervals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.attention import WordTime
from analysis.figures import theme
from analysis.figures.attention import heatmap, print_heatmap
from analysis.figures.occlusion import envelope
from analysis.figures.parts import print_axes
from analysis.statistic import Statistic
from model.audio import Waveform

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

PATH = theme.SERIES[1]
"""Orange, seen on every blue of the map."""


def path_over_map(rows: Statistic, path: Statistic, *, dark: bool = False) -> Figure:
    """Draw attention [query, frame] with the path [query, edge] over it: one level stretch for each token."""
    import plotly.graph_objects as go

    figure = heatmap(rows, dark=dark)
    at, place = _steps(path)
    figure.add_trace(go.Scatter(x=at, y=place, mode="lines", line={"color": PATH, "width": 3}, hoverinfo="skip"))
    figure.update_layout(showlegend=False)
    return figure


def print_path_over_map(rows: Statistic, path: Statistic) -> PrintFigure:
    """Draw `path_over_map` for paper; the frames are numbered by their place."""
    figure = print_heatmap(rows)
    at, place = _steps(path)
    centres = rows.axes[1].values
    columns = np.interp(at, centres, np.arange(len(centres)))
    figure.axes[0].plot(columns, place, color=PATH, linewidth=1.5)
    return figure


def words_over_waveform(
    words: Sequence[WordTime], sound: Waveform, truth: Sequence[WordTime] = (), *, dark: bool = False
) -> Figure:
    """Draw the words where they were found in the sound, and below where they truly are, if that is known."""
    import plotly.graph_objects as go

    palette = theme.DARK if dark else theme.LIGHT
    at, loud = envelope(sound)
    top = float(loud.max(initial=1e-3))
    grey = {"line": {"color": palette.trace, "width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure = go.Figure(
        [
            go.Scatter(x=at, y=-loud / top, **grey),
            go.Scatter(x=at, y=loud / top, fill="tonexty", fillcolor=palette.trace, **grey),
        ]
    )
    for lane, (name, row) in enumerate((("found", words), ("true", truth))):
        for word in row:
            _add_word(figure, word, -1.4 - 0.6 * lane, palette)
        if row:
            note = {"text": name, "x": 0, "xanchor": "left", "y": -1.15 - 0.6 * lane, "showarrow": False}
            figure.add_annotation(**note, font={"color": palette.muted, "size": 10})
    figure.update_layout(**theme.plotly_layout(palette), height=260)
    figure.update_xaxes(title="time (s)", range=[0, sound.duration_s])
    figure.update_yaxes(visible=False, range=[-2.4 if truth else -1.8, 1.05])
    return figure


def print_words_over_waveform(
    words: Sequence[WordTime], sound: Waveform, truth: Sequence[WordTime] = ()
) -> PrintFigure:
    """Draw `words_over_waveform` for paper."""
    figure, axes = print_axes(width=7.0, height=2.2)
    at, loud = envelope(sound)
    top = float(loud.max(initial=1e-3))
    axes.fill_between(at, -loud / top, loud / top, color=theme.LIGHT.trace, linewidth=0)
    for lane, row in enumerate((words, truth)):
        y = -1.4 - 0.6 * lane
        for word in row:
            edges = [word.start_s, word.end_s]
            axes.plot(edges, [y, y], "|-", color=theme.LIGHT.muted if lane else theme.LIGHT.accent, linewidth=1)
            axes.annotate(word.text, (word.centre_s, y + 0.08), ha="center", fontsize=7)
    axes.set(xlabel="time (s)", xlim=(0, sound.duration_s), yticks=[])
    return figure


def _add_word(figure: Figure, word: WordTime, y: float, palette: theme.Palette) -> None:
    box = {"x0": word.start_s, "x1": word.end_s, "y0": y - 0.2, "y1": y + 0.2}
    figure.add_shape(type="rect", **box, line={"color": palette.accent, "width": 1}, fillcolor=palette.panel)
    label = {"text": word.text, "x": word.centre_s, "y": y, "showarrow": False, "font": {"color": palette.text}}
    figure.add_annotation(**label)


def _steps(path: Statistic) -> tuple[list[float], list[float]]:
    """Return the corners of a path: each token's stretch, joined to the next; tokens without a time are left out."""
    timed = [k for k, row in enumerate(path.values) if np.isfinite(row).all()]
    at = [float(edge) for k in timed for edge in path.values[k]]
    return at, [float(k) for k in timed for _ in range(2)]
