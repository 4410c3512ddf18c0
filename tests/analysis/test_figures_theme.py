"""Colours that can be read by everyone, tokens that can be seen."""

from itertools import pairwise

import pytest

from analysis.figures import theme


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_can_be_read_on_every_ground(palette):
    for ground in (palette.ground, palette.panel):
        assert contrast(palette.text, ground) >= 7
        for colour in (palette.muted, palette.accent):
            assert contrast(colour, ground) >= 4.5
        assert contrast(palette.doubt, ground) >= 3
    assert contrast(palette.on_accent, palette.accent) >= 4.5


@pytest.mark.parametrize("ramp", [theme.LIGHT.heat, theme.LIGHT.ink, theme.DARK.heat, theme.DARK.ink])
def test_ramps_change_lightness_all_the_way(ramp):
    """So they read the same in grey, in print and with any colour blindness."""
    steps = [luminance(b) - luminance(a) for a, b in pairwise(ramp)]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


def test_ramps_start_at_the_panel():
    for palette in (theme.LIGHT, theme.DARK):
        assert palette.heat[0] == palette.ink[0] == palette.panel


def test_css_names_every_colour_of_both_themes():
    css = theme.css_variables()
    assert "--lv-light-on-accent: #ffffff;" in css and f"--lv-dark-accent: {theme.DARK.accent};" in css


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" good", "good"),
        ("\n", "↵"),
        ("<|EOT|>", "⟨EOT⟩"),
        ("<audio_12>", "♪12"),
        ("", "·"),
        ("  ", "␣␣"),
        ("<b>x", "<b>x"),
    ],
)
def test_tokens_can_be_seen(text, label):
    assert theme.token_label(text) == label
