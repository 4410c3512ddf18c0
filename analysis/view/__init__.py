"""The linked view: one HTML, JS and CSS bundle for the app, notebooks and a standalone file."""

from analysis.view.bundle import iframe_html, script, standalone_html, stylesheet
from analysis.view.payload import layer_payload, view_payload

__all__ = ["iframe_html", "layer_payload", "script", "standalone_html", "stylesheet", "view_payload"]
