"""The speech chat: say, write or attach anything, and watch the answer being thought, looked up, written and spoken.

What happens in a turn is in `demo/chat.py`; here are the components, and what connects them.
"""

from collections.abc import Iterator
from functools import partial
from html import escape, unescape
from typing import Any, NamedTuple

import gradio as gr

from demo.audio_input import busy_updates, examples
from demo.audio_turn import accept, paced, stop, turn_frames
from demo.bubbles import Bubbles
from demo.chat import Settings, Wish, chat_messages, converse, edited, export, look_inside
from demo.errors import Problem, problem_html
from demo.notice import notice, notice_html
from demo.page import AT_ONCE, QUIET, Page
from demo.player import pcm_player, stop_js
from demo.talks import Talk
from demo.texts import Texts
from demo.transcript import Transcript, head_html, seconds
from demo.workbench import Workbench
from model.messages import Text
from model.tasks.chat import Chat
from model.tools.standard import STANDARD_NAMES

TAB = "chat"
PLAYER = "chat-player"
FRAME_S = 0.15
"""Least time between two pictures: each carries the whole conversation."""
THINK = {"none": "none", "48": "short", "256": "long", "free": "free"}
"""Budget of a thought -> its word, `chat_think_NAME`."""
WRITTEN_EXAMPLES = ("What is the capital of Japan?", "我有点累，说句鼓励的话吧。")


class ChatTab(NamedTuple):
    """Components that other parts of the page connect to."""

    notice: gr.HTML
    sound: gr.Column
    """Holds the player."""
    speak: gr.Checkbox
    voice: gr.Dropdown
    inspected: Any
    """The event that ends with a run to look at, if it succeeds."""
    run_id: gr.State
    offered: gr.State
    """Phase of loading that the page shows the voices of."""


# --- pictures -> page -----------------------------------------------------------------------------


def status_html(seen: Bubbles, texts: Texts) -> str:
    """Draw the line under the conversation: where the turn is, and what there is to say about it."""
    if seen.phase == "empty":
        return ""
    parts = [head_html(Transcript(seen.phase, waited_s=seen.waited_s), texts)]
    if seen.problem is not None:
        parts.append(problem_html(seen.problem))
    if seen.note:
        parts.append(f'<p class="note">{escape(seen.note)}</p>')
    if seen.total_s is not None:
        parts.append(f'<p class="note">{escape(texts("chat_took", seconds=seconds(seen.total_s, texts)))}</p>')
    busy = str(seen.is_under_way).lower()
    return f'<div class="panel" data-phase="{seen.phase}" aria-busy="{busy}">{"".join(parts)}</div>'


def show(talk: Talk, seen: Bubbles, texts: Texts) -> list:
    """Return what changes on the page: conversation, status, player, Stop and the buttons that wait for the end."""
    settled = any(seen is picture for picture in talk.pictures.values())
    talk.live = None if settled else seen
    rows, _ = chat_messages(talk, texts)
    idle = gr.update(interactive=not seen.is_under_way)
    player = seen.feed.value if seen.feed.pieces else gr.skip()
    _, halt = busy_updates(seen.is_under_way)
    # The composer stays open: whoever speaks up while an answer is under way interrupts it.
    return [rows, status_html(seen, texts), player, gr.skip(), halt, idle, idle]


def chosen(*values: Any) -> Settings:
    """Read the components of the settings; what a visitor has emptied counts as not chosen."""
    speak, voice, think, tools, system, temperature, seed = values
    return Settings(
        system=system or "",
        speak=bool(speak),
        voice=voice or "",
        think=think or "none",
        tools=tuple(tools or ()),
        temperature=float(temperature or 0),
        seed=None if seed is None or seed < 0 else int(seed),
    )


def wish_of(value: dict | None, settings: Settings) -> Wish:
    """Read what the composer holds."""
    value = value or {}
    return Wish(text=value.get("text") or "", files=tuple(value.get("files") or ()), settings=settings)


