"""How the app looks: a calm instrument. One type scale, one accent, light and dark, no font fetched.

The values here become gradio's theme variables; `assets/app.css` uses those variables and adds
the layout. What gradio 6 takes at launch rather than at build is gathered in `launch_look`.
"""

from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parent / "assets"

SANS = (
    "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "PingFang SC", "Microsoft YaHei",
    "Noto Sans CJK SC", "sans-serif",
)  # fmt: skip
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

ACCENT = gr.themes.Color(
    name="teal", c50="#f0fdfa", c100="#ccfbf1", c200="#99f6e4", c300="#5eead4", c400="#2dd4bf", c500="#14b8a6",
    c600="#0d9488", c700="#0f766e", c800="#115e59", c900="#134e4a", c950="#042f2e",
)  # fmt: skip
NEUTRAL = gr.themes.Color(
    name="stone", c50="#fafaf9", c100="#f4f4f2", c200="#e6e5e2", c300="#d5d3ce", c400="#a5a19a", c500="#75716b",
    c600="#5a5650", c700="#403d39", c800="#282624", c900="#1b1a18", c950="#121110",
)  # fmt: skip
TYPE = gr.themes.Size(
    name="scale", xxs="11px", xs="12px", sm="13px", md="15px", lg="17px", xl="20px", xxl="28px"
)
SPACE = gr.themes.Size(
    name="space", xxs="2px", xs="4px", sm="6px", md="8px", lg="12px", xl="16px", xxl="24px"
)
ROUND = gr.themes.Size(
    name="round", xxs="2px", xs="3px", sm="4px", md="6px", lg="8px", xl="10px", xxl="14px"
)


def theme() -> gr.themes.Base:
    """Return the theme: flat surfaces, hairlines, one accent."""
    base = gr.themes.Base(
        primary_hue=ACCENT, secondary_hue=ACCENT, neutral_hue=NEUTRAL,
        text_size=TYPE, spacing_size=SPACE, radius_size=ROUND, font=SANS, font_mono=MONO,
    )  # fmt: skip
    return base.set(**_surfaces(), **_controls())


def _surfaces() -> dict[str, str]:
    return {
        "body_background_fill": "*neutral_50",
        "body_background_fill_dark": "*neutral_950",
        "body_text_color": "*neutral_900",
        "body_text_color_dark": "#ebe9e5",
        "body_text_color_subdued": "*neutral_600",
        "body_text_color_subdued_dark": "#a9a59e",
        "background_fill_primary": "#ffffff",
        "background_fill_primary_dark": "*neutral_900",
        "background_fill_secondary": "*neutral_100",
        "background_fill_secondary_dark": "*neutral_800",
        "border_color_primary": "*neutral_200",
        "border_color_primary_dark": "#34322f",
        "border_color_accent": "*primary_700",
        "border_color_accent_dark": "*primary_400",
        "color_accent": "*primary_700",
        "color_accent_soft": "*primary_50",
        "color_accent_soft_dark": "#10302d",
        "link_text_color": "*primary_700",
        "link_text_color_dark": "*primary_300",
        "link_text_color_hover": "*primary_800",
        "link_text_color_hover_dark": "*primary_200",
        "link_text_color_visited": "*primary_700",
        "link_text_color_visited_dark": "*primary_300",
        "block_background_fill": "*background_fill_primary",
        "block_background_fill_dark": "*background_fill_primary",
        "block_border_width": "1px",
        "block_border_color": "*border_color_primary",
        "block_shadow": "none",
        "block_radius": "*radius_lg",
        "block_label_background_fill": "transparent",
        "block_label_background_fill_dark": "transparent",
        "block_label_border_width": "0px",
        "block_label_text_color": "*body_text_color_subdued",
        "block_label_text_color_dark": "*body_text_color_subdued",
        "block_label_text_size": "*text_sm",
        "block_title_text_color": "*body_text_color_subdued",
        "block_title_text_color_dark": "*body_text_color_subdued",
        "block_title_text_size": "*text_sm",
        "block_title_text_weight": "500",
        "block_label_text_weight": "500",
        "layout_gap": "*spacing_xl",
        "loader_color": "*primary_600",
        "loader_color_dark": "*primary_400",
    }


def _controls() -> dict[str, str]:
    return {
        "input_background_fill": "*background_fill_primary",
        "input_background_fill_dark": "*neutral_800",
        "input_border_color": "*neutral_300",
        "input_border_color_dark": "#45423e",
        "input_border_color_focus": "*primary_600",
        "input_border_color_focus_dark": "*primary_400",
        "input_border_width": "1px",
        "button_transition": "background-color .12s, border-color .12s, color .12s",
        "button_large_text_weight": "600",
        "button_medium_text_weight": "500",
        "button_small_text_weight": "500",
        "button_large_text_size": "*text_md",
        "button_medium_text_size": "*text_md",
        "button_small_text_size": "*text_sm",
        "button_large_radius": "*radius_lg",
        "button_medium_radius": "*radius_md",
        "button_small_radius": "*radius_md",
        "button_border_width": "1px",
        "button_primary_background_fill": "*primary_700",
        "button_primary_background_fill_hover": "*primary_800",
        "button_primary_background_fill_dark": "*primary_400",
        "button_primary_background_fill_hover_dark": "*primary_300",
        "button_primary_text_color": "#ffffff",
        "button_primary_text_color_dark": "*primary_950",
        "button_primary_text_color_hover": "#ffffff",
        "button_primary_text_color_hover_dark": "*primary_950",
        "button_primary_border_color": "transparent",
        "button_primary_border_color_dark": "transparent",
        "button_secondary_background_fill": "*background_fill_primary",
        "button_secondary_background_fill_hover": "*neutral_100",
        "button_secondary_background_fill_dark": "*background_fill_primary",
        "button_secondary_background_fill_hover_dark": "*neutral_800",
        "button_secondary_border_color": "*neutral_300",
        "button_secondary_border_color_dark": "#45423e",
        "button_secondary_text_color": "*body_text_color",
        "button_secondary_text_color_dark": "*body_text_color",
        "checkbox_background_color_selected": "*primary_700",
        "checkbox_background_color_selected_dark": "*primary_600",
        "checkbox_border_color_selected": "*primary_700",
        "checkbox_border_color_selected_dark": "*primary_600",
    }


def waveform_look(sample_rate_hz: int) -> gr.WaveformOptions:
    """Return how recorders draw and record; browsers record at 44.1 kHz unless told otherwise."""
    return gr.WaveformOptions(
        waveform_color=NEUTRAL.c400, waveform_progress_color=ACCENT.c600, trim_region_color=ACCENT.c500,
        sample_rate=sample_rate_hz,
    )  # fmt: skip


def launch_look() -> dict[str, object]:
    """Return the arguments of `Blocks.launch` that decide how the page looks."""
    return {
        "theme": theme(),
        "css": (ASSETS / "app.css").read_text(encoding="utf-8"),
        "head": head(),
    }


def head() -> str:
    """Return what goes into the page's head: the raw-microphone switch, before anything records."""
    script = (ASSETS / "raw_microphone.js").read_text(encoding="utf-8")
    return f"<script>{script}</script>"
