"""Picture of a recording's waveform, pitch, loudness and rate above each other. A Prosody in, a figure out.

The plain name makes a plotly figure for the app; `print_` a matplotlib one for paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.parts import print_axes
from analysis.prosody import CEILING_HZ, FLOOR_HZ, Prosody
from model.audio import Waveform

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

LABELS = {"sound": "sound", "pitch": "pitch (Hz)", "loudness": "loudness (dB)", "rate": "rate (per s)", "time": "s"}
"""Names of the lanes, and the unit of the axis they share."""
MAX_POINTS = 1500
"""Points of a curve; longer recordings are thinned out, the waveform as least and greatest value."""
HEIGHT, HEIGHTS = 460, (0.2, 0.32, 0.24, 0.24)
SHOWN_DB = 55.0
"""Range of loudness that is drawn, below the loudest frame."""


def prosody(measured: Prosody, waveform: Waveform, *, dark: bool = False, labels: Mapping[str, str] = LABELS) -> Figure:
    """Draw waveform, pitch, loudness with its nuclei, and rate on one time axis; zooming one zooms all.

    Args:
        measured: What `measure_prosody` returned for the waveform.
        waveform: The recording.
        dark: Use the dark palette.
        labels: Names of the lanes, as in `LABELS`.
    """
    from plotly.subplots import make_subplots

    palette = theme.DARK if dark else theme.LIGHT
    figure = make_subplots(4, 1, shared_xaxes=True, vertical_spacing=0.035, row_heights=HEIGHTS)
    time_s, low, high = envelope(waveform)
    outline = {"line": {"color": palette.trace, "width": 1}, "mode": "lines", "hoverinfo": "skip"}
    figure.add_scatter(x=time_s, y=high, row=1, col=1, **outline)
    figure.add_scatter(x=time_s, y=low, fill="tonexty", row=1, col=1, **outline)
    line = {"color": palette.accent, "width": 2}
    for row, (name, x, y) in enumerate(_lanes(measured), start=2):
        hover = f"%{{x:.2f}} s: %{{y:.1f}}<extra>{labels[name]}</extra>"
        figure.add_scatter(x=x, y=y, mode="lines", line=line, connectgaps=False, hovertemplate=hover, row=row, col=1)
    marks = {"symbol": "circle-open", "size": 6, "color": line["color"]}
    at = np.interp(measured.nuclei_s, measured.time_s, measured.loudness_db)
    figure.add_scatter(x=measured.nuclei_s, y=at, mode="markers", marker=marks, hoverinfo="skip", row=3, col=1)
    _lay_out(figure, measured, palette, labels)
    return figure


def _lanes(measured: Prosody) -> list[tuple[str, np.ndarray, np.ndarray]]:
    every = slice(None, None, max(1, -(-len(measured.time_s) // MAX_POINTS)))
    curves = {"pitch": measured.pitch_hz, "loudness": measured.loudness_db, "rate": measured.rate_per_s}
    return [(name, measured.time_s[every], values[every]) for name, values in curves.items()]


def _lay_out(figure: Figure, measured: Prosody, palette: theme.Palette, labels: Mapping[str, str]) -> None:
    look = theme.plotly_layout(palette)
    axis = look.pop("xaxis")
    del look["yaxis"]
    look["margin"] = {"l": 62, "r": 8, "t": 8, "b": 36}
    figure.update_layout(**look, height=HEIGHT, showlegend=False)
    figure.update_xaxes(**axis, range=[0, measured.duration_s])
    figure.update_xaxes(ticksuffix=f" {labels['time']}", row=4)
    figure.update_yaxes(**axis, fixedrange=True, nticks=4, title_standoff=4, title_font_size=12)
    for row, (name, span) in enumerate(spans(measured).items(), start=1):
        figure.update_yaxes(title_text=labels[name], range=list(span), row=row)
    figure.update_yaxes(showticklabels=False, row=1)


def spans(measured: Prosody) -> dict[str, tuple[float, float]]:
    """Return what each lane shows, from below to above."""
    voiced = measured.pitch_hz[np.isfinite(measured.pitch_hz)]
    low, high = (voiced.min(), voiced.max()) if len(voiced) else (FLOOR_HZ, CEILING_HZ)
    loudest = float(measured.loudness_db.max())
    return {
        "sound": (-1.05, 1.05),
        "pitch": (max(0.0, float(low) - 15), float(high) + 15),
        "loudness": (loudest - SHOWN_DB, loudest + 4),
        "rate": (0.0, max(4.0, float(measured.rate_per_s.max()) * 1.1)),
    }


def envelope(waveform: Waveform) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, least and greatest sample of equal pieces of the sound, scaled so that the largest is 1."""
    samples = waveform.samples
    size = max(1, -(-len(samples) // MAX_POINTS))
    pieces = np.pad(samples, (0, -len(samples) % size), mode="edge").reshape(-1, size)
    peak = max(float(np.abs(samples).max()), 1e-9)
    time_s = (np.arange(len(pieces)) + 0.5) * size / waveform.sample_rate_hz
    return time_s, pieces.min(axis=1) / peak, pieces.max(axis=1) / peak


def print_prosody(measured: Prosody, waveform: Waveform, *, labels: Mapping[str, str] = LABELS) -> PrintFigure:
    """Draw `prosody` for paper."""
    figure, axes = print_axes(width=6.0, height=4.6, rows=4, sharex=True, height_ratios=HEIGHTS)
    time_s, low, high = envelope(waveform)
    axes[0].fill_between(time_s, low, high, color=theme.LIGHT.trace, linewidth=0)
    axes[0].set_yticks([])
    for part, (_, x, y) in zip(axes[1:], _lanes(measured)):
        part.plot(x, y, color=theme.LIGHT.accent, linewidth=1.2)
    at = np.interp(measured.nuclei_s, measured.time_s, measured.loudness_db)
    axes[2].plot(measured.nuclei_s, at, "o", markersize=3, markerfacecolor="none", color=theme.LIGHT.accent)
    for part, (name, span) in zip(axes, spans(measured).items()):
        part.set(ylabel=labels[name], ylim=span)
    axes[-1].set(xlabel=f"time ({labels['time']})", xlim=(0, measured.duration_s))
    return figure
