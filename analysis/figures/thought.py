"""Picture of what each step of a thought rests on: seconds of sound across, steps downwards, the sound itself above.

`evidence` makes a plotly figure for the app, `print_evidence` a matplotlib figure for paper. Of the other numbers about
a thought, step by step maps are drawn by `figures.effects.effect_map`, one value for each step by
`figures.counterfactual.changes`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import theme
from analysis.figures.occlusion import envelope
from analysis.figures.parts import print_axes, two_axes, value_title
from analysis.statistic import Statistic
from model.audio import Waveform

_two_axes = partial(two_axes, expected="a Statistic [step, time]", todo="Draw `Evidence.sound()`.")

if TYPE_CHECKING:
    from matplotlib.figure import Figure as PrintFigure
    from plotly.graph_objects import Figure

LONGEST = 36
"""Characters of a step that are shown."""
WAVE = 0.22
"""Share of the height that the sound takes."""


def evidence(statistic: Statistic, sound: Waveform, *, dark: bool = False) -> Figure:
    """Draw what each step loses without each window; blue where the sound spoke for it, orange where against it.

    Args:
        statistic: `Evidence.sound()`, [step, time]; the verdicts in its notes stand beside the steps.
        sound: The clip.
        dark: Use the dark palette.
    """
    import plotly.graph_objects as go

    steps, time = _two_axes(statistic)
    palette, reach = theme.DARK if dark else theme.LIGHT, _reach(statistic)
    at, loud = envelope(sound)
    quiet = {"line": {"color": palette.trace, "width": 0}, "hoverinfo": "skip", "yaxis": "y2", "showlegend": False}
    figure = go.Figure()
    figure.add_scatter(x=at, y=-loud, **quiet)
    figure.add_scatter(x=at, y=loud, fill="tonexty", fillcolor=palette.trace, **quiet)
    figure.add_heatmap(
        z=np.where(np.isfinite(statistic.values), statistic.values.astype(object), None).tolist(),
        x=time.values,
        y=list(range(len(steps))),
        customdata=np.array([[step] * len(time) for step in steps.ticks], dtype=object),
        colorscale=theme.colour_scale(theme.diverging(palette)),
        zmin=-reach,
        zmax=reach,
        colorbar={"title": {"text": statistic.unit}, "thickness": 10, "outlinewidth": 0, "len": 1 - WAVE, "y": 0.39},
        hovertemplate=f"%{{customdata}}<br>%{{x:.2f}} s<br>%{{z:.3f}} {statistic.unit}<extra></extra>",
    )
    figure.update_layout(**theme.plotly_layout(palette), height=max(260, 160 + 26 * len(steps)))
    figure.update_layout(title={"text": value_title(statistic), "font": {"size": 13}}, margin={"t": 40})
    peak = float(np.abs(loud).max(initial=1e-3))
    figure.update_layout(yaxis2={"domain": [1 - WAVE, 1], "visible": False, "range": [-peak, peak]})
    figure.update_xaxes(title="time (s)", range=[0, sound.duration_s])
    ticks = {"tickvals": list(range(len(steps))), "ticktext": _labels(statistic), "automargin": True}
    figure.update_layout(yaxis={"domain": [0, 1 - WAVE - 0.02], "autorange": "reversed", **ticks})
    return figure


def print_evidence(statistic: Statistic, sound: Waveform) -> PrintFigure:
    """Draw `evidence` for paper."""
    from matplotlib.colors import LinearSegmentedColormap

    steps, time = _two_axes(statistic)
    reach = _reach(statistic)
    shape = {"height_ratios": [1, max(2, 0.8 * len(steps))]}
    figure, (above, axes) = print_axes(
        width=7.0, height=1.6 + 0.26 * len(steps), rows=2, sharex=True, gridspec_kw=shape
    )
    at, loud = envelope(sound)
    above.fill_between(at, -loud, loud, color=theme.LIGHT.trace, linewidth=0)
    above.set_axis_off()
    image = axes.imshow(
        statistic.values,
        aspect="auto",
        interpolation="nearest",
        cmap=LinearSegmentedColormap.from_list("effect", theme.diverging(theme.LIGHT)),
        vmin=-reach,
        vmax=reach,
        extent=(*_edges(time.values), len(steps) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(steps)), _labels(statistic))
    axes.set(xlabel="time (s)", xlim=(0, sound.duration_s))
    figure.colorbar(image, ax=axes, label=value_title(statistic), shrink=0.9)
    return figure


def _labels(statistic: Statistic) -> list[str]:
    """Return the beginning of each step with its verdict."""
    steps = statistic.axes[0].ticks
    verdicts = statistic.notes.get("verdicts") or [""] * len(steps)
    short = [step if len(step) <= LONGEST else step[: LONGEST - 1] + "…" for step in map(theme.token_label, steps)]
    return [f"{step} [{verdict}]" if verdict else step for step, verdict in zip(short, verdicts)]


def _edges(centres: np.ndarray) -> tuple[float, float]:
    """Return where the first window's share of the axis begins and the last one's ends."""
    half = (centres[1] - centres[0]) / 2 if len(centres) > 1 else 0.2
    return float(centres[0] - half), float(centres[-1] + half)


def _reach(statistic: Statistic) -> float:
    return float(np.abs(np.nan_to_num(statistic.values)).max(initial=0.0)) or 1.0
