"""Files that a page makes when asked: written to a fresh folder, and offered as if a link had been clicked.

A download needs a click of the person's own browser on a link that did not exist before. So the link is a button
that nobody sees, and the page clicks it once the file is there.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from demo.errors import explain
from demo.page import QUIET, Page

CLICK_JS = "() => { setTimeout(() => document.querySelector('#ELEMENT')?.click(), 50); }"


def hidden_link(elem_id: str) -> gr.DownloadButton:
    """Build the link that is clicked by the page."""
    return gr.DownloadButton("⬇", elem_id=elem_id, elem_classes="hidden-download")


def fresh_path(folder: Path, name: str) -> Path:
    """Return a path with this name in a new folder that nobody can guess."""
    target = folder / secrets.token_urlsafe(12)
    target.mkdir(parents=True)
    return target / name


def offer(
    page: Page,
    button: gr.Button,
    link: gr.DownloadButton,
    save: Callable[..., Path],
    inputs: list,
    message: gr.HTML,
    show: Callable[[Any], str],
) -> None:
    """Connect a button with a file.

    Args:
        page: Words and session.
        button: What is clicked.
        link: From `hidden_link`.
        save: `save(folder, texts, *inputs)` writes the file and returns its path.
        inputs: Components.
        message: Where a problem is told.
        show: Turns a `Problem` into the message.
    """

    def saved(request: gr.Request, *values: Any) -> Any:
        texts = page.texts(request)
        try:
            return str(save(Path(link.GRADIO_CACHE), texts, *values)), gr.skip()
        except Exception as error:  # such as a full disk
            return None, show(explain(error, texts))

    done = button.click(saved, inputs, [link, message], **QUIET)
    done.success(None, None, None, js=CLICK_JS.replace("ELEMENT", link.elem_id), **QUIET)
