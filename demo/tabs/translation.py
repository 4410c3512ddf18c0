"""Speech in one language to words in the other, side by side with what was said.

`translate` is the whole of it and knows no gradio: the translation streams first, spoken if the model has a voice, then
its run is looked into, then, if asked for, the same model writes down what was said. `build` only connects it.
"""

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import gradio as gr

from demo.audio_input import (
    COPY_JS,
    AudioInput,
    Example,
    RunBlock,
    busy_updates,
    connect,
    example_buttons,
    raw_microphone,
    recorder,
    run_block,
    run_buttons,
    run_updates,
)
from demo.audio_turn import Frame, given, look_inside, turn_frames, write
from demo.errors import Problem, explain
from demo.notice import notice
from demo.page import AT_ONCE, Page
from demo.player import Feed, pcm_player, stop_js
from demo.session import Turn
from demo.texts import Texts
from demo.transcript import FINISHED, Phase, Transcript, empty_html, failed, stopped, transcript_html
from demo.workbench import Workbench
from model.audio import Waveform
from model.events import AudioDelta, Event
from model.messages import Conversation
from model.tasks.asr import ASR
from model.tasks.normalize import is_chinese
from model.tasks.translation import Translation

TAB = "translation"
OTHER = {"zh": "en", "en": "zh"}
"""Language of the translation -> language of the sound."""
SPOKEN = replace(Translation.options, max_new_tokens=1024)
"""A spoken translation takes 25 codes a second beside its words."""


@dataclass(frozen=True)
class Translated(Frame):
    """What the tab shows at one moment: `transcript` is the translation."""

    target: str = ""
    """Language of the translation, "en" or "zh"; empty before the turn has begun."""
    source: Transcript | None = None
    """What was said, in its own language; None if it was not asked for."""
    feed: Feed | None = None
    """The translation as sound so far; None where there is nothing new of it."""

    @property
    def phase(self) -> Phase:
        """Where the turn is: at the translation, then at the words that were said."""
        if self.transcript.is_under_way or not self.is_under_way:
            return self.transcript.phase
        return "starting" if self.source.phase == "empty" else self.source.phase

    @property
    def is_under_way(self) -> bool:
        """True until both texts have come to an end."""
        to_come = self.source is not None and (self.source.phase == "empty" or self.source.is_under_way)
        return self.transcript.is_under_way or to_come

    def stopped(self) -> Self:
        """Keep the words of both, and the sound."""
        return self._ended(stopped(self.transcript))

    def failed(self, problem: Problem) -> Self:
        """Keep the words and say what went wrong with the translation."""
        return self._ended(failed(self.transcript, problem))

    def _ended(self, transcript: Transcript) -> Self:
        source = stopped(self.source) if self.source is not None and self.source.phase != "empty" else None
        feed = self.feed and self.feed.finish()
        return replace(self, transcript=transcript, source=source, feed=feed, run=None, view=None)


# --- handlers: plain functions -------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """How a recording is to be translated."""

    target: str = "zh"
    """Language of the translation, "en" or "zh"."""
    with_source: bool = True
    """Write down what was said as well."""
    speak: bool = False
    """Say the translation, where the model has a voice."""

    def __post_init__(self) -> None:
        if self.target not in OTHER:  # from the browser, hence anything
            object.__setattr__(self, "target", "zh")


def translate(workbench: Workbench, session: str, path: str | None, texts: Texts, *chosen: Any) -> Iterator[Translated]:
    """Translate one recording, yielding whatever there is to show.

    Args:
        workbench: Model and runs.
        session: Whose turn this is; an earlier one still under way is stopped.
        path: The recording, or None.
        texts: Words for the page.
        chosen: The fields of a `Wish`, in their order.
    """
    wish = Wish(*chosen)

    def steps(turn: Turn) -> Iterator[Translated]:
        return _steps(workbench, session, turn, path, texts, wish)

    return turn_frames(workbench, session, steps, texts, Translated)


def _steps(
    workbench: Workbench, session: str, turn: Turn, path: str | None, texts: Texts, wish: Wish
) -> Iterator[Translated]:
    """Read the file, translate, look inside, transcribe; return early where that ends the turn."""
    heard = yield from given(workbench, turn, path, texts, Translated)
    if heard is None:
        return
    first = Transcript("listening", sound_s=heard.waveform.duration_s, note=heard.note)
    begun = Translated(first, target=wish.target, source=Transcript() if wish.with_source else None)
    if heard.problem is not None:
        yield begun.failed(heard.problem)
        return
    name, events = Path(path).name, []
    speak = wish.speak and workbench.can_say
    conversation = Translation.conversation(heard.waveform, name=name, target=wish.target, speak=speak)
    for frame in _write(workbench, turn, conversation, begun, speak, events):
        if frame.transcript.phase not in FINISHED:  # what is finished is shown once it was looked into
            yield frame
    if turn.cancel.is_set() or frame.transcript.phase not in FINISHED:
        return
    looked = frame
    for looked in look_inside(workbench, session, turn, conversation, events, frame, texts):
        yield looked
    if wish.with_source and not turn.cancel.is_set():
        yield from _said(workbench, turn, heard.waveform, name, replace(looked, view=None, feed=None), texts)