def place_of(talk: Talk, index: Any, texts: Texts) -> int:
    """Return which message of the person a bubble belongs to; -1 where there is none."""
    place = index[0] if isinstance(index, list | tuple) else index
    _, origin = chat_messages(talk, texts)
    return origin[place] if isinstance(place, int) and 0 <= place < len(origin) else -1


# --- the tab --------------------------------------------------------------------------------------


def build(page: Page) -> ChatTab:
    """Build the tab inside a `gr.Tab`."""
    label, run_id, offered, picked = page.label, gr.State(None), gr.State(""), gr.State(-1)
    told = notice(page, Chat.name)
    with gr.Row():
        with gr.Column(scale=7, min_width=300):
            bot = gr.Chatbot(
                label=label("chat_conversation"), height=460, editable="user", render_markdown=False,
                group_consecutive_messages=False, layout="bubble", elem_id="chat", buttons=["copy_all"],
                placeholder=label("chat_placeholder"),
            )  # fmt: skip
            status = gr.HTML("", apply_default_css=False, elem_id="chat-status", elem_classes="transcript-box")
            with gr.Column(visible=False) as sound:
                player = pcm_player(page, elem_id=PLAYER)
            box = gr.MultimodalTextbox(
                label=label("chat_message"), placeholder=label("chat_hint"), sources=["microphone", "upload"],
                file_types=["audio"], file_count="multiple", show_label=True, elem_id="chat-box",
            )  # fmt: skip
            with gr.Row():
                halt = gr.Button(label("stop"), interactive=False, min_width=90, elem_id="chat-stop")
                again = gr.Button(label("chat_again"), min_width=120, elem_id="chat-again")
                inspect = gr.Button(label("chat_inspect"), min_width=120, elem_id="chat-inspect")
                clear = gr.Button(label("chat_clear"), min_width=120, elem_id="chat-clear")
            chips = _examples(page)
        with gr.Column(scale=3, min_width=280):
            settings = _settings(page)
            keep = gr.Button(label("chat_export"), size="sm", elem_id="chat-export")
            file = gr.File(label=label("chat_file"), visible=False, interactive=False, elem_id="chat-file")
    outputs = [bot, status, player, box, halt, again, clear]
    _connect_turns(page, bot, box, chips, again, settings, outputs)
    _connect_rest(page, bot, box, halt, clear, keep, file, picked, outputs)
    inspected = _connect_inspect(page, inspect, picked, run_id, status)
    return ChatTab(told, sound, settings[0], settings[1], inspected, run_id, offered)


def _settings(page: Page) -> list:
    """Build what decides how answers are; in the order of `chosen`."""
    label = page.label
    gr.Markdown(label("chat_settings"), elem_classes="section-title")
    tools = [(label(f"chat_tool_{name}"), name) for name in STANDARD_NAMES]
    return [
        gr.Checkbox(False, label=label("chat_speak"), elem_id="chat-speak"),
        gr.Dropdown([], label=label("chat_voice"), visible=False, filterable=False, elem_id="chat-voice"),
        gr.Radio(
            [(label(f"chat_think_{word}"), budget) for budget, word in THINK.items()], value="none",
            label=label("chat_think"), elem_id="chat-think",
        ),
        gr.CheckboxGroup(tools, label=label("chat_tools"), info=label("chat_tools_info"), elem_id="chat-tools"),
        gr.Textbox(
            label=label("chat_system"), info=label("chat_system_info"), lines=2, max_lines=6, max_length=4000,
            placeholder="You are a helpful assistant. Today is {today}.", elem_id="chat-system",
        ),
        gr.Slider(
            0, 1.2, value=0.4, step=0.1, label=label("chat_temperature"), info=label("chat_temperature_info"),
            elem_id="chat-temperature",
        ),
        gr.Number(
            -1, label=label("chat_seed"), info=label("chat_seed_info"), precision=0, minimum=-1, maximum=2**31 - 1,
            elem_id="chat-seed",
        ),
    ]  # fmt: skip


