"""Put the linked view together: its script, its style sheet, and a page that stands alone.

There is no build step. The scripts are written as a few plain files that share one closure; they are joined here in
order and give two global names, `LinkedView` and the smaller `SpokenView`. The style sheet is `view.css` behind the
colours of the theme. Neither asks the network for anything.
"""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.figures.theme import DARK, LIGHT, css_variables
from analysis.trace import Trace
from analysis.view.payload import layer_payload, view_payload

FOLDER = Path(__file__).parent
SCRIPT_PARTS = (
    *("data.js", "timescale.js", "paint.js", "player.js", "strip.js", "panel.js", "plot.js", "view.js"),
    "spoken.js",
)
"""In the order they must be defined."""


@functools.cache
def script() -> str:
    """Return the script; running it defines `globalThis.LinkedView` and `globalThis.SpokenView`."""
    parts = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPT_PARTS)
    names = "LinkedView = { mount, labels: LABELS }", "SpokenView = { mount: mountSpoken, labels: SPOKEN_LABELS }"
    given = "\n".join(f"globalThis.{name};" for name in names)
    return f'(() => {{\n"use strict";\n{parts}\n{given}\n}})();\n'


@functools.cache
def stylesheet() -> str:
    """Return the style sheet; all of it concerns elements inside `.lv` only."""
    return f".lv {{\n{css_variables()}\n}}\n" + (FOLDER / "view.css").read_text(encoding="utf-8")


def standalone_html(trace: Trace, *, title: str = "", labels: Mapping[str, str] | None = None) -> str:
    """Return one HTML page that shows the trace in any browser, offline, with all layers inside.

    Args:
        trace: What to show.
        title: Heading of the page; the model's name by default.
        labels: Words of the view in another language, by key.
    """
    payload = view_payload(trace, title=title)
    payload["matrices"] = {str(layer): layer_payload(trace, layer) for layer in payload["layers"]}
    return PAGE.format(
        title=html.escape(payload["title"]),
        style=stylesheet(),
        script=script(),
        payload=_for_script(payload),
        labels=_for_script(dict(labels or {})),
        light=LIGHT.ground,
        dark=DARK.ground,
    )


def iframe_html(trace: Trace, *, height: int = 620, **options: Any) -> str:
    """Return the same page in a frame of its own, for a notebook cell: `HTML(iframe_html(trace))`.

    Args:
        trace: What to show.
        height: Of the frame, in pixels.
        options: As for `standalone_html`.
    """
    page = html.escape(standalone_html(trace, **options))
    style = f"width: 100%; height: {height}px; border: 0"
    return f'<iframe title="linked view" sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


def _for_script(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; media-src data: blob:; img-src data:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; padding: clamp(12px, 3vw, 32px); font: 15px/1.5 system-ui, sans-serif; background: {light}; }}
@media (prefers-color-scheme: dark) {{ body {{ background: {dark}; }} }}
{style}
</style>
</head>
<body>
<main><div id="view"></div></main>
<script>
{script}
LinkedView.mount(document.getElementById("view"), {payload}, {{ labels: {labels} }});
</script>
</body>
</html>
"""
