"""The only home of colours, and of how a token is written down.

Two palettes, light and dark, made of greys and a single accent; a second hue marks doubt and nothing else. Blue and
orange are told apart with every common colour blindness, ramps change lightness all the way, and nothing is said by
colour alone. Figures, the linked view (through CSS variables) and the app take their colours from here.

Source: Okabe and Ito (2008) for the series of categories.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c", "#000000")
"""Categories, told apart with every common colour blindness."""


@dataclass(frozen=True)
class Palette:
    """Colours of one theme, as `#rrggbb`."""

    text: str
    """Words and numbers."""
    muted: str
    """Words that can wait: axes, hints."""
    line: str
    """Borders and grids."""
    trace: str
    """The waveform: a grey that lets the accent stand out."""
    panel: str
    """Ground of the plots; the low end of both ramps."""
    ground: str
    """Ground of the page."""
    accent: str
    """What is selected, and what the model looks at."""
    on_accent: str
    """Text on the accent."""
    doubt: str
    """Tokens the model was not sure of."""
    heat: tuple[str, ...]
    """Attention from none to most."""
    ink: tuple[str, ...]
    """Loudness from none to most."""


LIGHT = Palette(
    text="#1c2430",
    muted="#5d6877",
    line="#d9dee5",
    trace="#95a0ae",
    panel="#f7f9fb",
    ground="#ffffff",
    accent="#1769b5",
    on_accent="#ffffff",
    doubt="#c2570c",
    heat=("#f7f9fb", "#d3e4f3", "#9cc6e7", "#5a9fd4", "#2473b7", "#0e4a86", "#072a52"),
    ink=("#f7f9fb", "#d5dae1", "#a4adb9", "#6d7887", "#3a4453"),
)
DARK = Palette(
    text="#e6eaf0",
    muted="#9aa5b4",
    line="#313a46",
    trace="#6f7b8a",
    panel="#13181f",
    ground="#0b0f14",
    accent="#6db3f2",
    on_accent="#08121c",
    doubt="#f2a154",
    heat=("#13181f", "#173250", "#1d5183", "#2d79b9", "#5fa7de", "#a6d1f3", "#eff7fe"),
    ink=("#13181f", "#2a323d", "#4d5866", "#808c9b", "#c2cad5"),
)


def css_variables() -> str:
    """Return both palettes as CSS declarations for the linked view: `--lv-light-accent: #1769b5; ...`."""
    lines = []
    for name, palette in (("light", LIGHT), ("dark", DARK)):
        for field in fields(Palette):
            value = getattr(palette, field.name)
            text = value if isinstance(value, str) else ", ".join(value)
            lines.append(f"--lv-{name}-{field.name.replace('_', '-')}: {text};")
    return "\n".join(lines)


def colour_scale(colours: tuple[str, ...]) -> list[tuple[float, str]]:
    """Return a ramp the way plotly wants it: evenly spaced (position, colour)."""
    return [(place / (len(colours) - 1), colour) for place, colour in enumerate(colours)]


def diverging(palette: Palette) -> tuple[str, ...]:
    """Return a ramp from loss through nothing to gain; orange and blue, so that the sides can be told apart."""
    return palette.doubt, palette.panel, palette.accent


def plotly_layout(palette: Palette) -> dict[str, Any]:
    """Return the layout that all plotly figures share: quiet axes, no background of their own."""
    axis = {"gridcolor": palette.line, "linecolor": palette.line, "zeroline": False, "tickcolor": palette.line}
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": palette.panel,
        "font": {"color": palette.text, "family": "system-ui, sans-serif", "size": 13},
        "colorway": list(SERIES),
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "xaxis": axis,
        "yaxis": axis,
        "hoverlabel": {"bgcolor": palette.ground, "font": {"color": palette.text}, "bordercolor": palette.line},
    }


def print_style(palette: Palette = LIGHT) -> dict[str, Any]:
    """Return matplotlib settings for figures that will be printed, for `matplotlib.rc_context`."""
    return {
        "figure.dpi": 150,
        "savefig.bbox": "tight",
        "figure.facecolor": palette.ground,
        "axes.facecolor": palette.panel,
        "axes.edgecolor": palette.line,
        "axes.labelcolor": palette.text,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "font.family": ["DejaVu Sans", "Noto Sans CJK SC", "sans-serif"],
        "text.color": palette.text,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "legend.frameon": False,
    }


_CODE = re.compile(r"<audio_(\d+)>")
_CONTROL = re.compile(r"<\|?([A-Za-z_]+)\|?>")


def token_label(text: str) -> str:
    """Write a token so that it can be seen: spaces, line ends, control tokens and codes included.

    >>> [token_label(t) for t in (" good", "\\n", "<|EOT|>", "<audio_12>", "", "  ")]
    ['good', '↵', '⟨EOT⟩', '♪12', '·', '␣␣']
    """
    code, control = _CODE.fullmatch(text), _CONTROL.fullmatch(text)
    if code:
        return f"♪{code[1]}"
    if control:
        return f"⟨{control[1]}⟩"
    if not text:
        return "·"
    return text.strip().replace("\n", "↵") or text.replace("\n", "↵").replace(" ", "␣").replace("\t", "⇥")
