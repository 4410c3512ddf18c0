"""Looking inside a run: the linked view in full, the token in hand, and ways to take it along.

Needs no model: a run is a trace, made in this session or opened from a file.
"""

import html
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from analysis.figures.theme import token_label
from analysis.trace import Trace
from demo.audio_turn import run_title
from demo.downloads import fresh_path, hidden_link, offer
from demo.errors import Problem, explain, problem_html
from demo.linked_view import linked_view, payload
from demo.page import AT_ONCE, QUIET, Page
from demo.runs import Run
from demo.texts import Texts
from demo.workbench import Workbench

TAB = "inspect"
TRACE_SUFFIX = ".trace"


@dataclass(frozen=True)
class Frame:
    """What the tab shows at one moment."""

    choices: tuple[tuple[str, str], ...]
    """Title and id of this session's runs, newest first."""
    run: Run | None
    message: str
    """HTML over the view: the run's facts, an empty state, or a problem."""


# --- handlers: plain functions -------------------------------------------------------------------


def show(workbench: Workbench, session: str, run_id: str | None, texts: Texts) -> Frame:
    """Show a run of this session; without an id, the newest one."""
    runs = workbench.runs.owned_by(session)
    choices = tuple((run.title, run.id) for run in runs)
    if not run_id:
        run_id = runs[0].id if runs else None
    if run_id is None:
        return Frame((), None, empty_html(texts))
    run = workbench.runs.get(run_id)
    if run is None or run.owner != session:
        gone = Problem(texts("expired_title"), texts("expired", minutes=f"{workbench.settings.run_minutes:g}"))
        return Frame(choices, None, problem_html(gone))
    return Frame(choices, run, facts_html(run.trace, texts))


def open_file(workbench: Workbench, session: str, path: str | None, texts: Texts) -> Frame:
    """Open a saved trace as a run of this session; a file that is none leaves a sentence."""
    if not path:
        return show(workbench, session, None, texts)
    from analysis.trace_file import load_trace

    try:
        trace = load_trace(path)
        run = workbench.runs.put(Run(session, f"{Path(path).name} · {run_title(trace.reply_text)[11:]}", trace))
    # The border to the page: whatever the file holds, the app goes on.
    except Exception as error:
        frame = show(workbench, session, None, texts)
        return Frame(frame.choices, None, problem_html(explain(error, texts)))
    return show(workbench, session, run.id, texts)


def save_file(workbench: Workbench, session: str, run_id: str | None, kind: str, folder: Path) -> Path:
    """Write a run for taking along.

    Args:
        kind: "trace" for the file that can be opened again, "html" for a page that stands alone.
        folder: Where to write; a fresh folder is made inside.

    Raises:
        FileNotFoundError: If the run is gone.
    """
    run = workbench.runs.get(run_id or "")
    if run is None or run.owner != session:
        raise FileNotFoundError(2, "This run is gone", "run")
    path = fresh_path(folder, file_stem(run) + (TRACE_SUFFIX if kind == "trace" else ".html"))
    if kind == "trace":
        from analysis.trace_file import save_trace

        save_trace(path, run.trace)
    else:
        from analysis.view import standalone_html

        path.write_text(standalone_html(run.trace), encoding="utf-8")
    return path


def file_stem(run: Run) -> str:
    """Name a file after a run, in letters every system accepts."""
    stem = re.sub(r"[^\w\-]+", "-", run.title, flags=re.UNICODE).strip("-")
    return stem[:60] or "run"


def describe_token(workbench: Workbench, session: str, run_id: str, query: object, texts: Texts) -> str:
    """Say as HTML what was measured about one reply token; its number comes from the browser and may be anything."""
    run = workbench.runs.get(str(run_id))
    good = isinstance(query, int) and not isinstance(query, bool)
    if run is None or run.owner != session or not good or not 0 <= query < run.trace.n_reply:
        return token_hint_html(texts)
    return token_html(run.trace, query, texts)


# --- pictures ------------------------------------------------------------------------------------


def empty_html(texts: Texts) -> str:
    """Say what this tab is for while there is nothing in it."""
    items = "".join(f"<li>{html.escape(texts(f'inspect_empty_{i}'))}</li>" for i in (1, 2))
    return f'<div class="empty"><h2>{html.escape(texts("inspect_empty_title"))}</h2><ol>{items}</ol></div>'


def facts_html(trace: Trace, texts: Texts) -> str:
    """Give the size of what was measured, on one line."""
    facts = texts(
        "run_facts",
        n_reply=trace.n_reply,
        n_frames=len(trace.frames),
        n_layers=len(trace.meta.layers),
        n_heads=trace.meta.n_heads,
    )
    model = html.escape(f"{trace.meta.model} {trace.meta.revision}".strip())
    return f'<p class="small run-facts"><b>{model}</b> · {html.escape(facts)}</p>'


def token_hint_html(texts: Texts) -> str:
    """Say how to get token details."""
    return f'<p class="panel small">{html.escape(texts("token_hint"))}</p>'


