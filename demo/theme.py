"""How the app looks: a calm instrument. One type scale, one accent, light and dark, no font fetched.

Colours are those of `analysis/figures/theme.py`, so that the page and what it shows agree. Here they
become gradio's theme variables; `assets/app.css` uses those variables and adds the layout. What
gradio 6 takes at launch rather than at build is gathered in `launch_look`.
"""

import json
from pathlib import Path

import gradio as gr

from analysis.figures.theme import DARK, LIGHT, SERIES
from analysis.view import script, stylesheet

ASSETS = Path(__file__).parent / "assets"

SANS = (
    "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "PingFang SC", "Microsoft YaHei",
    "Noto Sans CJK SC", "sans-serif",
)  # fmt: skip
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

ACCENT = gr.themes.Color(
    name="accent", c50=LIGHT.panel, c100=LIGHT.heat[1], c200=LIGHT.heat[2], c300=DARK.heat[5], c400=DARK.accent,
    c500=LIGHT.heat[3], c600=LIGHT.heat[4], c700=LIGHT.accent, c800=LIGHT.heat[5], c900=LIGHT.heat[6],
    c950=DARK.on_accent,
)  # fmt: skip
NEUTRAL = gr.themes.Color(
    name="grey", c50=LIGHT.ground, c100=LIGHT.panel, c200=LIGHT.line, c300=LIGHT.ink[1], c400=LIGHT.ink[2],
    c500=DARK.ink[3], c600=LIGHT.muted, c700=DARK.ink[2], c800=DARK.ink[1], c900=DARK.panel, c950=DARK.ground,
)  # fmt: skip
PROBLEM = SERIES[5]
"""Marks problems and warnings."""
TYPE = gr.themes.Size(name="scale", xxs="11px", xs="12px", sm="13px", md="15px", lg="17px", xl="20px", xxl="28px")
SPACE = gr.themes.Size(name="space", xxs="2px", xs="4px", sm="6px", md="8px", lg="12px", xl="16px", xxl="24px")
ROUND = gr.themes.Size(name="round", xxs="2px", xs="3px", sm="4px", md="6px", lg="8px", xl="10px", xxl="14px")


def theme() -> gr.themes.Base:
    """Return the theme: flat surfaces, hairlines, one accent."""
    base = gr.themes.Base(
        primary_hue=ACCENT, secondary_hue=ACCENT, neutral_hue=NEUTRAL,
        text_size=TYPE, spacing_size=SPACE, radius_size=ROUND, font=SANS, font_mono=MONO,
    )  # fmt: skip
    return base.set(**_surfaces(), **_controls())


def _both(**pairs: tuple[str, str]) -> dict[str, str]:
    """Write each (light, dark) pair as gradio's two variables."""
    light = {name: pair[0] for name, pair in pairs.items()}
    return light | {f"{name}_dark": pair[1] for name, pair in pairs.items()}


def _surfaces() -> dict[str, str]:
    muted = (LIGHT.muted, DARK.muted)
    return {
        **_both(
            body_background_fill=(LIGHT.ground, DARK.ground),
            body_text_color=(LIGHT.text, DARK.text),
            body_text_color_subdued=muted,
            background_fill_primary=(LIGHT.ground, DARK.ground),
            background_fill_secondary=(LIGHT.panel, DARK.panel),
            block_background_fill=(LIGHT.ground, DARK.ground),
            block_label_background_fill=("transparent", "transparent"),
            block_label_text_color=muted,
            block_title_text_color=muted,
            block_info_text_color=muted,
            border_color_primary=(LIGHT.line, DARK.line),
            border_color_accent=(LIGHT.accent, DARK.accent),
            color_accent_soft=(LIGHT.heat[1], DARK.heat[1]),
            link_text_color=(LIGHT.accent, DARK.accent),
            link_text_color_hover=(LIGHT.heat[5], DARK.heat[5]),
            link_text_color_active=(LIGHT.heat[5], DARK.heat[5]),
            link_text_color_visited=(LIGHT.accent, DARK.accent),
            loader_color=(LIGHT.accent, DARK.accent),
        ),
        "color_accent": LIGHT.accent,
        "block_border_width": "1px",
        "block_label_border_width": "0px",
        "block_label_text_size": "*text_sm",
        "block_label_text_weight": "500",
        "block_title_text_size": "*text_sm",
        "block_title_text_weight": "500",
        "block_shadow": "none",
        "block_radius": "*radius_lg",
        "layout_gap": "*spacing_xl",
    }


