"""The strip on top of the page: which model, where it runs, and how far its loading is."""

import html
from typing import NamedTuple

import gradio as gr

from demo.errors import explain, problem_html
from demo.page import AT_ONCE, Page
from demo.texts import Texts
from demo.workbench import STAGES, Loading, ModelFacts, Workbench, shown_name

TICK_S = 0.5
MARK = (
    '<svg class="mark" viewBox="0 0 26 20" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.4" '
    'stroke-linecap="round"><path d="M2 8v4M7.5 4v12M13 7v6M18.5 2v16M24 8v4"/></svg>'
)


def strip_html(loading: Loading, model: str, texts: Texts) -> str:
    """Draw the strip; all names are escaped."""
    title = f"<h1>{MARK}{html.escape(texts('title'))}</h1>"
    bar = '<div class="strip-bar idle"></div>'
    rest = ""
    if loading.phase == "ready" and loading.facts is not None:
        state = _ready_html(loading.facts, texts)
        rest = _banner_html(texts) if loading.facts.is_scripted else ""
    elif loading.phase == "failed" and loading.error is not None:
        state = f'<span class="state">{html.escape(texts("model_failed"))}</span>'
        problem, goes_on = problem_html(explain(loading.error, texts)), html.escape(texts("model_failed_rest"))
        rest = f'<div class="strip-problem">{problem}<p class="small">{goes_on}</p></div>'
    else:
        state = f'<span class="state">{html.escape(_loading_words(loading, model, texts))}</span>'
        bar = _bar_html(loading, texts("model_loading", name=shown_name(model)))
    model_part = f'<div class="model">{state}</div>'
    return f'<header class="strip" data-phase="{loading.phase}">{title}{model_part}</header>{bar}{rest}'


def _loading_words(loading: Loading, model: str, texts: Texts) -> str:
    parts = [texts("model_loading", name=shown_name(model))]
    if loading.stage in STAGES:
        parts.append(texts(f"stage_{loading.stage}"))
    if loading.seconds >= 1:
        parts.append(texts("seconds", n=f"{loading.seconds:.0f}"))
    return " · ".join(parts)


def _bar_html(loading: Loading, label: str) -> str:
    """Draw the progress; starting the libraries tells no share, so there the bar wanders."""
    percent = round(100 * loading.share)
    value = f'aria-valuenow="{percent}"' if percent else ""
    # The bar is drawn anew with every tick: the delay lets its movement go on where it was.
    style = f"width:{percent}%" if percent else f"animation-delay:{-loading.seconds:.2f}s"
    return (
        f'<div class="strip-bar {"" if percent else "wanders"}" role="progressbar" aria-label="{html.escape(label)}" '
        f'aria-valuemin="0" aria-valuemax="100" {value}><i style="{style}"></i></div>'
    )


def _ready_html(facts: ModelFacts, texts: Texts) -> str:
    details = [facts.device, facts.dtype]
    if facts.n_parameters:
        details.append(texts("parameters", n=count(facts.n_parameters)))
    shown = "".join(f"<span>{html.escape(detail)}</span>" for detail in details if detail)
    return f'<b>{html.escape(facts.name)}</b>{shown}<span class="state">{html.escape(texts("model_ready"))}</span>'


def _banner_html(texts: Texts) -> str:
    return (
        f'<div class="banner" role="alert"><b>{html.escape(texts("scripted_title"))}</b> '
        f"{html.escape(texts('scripted'))}</div>"
    )


def count(number: int) -> str:
    """Write a large number for reading: 8.3 B, 12.4 M, 950 k."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)


def is_settled(workbench: Workbench) -> bool:
    """Return True once the model is there, or is known not to come."""
    return workbench.loading.phase in ("ready", "failed")


class Header(NamedTuple):
    """The components that `ui.py` fills when a page opens."""

    strip: gr.HTML
    timer: gr.Timer


def build(page: Page) -> Header:
    """Build the strip and the timer that follows the loading until it is settled."""
    workbench = page.workbench
    strip = gr.HTML(
        strip_html(workbench.loading, workbench.settings.model, Texts()), apply_default_css=False, elem_id="strip"
    )
    timer = gr.Timer(TICK_S)

    def follow(request: gr.Request) -> tuple[str, gr.Timer]:
        settled = is_settled(workbench)  # asked first, so that the last picture is the settled one
        shown = strip_html(workbench.loading, workbench.settings.model, page.texts(request))
        return shown, gr.Timer(active=not settled)

    timer.tick(follow, None, [strip, timer], **AT_ONCE)
    return Header(strip, timer)
