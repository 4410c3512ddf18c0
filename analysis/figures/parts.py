"""What several pictures share: titles with units, labels that are not too many, and axes in the print style."""

from __future__ import annotations

import functools

from analysis.figures import theme
from analysis.statistic import Axis, Statistic
from model.errors import TraceError

MAX_TICKS = 40
"""More labels than that on an axis are thinned out."""


def value_title(statistic: Statistic) -> str:
    """Return name and unit of the values: `drop (nat)`."""
    return f"{statistic.name} ({statistic.unit})" if statistic.unit else statistic.name


def axis_title(axis: Axis) -> str:
    """Return name and unit of an axis: `time (s)`."""
    return f"{axis.name} ({axis.unit})" if axis.unit else axis.name


def plotly_ticks(axis: Axis, *, by_place: bool = True) -> dict:
    """Label the places of an axis of names; an axis of numbers labels itself."""
    if not by_place:
        return {}
    places = _thinned(axis, MAX_TICKS)
    return {"tickvals": list(places), "ticktext": [theme.token_label(axis.ticks[k]) for k in places]}


def print_ticks(axis: Axis, *, most: int = MAX_TICKS) -> tuple[list[int], list[str]]:
    """Return places and labels for matplotlib, at most so many."""
    places = _thinned(axis, most)
    return list(places), [theme.token_label(axis.ticks[k]) for k in places]


def print_axes(*, width: float, height: float, rows: int = 1, **options) -> tuple:
    """Return a figure that belongs to no window, and its axes, in the print style (sizes in inches)."""
    import matplotlib

    with matplotlib.rc_context(theme.print_style()):
        figure = _print_figure()(figsize=(width, height), layout="constrained")  # nothing is cut off when saved
        return figure, figure.subplots(rows, **options)


@functools.cache
def _print_figure() -> type:
    """Return the class of figures that write every text in the fonts of the print style.

    matplotlib gives a text its fonts when it is made, and most are made after `print_axes` has returned; without the
    second font Chinese would be empty boxes.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import get_font_names
    from matplotlib.text import Text

    here = {"sans-serif", *get_font_names()}
    fonts = [name for name in theme.print_style()["font.family"] if name in here]

    class PrintFigure(Figure):
        """A matplotlib figure, see above."""

        def draw(self, renderer: object) -> None:
            """Draw it."""
            for text in self.findobj(Text):
                text.set_fontfamily(fonts)
            super().draw(renderer)

    return PrintFigure


def colour_map() -> object:
    """Return the theme's ramp from none to most for matplotlib."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("heat", theme.LIGHT.heat)


def _thinned(axis: Axis, most: int) -> range:
    return range(0, len(axis), max(1, -(-len(axis) // most)))


def two_axes(statistic: Statistic, *, expected: str, todo: str) -> tuple[Axis, Axis]:
    """The axes of a statistic that a flat picture can show.

    Raises:
        TraceError: It has another number of axes; `expected` and `todo` end the sentence.
    """
    if len(statistic.axes) != 2:
        found = f"{len(statistic.axes)} axes"
        raise TraceError(f"draw {statistic.name!r}", found=found, expected=expected, todo=todo)
    return statistic.axes