def _controls() -> dict[str, str]:
    edge = (LIGHT.ink[1], DARK.ink[2])
    none = ("transparent", "transparent")
    return {
        **_both(
            input_background_fill=(LIGHT.ground, DARK.panel),
            input_border_color=edge,
            input_border_color_focus=(LIGHT.accent, DARK.accent),
            button_primary_background_fill=(LIGHT.accent, DARK.accent),
            button_primary_background_fill_hover=(LIGHT.heat[5], DARK.heat[5]),
            button_primary_text_color=(LIGHT.on_accent, DARK.on_accent),
            button_primary_text_color_hover=(LIGHT.on_accent, DARK.on_accent),
            button_primary_border_color=none,
            button_primary_border_color_hover=none,
            button_secondary_background_fill=(LIGHT.ground, DARK.panel),
            button_secondary_background_fill_hover=(LIGHT.panel, DARK.ink[1]),
            button_secondary_border_color=edge,
            button_secondary_border_color_hover=edge,
            button_secondary_text_color=(LIGHT.text, DARK.text),
            button_secondary_text_color_hover=(LIGHT.text, DARK.text),
            checkbox_background_color_selected=(LIGHT.accent, LIGHT.accent),
            checkbox_border_color_selected=(LIGHT.accent, LIGHT.accent),
        ),
        "input_border_width": "1px",
        "button_border_width": "1px",
        "button_transition": "background-color .12s, border-color .12s, color .12s",
        "button_large_text_size": "*text_md",
        "button_large_text_weight": "600",
        "button_large_radius": "*radius_lg",
        "button_medium_text_size": "*text_md",
        "button_medium_text_weight": "500",
        "button_medium_radius": "*radius_md",
        "button_small_text_size": "*text_sm",
        "button_small_text_weight": "500",
        "button_small_radius": "*radius_md",
    }


def waveform_look(sample_rate_hz: int) -> gr.WaveformOptions:
    """Return how recorders draw and record; browsers record at 44.1 kHz unless told otherwise."""
    return gr.WaveformOptions(
        waveform_color=NEUTRAL.c400, waveform_progress_color=ACCENT.c600, trim_region_color=ACCENT.c500,
        sample_rate=sample_rate_hz,
    )  # fmt: skip


def launch_look(lang: str) -> dict[str, object]:
    """Return the arguments of `Blocks.launch` that decide how the page looks, for a `--lang`."""
    return {"theme": theme(), "css": (ASSETS / "app.css").read_text(encoding="utf-8"), "head": head(lang)}


def head(lang: str) -> str:
    """Return what goes into the page's head, before anything is drawn or recorded.

    The linked view's bundle stands here once for all tabs, and as it is: gradio rewrites the
    selectors of what it is given as `css`.
    """
    colours = (
        f":root {{ --accent: {LIGHT.accent}; --problem: {PROBLEM}; }}\n"
        f":root.dark, .dark {{ --accent: {DARK.accent}; }}\n"
        f".dark .gradio-container {{ --color-accent: {DARK.accent}; }}"  # gradio has one for both
    )
    language, player_look, microphone, player = (
        (ASSETS / name).read_text(encoding="utf-8")
        for name in ("language.css", "player.css", "raw_microphone.js", "player.js")
    )
    # Said to screen readers, and to the style sheet for the few words that gradio does not translate.
    chosen = "navigator.language.slice(0, 2)" if lang == "auto" else json.dumps(lang)
    speak = f"document.documentElement.lang = {chosen} === 'zh' ? 'zh' : 'en';"
    styles = "\n".join((colours, language, player_look, stylesheet()))
    scripts = "\n".join((microphone, speak, player, script()))
    return f"<style>{styles}</style>\n<script>{scripts}</script>"
