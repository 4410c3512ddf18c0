"""What every tab is built from: the workbench, the session, and words in the visitor's language."""

from dataclasses import dataclass

import gradio as gr
from gradio.i18n import I18nData

from demo.texts import WORDS, Texts, columns, language_of
from demo.workbench import Workbench

QUIET = {"show_progress": "hidden", "api_visibility": "private"}
"""Arguments of events that only serve the page: no greying out, no public endpoint."""
AT_ONCE = {**QUIET, "queue": False}
"""... and that are too cheap to wait for anything."""


@dataclass(frozen=True)
class Page:
    """Handed to each tab's `build`."""

    workbench: Workbench
    session: gr.State
    """Holds the session id, nothing else."""

    def label(self, key: str) -> str | I18nData:
        """Return a component's label: fixed by `--lang`, else translated by the browser."""
        if key not in WORDS:  # the browser would show the bare key
            raise KeyError(f"No words for {key!r} in demo/texts.py.")
        lang = self.workbench.settings.lang
        return gr.I18n()(key) if lang == "auto" else Texts(lang)(key)

    def texts(self, request: gr.Request | None) -> Texts:
        """Return the words for whoever sent a request."""
        asked = None if request is None else request.headers.get("accept-language")
        return Texts(language_of(self.workbench.settings.lang, asked))


def translations() -> gr.I18n:
    """Return the interface's words as the browser's translation table."""
    words = columns()
    return gr.I18n(**words, **{"zh-CN": words["zh"], "zh-TW": words["zh"]})