def _write(
    workbench: Workbench, turn: Turn, conversation: Conversation, frame: Translated, speak: bool, events: list[Event]
) -> Iterator[Translated]:
    """Yield the translation as it comes, words and sound; collect the events on the way."""
    if speak:
        job = workbench.say(conversation, frame.target, SPOKEN, turn.cancel)
    else:
        job = workbench.answer(conversation, Translation.options, turn.cancel)
    feed, n_seen = Feed() if speak else None, 0
    for seen in write(workbench, job, frame.transcript, events):
        for event in events[n_seen:]:
            feed = feed.add(event.waveform) if isinstance(event, AudioDelta) else feed
        n_seen = len(events)
        if feed is not None and not seen.is_under_way:
            feed = feed.finish()
        frame = replace(frame, transcript=seen, feed=feed)
        yield frame


def _said(
    workbench: Workbench, turn: Turn, waveform: Waveform, name: str, frame: Translated, texts: Texts
) -> Iterator[Translated]:
    """Write down what was said; the translation stands whatever happens."""
    events: list[Event] = []
    first = Transcript("listening", sound_s=waveform.duration_s)
    conversation = ASR.conversation(waveform, name=name)
    try:
        for seen in write(workbench, workbench.answer(conversation, ASR.options, turn.cancel), first, events):
            frame = replace(frame, source=seen)
            yield frame
    # The border to the page: the translation is done, only the words beside it are not.
    except Exception as error:
        yield replace(frame, source=failed(frame.source or Transcript(), explain(error, texts)))


# --- pictures ------------------------------------------------------------------------------------


def translated_html(frame: Translated, texts: Texts) -> str:
    """Draw both texts side by side; every word of them is escaped."""
    if frame.phase == "empty":
        return empty_html(texts, "translation_empty")
    target = f"translated_to_{frame.target}" if frame.target else "tab_translation"
    parts = [_titled("translated", target, transcript_html(frame.transcript, texts), texts)]
    if frame.source is not None:
        words = _waiting_html(texts) if frame.source.phase == "empty" else transcript_html(frame.source, texts)
        parts.insert(0, _titled("said", f"said_in_{OTHER[frame.target]}", words, texts))
    return f'<div class="pair" data-phase="{frame.phase}">{"".join(parts)}</div>'


def _titled(name: str, key: str, panel: str, texts: Texts) -> str:
    return f'<section class="{name}"><h3 class="section-title">{html.escape(texts(key))}</h3>{panel}</section>'


def _waiting_html(texts: Texts) -> str:
    return f'<div class="panel transcript"><p class="words none">{html.escape(texts("source_waits"))}</p></div>'


# --- the tab -------------------------------------------------------------------------------------


class TranslationTab(NamedTuple):
    """Components that other parts of the page connect to."""

    panel: gr.HTML
    run: RunBlock
    raw_microphone: gr.Checkbox
    notice: gr.HTML
    speak: gr.Checkbox
    """Shown where the model has a voice; `ui.py` sees to it."""


def build(page: Page) -> TranslationTab:
    """Build the tab inside a `gr.Tab`."""
    label = page.label
    told = notice(page, Translation.name)
    with gr.Row(equal_height=True):
        with gr.Column(scale=5, min_width=300):
            sound = recorder(page, "translation-sound")
            target = gr.Radio(
                [(label("to_zh"), "zh"), (label("to_en"), "en")], value="zh", label=label("direction"),
                elem_id="direction", elem_classes="plain-radio",
            )  # fmt: skip
            go, halt = run_buttons(page, "translate", go_id="translate", halt_id="translation-stop")
        with gr.Column(scale=7, min_width=300):
            panel = gr.HTML(
                translated_html(Translated.at("empty"), Texts()), js_on_load=COPY_JS,
                apply_default_css=False, elem_id="translated", elem_classes="transcript-box",
            )  # fmt: skip
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            chips = example_buttons(page)
        with gr.Column(scale=1, min_width=300):
            with_source = gr.Checkbox(
                True, label=label("with_source"), info=label("with_source_info"),
                elem_classes="plain-check", elem_id="with-source",
            )  # fmt: skip
            speak = gr.Checkbox(
                False, label=label("spoken_translation"), info=label("spoken_translation_info"), visible=False,
                elem_classes="plain-check", elem_id="spoken-translation",
            )  # fmt: skip
            raw = raw_microphone(page, "translation-raw-microphone")
    player = pcm_player(page, elem_id="translation-player")
    shown = run_block(page, "translation-view", open_id="open-translation")
    connect(
        page, AudioInput(sound, go, halt), chips, [target, with_source, speak],
        [panel, go, halt, player, *shown.outputs], translate, updates, kind=Translated, chosen_for=direction_of,
    )  # fmt: skip
    halt.click(None, None, None, js=stop_js("translation-player"), **AT_ONCE)
    return TranslationTab(panel, shown, raw, told, speak)


def direction_of(example: Example) -> list[str]:
    """Return the language to translate an example into, from the language of its caption."""
    return ["en" if is_chinese(example.caption) else "zh"]


def updates(frame: Translated, texts: Texts, *, is_new: bool = False) -> list:
    """Return what changes on the page: panel, go, halt, player, and what is under the words."""
    sound = frame.feed.value if frame.feed is not None else {} if is_new else gr.skip()
    return [translated_html(frame, texts), *busy_updates(frame.is_under_way), sound, *run_updates(frame, is_new=is_new)]