def _examples(page: Page) -> list[tuple[gr.Button, dict[str, Any]]]:
    sounds = [(item.caption, {"text": "", "files": [str(item.path)]}) for item in examples()[:4]]
    written = [(text, {"text": text, "files": []}) for text in WRITTEN_EXAMPLES]
    with gr.Row(elem_classes="examples"):
        gr.Markdown(page.label("examples"), elem_classes="section-title")
        return [(gr.Button(caption, size="sm", scale=0), value) for caption, value in written + sounds]


def _connect_turns(page: Page, bot, box, chips, again, settings, outputs) -> None:
    """Connect all ways to a turn: first the wish is noted and shown, then the turn queues."""
    workbench = page.workbench

    def note(session: str, wish: Wish, request: gr.Request) -> list:
        talk, texts = workbench.talks.of(session), page.texts(request)
        talk.wish = wish
        talk.live_index = len(talk.state.exchanges) if wish.kind == "say" else max(0, wish.index)
        shown = show(talk, accept(workbench, session, "something", Bubbles), texts)
        shown[3] = gr.update(value=None)
        return shown

    def said(value: dict | None, session: str, request: gr.Request, *values: Any) -> list:
        return note(session, wish_of(value, chosen(*values)), request)

    def repeated(session: str, request: gr.Request, *values: Any) -> list:
        state = workbench.talks.of(session).state
        words = state.asked(state.last).parts if state.last >= 0 else None
        return note(session, Wish("edit", index=state.last, said=words, settings=chosen(*values)), request)

    def rewritten(event: gr.EditData, session: str, request: gr.Request, *values: Any) -> list:
        talk = workbench.talks.of(session)
        index = place_of(talk, event.index, page.texts(request))
        words = edited(talk, index, unescape(str(event.value))) if index >= 0 else None
        return note(session, Wish("edit", index=index, said=words, settings=chosen(*values)), request)

    def run(session: str, request: gr.Request) -> Iterator[list]:
        talk, texts = workbench.talks.of(session), page.texts(request)
        wish, talk.wish = talk.wish or Wish(), None
        for seen in paced(converse(workbench, session, talk, wish, texts), FRAME_S):
            if workbench.talks.of(session) is not talk:
                return  # the visitor has begun a new conversation
            yield show(talk, seen, texts)

    def start(trigger: Any, handler: Any, inputs: list) -> None:
        noted = trigger(handler, inputs, outputs, **AT_ONCE)
        # "multiple": the next message must not be dropped while the turn that it interrupts is still ending.
        noted.then(
            run, page.session, outputs, concurrency_id="model", concurrency_limit=1, trigger_mode="multiple", **QUIET
        )

    start(box.submit, said, [box, page.session, *settings])
    start(again.click, repeated, [page.session, *settings])
    start(bot.retry, repeated, [page.session, *settings])
    start(bot.edit, rewritten, [page.session, *settings])
    for chip, value in chips:
        start(chip.click(lambda value=value: value, None, box, **AT_ONCE).then, said, [box, page.session, *settings])


