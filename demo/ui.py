"""The page: a header strip, the tabs, and what connects them. Reads as a table of contents."""

from functools import partial
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from demo import header
from demo.audio_input import share_raw_microphone
from demo.errors import NO_SPACE, explain
from demo.page import AT_ONCE, Page, translations
from demo.session import new_session
from demo.settings import Settings
from demo.tabs import about, asr, inspect
from demo.texts import Texts, language_of
from demo.theme import launch_look
from demo.transcript import Transcript, transcript_html
from demo.workbench import Workbench

UPLOADS_KEPT_S = 3600
QUEUE_LENGTH = 16


def build(workbench: Workbench) -> gr.Blocks:
    """Build the page around a workbench; nothing is launched and no model is needed."""
    with gr.Blocks(
        title=Texts()("title"), analytics_enabled=False, fill_width=True,
        delete_cache=(UPLOADS_KEPT_S, UPLOADS_KEPT_S),
    ) as demo:  # fmt: skip
        page = Page(workbench, _session_state())
        top = header.build(page)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab(page.label("tab_asr"), id=asr.TAB):
                asr_tab = asr.build(page)
            with gr.Tab(page.label("tab_inspect"), id=inspect.TAB) as inspect_item:
                inspect_tab = inspect.build(page)
            with gr.Tab(page.label("tab_about"), id=about.TAB) as about_item:
                about_outputs = about.build(page)
        _open_page(demo, page, top, asr_tab)
        _connect_tabs(page, tabs, asr_tab, inspect_item, inspect_tab)
        about.connect(page, about_item, about_outputs)
        _close_page(demo, workbench)
    return demo


def _session_state() -> gr.State:
    """Return the state that holds each visitor's session id, made when it is first asked for."""
    state = gr.State(new_session)
    # gradio would also set it anew by a public event some time after the page has opened.
    state.load_event_to_attach = None
    return state


def _open_page(demo: gr.Blocks, page: Page, top: header.Header, asr_tab: asr.AsrTab) -> None:
    """Fill, for whoever opens the page, what depends on the moment and the language."""
    workbench = page.workbench

    def opened(session: str, request: gr.Request) -> list:
        workbench.sessions.remember(request.session_hash, session)
        texts = page.texts(request)
        settled = header.is_settled(workbench)
        strip = header.strip_html(workbench.loading, workbench.settings.model, texts)
        return [strip, gr.Timer(active=not settled), transcript_html(Transcript(), texts)]

    demo.load(opened, page.session, [top.strip, top.timer, asr_tab.panel], **AT_ONCE)
    share_raw_microphone(demo, [asr_tab.raw_microphone])


def _connect_tabs(
    page: Page, tabs: gr.Tabs, asr_tab: asr.AsrTab, inspect_item: gr.Tab, inspect_tab: inspect.InspectTab
) -> None:
    """Open the run on show in Inspect; and give Inspect the latest runs when it is opened by hand."""
    workbench = page.workbench

    def jump(run_id: str | None, session: str, request: gr.Request) -> list:
        texts = page.texts(request)
        frame = inspect.show(workbench, session, run_id, texts)
        return [gr.Tabs(selected=inspect.TAB), *inspect.updates(frame, texts)]

    def visit(run_id: str | None, session: str, request: gr.Request) -> list:
        texts = page.texts(request)
        return inspect.updates(inspect.show(workbench, session, run_id, texts), texts)

    asr_tab.run.open_button.click(jump, [asr_tab.run.run_id, page.session], [tabs, *inspect_tab.outputs], **AT_ONCE)
    picker = inspect_tab.outputs[0]
    inspect_item.select(visit, [picker, page.session], inspect_tab.outputs, **AT_ONCE)


def _close_page(demo: gr.Blocks, workbench: Workbench) -> None:
    def closed(request: gr.Request) -> None:
        workbench.close_connection(request.session_hash)

    demo.unload(closed)


def upload_failed(lang: str, request: Request, error: OSError) -> PlainTextResponse:
    """Answer an upload that the disk refused; the page shows this text as a message.

    What a broken upload leaves in the upload folder would keep the disk full, so it is removed.
    """
    texts = Texts(language_of(lang, request.headers.get("accept-language")))
    if error.errno in NO_SPACE:
        for leftover in Path(get_upload_folder()).glob("tmp*"):
            if leftover.is_file():
                leftover.unlink(missing_ok=True)
    status = 507 if error.errno in NO_SPACE else 500
    return PlainTextResponse(str(explain(error, texts)), status_code=status)


def launch_arguments(settings: Settings) -> dict[str, object]:
    """Return the arguments of `Blocks.launch`: local, private, quiet, and how it looks."""
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "share": False,
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "max_file_size": settings.max_upload_mb << 20,
        "footer_links": [],
        "i18n": translations(),
        "app_kwargs": {"exception_handlers": {OSError: partial(upload_failed, settings.lang)}},
        **launch_look(settings.lang),
    }