def token_html(trace: Trace, query: int, texts: Texts) -> str:
    """Lay out one reply token: what it is, how sure the model was, and where it looked."""
    tokens, place = trace.tokens, trace.reply[query]
    rows = [
        (texts("token_kind"), str(tokens.kind[place])),
        (texts("token_id"), str(int(tokens.ids[place]))),
        (texts("token_probability"), _probability(tokens.logprob[place], texts)),
        (texts("token_entropy"), _measured(tokens.entropy[place], "{:.2f} nat", texts)),
    ]
    facts = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in rows)
    shown = html.escape(token_label(tokens.text[place]))
    shares = _shares_html(trace, query, texts)
    about = f'<div><p class="token-big" dir="auto">{shown}</p><dl class="facts">{facts}</dl></div>'
    return f'<div class="panel token">{about}{shares}</div>'


def _shares_html(trace: Trace, query: int, texts: Texts) -> str:
    """Draw how the attention of a reply token is spread over the parts of the prompt."""
    segments = trace.tensors.get("attention.segments")
    if segments is None:
        return ""
    mean = segments[:, :, query].astype("float64").mean(axis=(0, 1))
    bars = "".join(
        f'<span>{html.escape(name)}</span><span class="bar"><i style="width:{100 * share:.1f}%"></i></span>'
        f'<span class="n">{share:.1%}</span>'
        for name, share in sorted(zip(trace.meta.segments, mean), key=lambda pair: -pair[1])
    )
    title, info = html.escape(texts("token_shares")), html.escape(texts("token_shares_info"))
    return (
        f'<div><h3 class="section-title">{title}</h3><div class="shares">{bars}</div><p class="small">{info}</p></div>'
    )


def _probability(logprob: float, texts: Texts) -> str:
    if math.isnan(logprob):
        return texts("not_measured")
    return f"{math.exp(logprob):.1%} (log {logprob:.2f})"


def _measured(value: float, pattern: str, texts: Texts) -> str:
    return texts("not_measured") if math.isnan(value) else pattern.format(value)


# --- the tab -------------------------------------------------------------------------------------


class InspectTab(NamedTuple):
    """Components that other parts of the page connect to."""

    outputs: list
    """What a `Frame` fills, in the order of `updates`."""


def build(page: Page) -> InspectTab:
    """Build the tab inside a `gr.Tab`."""
    label = page.label
    with gr.Row(equal_height=False, elem_classes="inspect-bar"):
        picker = gr.Dropdown(
            [], label=label("run"), container=False, scale=4, min_width=240, visible=False, elem_id="run-picker"
        )
        upload = gr.UploadButton(
            label("upload_trace"), file_types=[TRACE_SUFFIX, ".zip"], size="md", min_width=130, elem_id="open-trace"
        )
        save_trace, save_html = (
            gr.Button(label(key), size="md", min_width=130, visible=False, elem_id=elem_id)
            for key, elem_id in (("download_trace", "save-trace"), ("download_html", "save-html"))
        )
    message = gr.HTML(empty_html(Texts()), apply_default_css=False, elem_id="inspect-message")
    view = linked_view(page.workbench, elem_id="inspect-view")
    details = gr.HTML(visible=False, apply_default_css=False, elem_id="token-details")
    saved = hidden_link("saved-file")
    outputs = [picker, message, view, save_trace, save_html, details]
    _connect(page, outputs, upload)
    _connect_saving(page, picker, message, saved, ((save_trace, "trace"), (save_html, "html")))
    return InspectTab(outputs)


def updates(frame: Frame, texts: Texts) -> list:
    """Return what changes on the page, in the order of `InspectTab.outputs`."""
    there = frame.run is not None
    return [
        gr.update(choices=list(frame.choices), value=frame.run.id if there else None, visible=bool(frame.choices)),
        frame.message,
        payload(frame.run),
        gr.update(visible=there),
        gr.update(visible=there),
        gr.update(visible=there, value=token_hint_html(texts)),
    ]


def _connect(page: Page, outputs: list, upload: gr.UploadButton) -> None:
    workbench, (picker, _, view, *_, details) = page.workbench, outputs

    def pick(run_id: str, session: str, request: gr.Request) -> list:
        texts = page.texts(request)
        return updates(show(workbench, session, run_id, texts), texts)

    def opened(path: str, session: str, request: gr.Request) -> list:
        texts = page.texts(request)
        return updates(open_file(workbench, session, path, texts), texts)

    def chosen(session: str, request: gr.Request, event: gr.EventData) -> str:
        run_id, index = getattr(event, "value", ""), getattr(event, "index", None)
        return describe_token(workbench, session, run_id, index, page.texts(request))

    picker.input(pick, [picker, page.session], outputs, **AT_ONCE)
    upload.upload(opened, [upload, page.session], outputs, **QUIET)
    view.select(chosen, page.session, details, trigger_mode="multiple", **AT_ONCE)


def _connect_saving(page: Page, picker, message, saved, buttons: tuple) -> None:
    for button, kind in buttons:

        def save(folder: Path, texts: Texts, run_id: str, session: str, kind: str = kind) -> Path:
            return save_file(page.workbench, session, run_id, kind, folder)

        offer(page, button, saved, save, [picker, page.session], message, problem_html)