def _connect_rest(page: Page, bot, box, halt, clear, keep, file, picked, outputs) -> None:
    """Connect what asks nothing of the model: stop, undo, new conversation, export, choosing a turn."""
    workbench = page.workbench

    def halted(session: str, request: gr.Request) -> list:
        seen = stop(workbench, session, Bubbles)
        talk = workbench.talks.of(session)
        return [gr.skip()] * len(outputs) if seen is None else show(talk, seen, page.texts(request))

    def undone(session: str, request: gr.Request) -> list:
        talk = workbench.talks.of(session)
        taken = None if talk.state.is_busy else talk.state.undo()
        talk.tidy()
        shown = show(talk, Bubbles.at("empty"), page.texts(request))
        words = "".join(part.text for part in taken.parts if isinstance(part, Text)) if taken else ""
        shown[3] = gr.update(value={"text": words, "files": []})
        return shown

    def cleared(session: str, request: gr.Request) -> list:
        workbench.sessions.stop(session)
        workbench.talks.drop(session)
        shown = show(workbench.talks.of(session), Bubbles.at("empty"), page.texts(request))
        return [*shown, gr.update(value=None, visible=False), -1]

    def exported(session: str) -> Any:
        talk, facts = workbench.talks.of(session), workbench.loading.facts
        about = {"model": facts.name, "revision": facts.revision} if facts else {}
        return gr.update(value=str(export(talk, talk.folder, about)), visible=True)

    def pick(event: gr.SelectData, session: str, request: gr.Request) -> int:
        return place_of(workbench.talks.of(session), event.index, page.texts(request))

    halt.click(halted, page.session, outputs, **AT_ONCE)
    halt.click(None, None, None, js=stop_js(PLAYER), **AT_ONCE)
    bot.undo(undone, page.session, outputs, **AT_ONCE)
    for trigger in (clear.click, bot.clear):
        trigger(cleared, page.session, [*outputs, file, picked], **AT_ONCE)
    clear.click(None, None, None, js=stop_js(PLAYER), **AT_ONCE)
    keep.click(exported, page.session, file, **QUIET)
    bot.select(pick, page.session, picked, **AT_ONCE)


def _connect_inspect(page: Page, inspect, picked, run_id, status) -> Any:
    """Look into the turn that was picked, or the latest one; `ui.py` shows the run when it is there."""
    workbench = page.workbench

    def looked(place: int, session: str, request: gr.Request) -> Iterator[list]:
        talk, texts, found = workbench.talks.of(session), page.texts(request), []
        n_turns = len(talk.state.exchanges)
        if not n_turns:
            problem = Problem(texts("chat_nothing_title"), texts("chat_nothing_to_inspect"))
            yield [gr.skip(), status_html(Bubbles.at("starting").failed(problem), texts)]
            return
        index = place if 0 <= place < n_turns else n_turns - 1
        workbench.sessions.request(session)
        steps = partial(look_inside, workbench, session, talk, index, found)
        for seen in turn_frames(workbench, session, steps, texts, Bubbles):
            yield [gr.skip(), status_html(seen, texts)]
        if found:
            yield [found[-1], ""]

    inputs, shared = [picked, page.session], {"concurrency_id": "model", "concurrency_limit": 1}
    return inspect.click(looked, inputs, [run_id, status], **shared, **QUIET)


# --- what is only known once the model is there ----------------------------------------------------


def connect(page: Page, tab: ChatTab, *triggers: Any) -> None:
    """Show what the model offers, whenever one of the triggers fires and the model has come further."""
    workbench = page.workbench

    def refresh(shown_for: str, request: gr.Request) -> list:
        phase, texts = workbench.loading.phase, page.texts(request)
        if phase == shown_for:
            return [gr.skip()] * 5
        names = voices(workbench)
        why = texts("chat_no_voice") if phase == "ready" and not names else None
        speak = gr.update(interactive=bool(names), value=bool(names), info=why)
        choices = [(texts("chat_auto_voice"), ""), *((name, name) for name in names)]
        voice = gr.update(choices=choices, value="", visible=bool(names))
        sound = gr.update(visible=bool(names))
        return [phase, notice_html(workbench, Chat.name, texts), sound, speak, voice]

    for trigger in triggers:
        trigger(refresh, tab.offered, [tab.offered, tab.notice, tab.sound, tab.speak, tab.voice], **AT_ONCE)


def voices(workbench: Workbench) -> tuple[str, ...]:
    """Return the names of the voices that the loaded model can answer in."""
    if workbench.loading.phase != "ready":
        return ()
    speech = workbench.engine.speech
    return tuple(card.name for card in speech.cards) if speech and speech.problem is None else ()
