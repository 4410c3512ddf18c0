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
from demo.notice import notice_html
from demo.page import AT_ONCE, Page, translations
from demo.session import new_session
from demo.settings import Settings
from demo.survey import Survey
from demo.survey_view import curves_html
from demo.tabs import about, asr, chat, inspect, paralinguistics, speech, translation
from demo.texts import Texts, language_of
from demo.theme import launch_look
from demo.transcript import Transcript, transcript_html
from demo.workbench import Workbench
from model.tasks.paralinguistics import Paralinguistics
from model.tasks.translation import Translation

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
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab(page.label("tab_asr"), id=asr.TAB):
                asr_tab = asr.build(page)
            with gr.Tab(page.label("tab_translation"), id=translation.TAB):
                translation_tab = translation.build(page)
            with gr.Tab(page.label("tab_paralinguistics"), id=paralinguistics.TAB):
                survey_tab = paralinguistics.build(page)
            with gr.Tab(page.label("tab_speech"), id=speech.TAB) as speech_item:
                speech_tab = speech.build(page)
            with gr.Tab(page.label("tab_chat"), id=chat.TAB) as chat_item:
                chat_tab = chat.build(page)
            with gr.Tab(page.label("tab_inspect"), id=inspect.TAB) as inspect_item:
                inspect_tab = inspect.build(page)
            with gr.Tab(page.label("tab_about"), id=about.TAB) as about_item:
                about_outputs = about.build(page)
        _open_page(demo, page, top, (asr_tab, translation_tab, survey_tab))
        speech.connect(page, speech_tab, demo.load, speech_item.select, top.timer.tick)
        chat.connect(page, chat_tab, demo.load, chat_item.select, top.timer.tick)
        _connect_tabs(page, tabs, (asr_tab, translation_tab, survey_tab), chat_tab, inspect_item, inspect_tab)
        about.connect(page, about_item, about_outputs)
        _close_page(demo, workbench)
    return demo


def _session_state() -> gr.State:
    """Return the state that holds each visitor's session id, made when it is first asked for."""
    state = gr.State(new_session)
    # gradio would also set it anew by a public event some time after the page has opened.
    state.load_event_to_attach = None
    return state


Listening = tuple[asr.AsrTab, translation.TranslationTab, paralinguistics.ParalinguisticsTab]
"""The tabs that are given a recording."""


def _open_page(demo: gr.Blocks, page: Page, top: header.Header, listening: Listening) -> None:
    """Fill, for whoever opens the page, what depends on the moment and the language."""
    workbench = page.workbench
    asr_tab, translation_tab, survey_tab = listening
    notices = {Translation.name: translation_tab.notice, Paralinguistics.name: survey_tab.notice}

    def opened(session: str, request: gr.Request) -> list:
        workbench.sessions.remember(request.session_hash, session)
        texts = page.texts(request)
        settled = header.is_settled(workbench)
        strip = header.strip_html(workbench.loading, workbench.settings.model, texts)
        empty = [
            transcript_html(Transcript(), texts),
            translation.translated_html(translation.Translated.at("empty"), texts),
            curves_html(Survey(), texts),
        ]
        return [strip, gr.Timer(active=not settled), *empty]

    def told(request: gr.Request) -> list:
        texts = page.texts(request)
        notes = [notice_html(workbench, task, texts) for task in notices]
        return [*notes, gr.update(visible=workbench.can_say)]

    told_outputs = [*notices.values(), translation_tab.speak]
    panels = [asr_tab.panel, translation_tab.panel, survey_tab.curves]
    demo.load(opened, page.session, [top.strip, top.timer, *panels], **AT_ONCE)
    demo.load(told, None, told_outputs, **AT_ONCE)
    # The strip changes when the model has just been loaded.
    top.strip.change(told, None, told_outputs, **AT_ONCE)
    share_raw_microphone(demo, [tab.raw_microphone for tab in listening])


def _connect_tabs(
    page: Page,
    tabs: gr.Tabs,
    listening: Listening,
    chat_tab: chat.ChatTab,
    inspect_item: gr.Tab,
    inspect_tab: inspect.InspectTab,
) -> None:
    """Open the run on show in Inspect; and give Inspect the latest runs when it is opened by hand."""
    workbench, jumped = page.workbench, [tabs, *inspect_tab.outputs]
    asr_tab, translation_tab, survey_tab = listening

    def jump(run_id: str | None, session: str, request: gr.Request) -> list:
        texts = page.texts(request)
        frame = inspect.show(workbench, session, run_id, texts)
        return [gr.Tabs(selected=inspect.TAB), *inspect.updates(frame, texts)]

    def follow(run_id: str | None, session: str, request: gr.Request) -> list:
        return jump(run_id, session, request) if run_id else [gr.skip()] * len(jumped)

    def visit(run_id: str | None, session: str, request: gr.Request) -> list:
        texts = page.texts(request)
        return inspect.updates(inspect.show(workbench, session, run_id, texts), texts)

    for run in (asr_tab.run, translation_tab.run):
        run.open_button.click(jump, [run.run_id, page.session], jumped, **AT_ONCE)
    for asked in (survey_tab, chat_tab):
        asked.inspected.success(follow, [asked.run_id, page.session], jumped, **AT_ONCE)
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
