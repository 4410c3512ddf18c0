"""Speech in one language to words in the other, side by side with what was said.

`translate` is the whole of it and knows no gradio: the translation streams first, then its run is looked into, then,
if asked for, the same model writes down what was said. `build` only connects it.
"""

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

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
from demo.page import Page
from demo.session import Turn
from demo.texts import Texts
from demo.transcript import FINISHED, Phase, Transcript, empty_html, failed, stopped, transcript_html
from demo.workbench import Workbench
from model.audio import Waveform
from model.events import Event
from model.tasks.asr import ASR
from model.tasks.normalize import is_chinese
from model.tasks.translation import Translation

TAB = "translation"
OTHER = {"zh": "en", "en": "zh"}
"""Language of the translation -> language of the sound."""


@dataclass(frozen=True)
class Translated(Frame):
    """What the tab shows at one moment: `transcript` is the translation."""

    target: str = ""
    """Language of the translation, "en" or "zh"; empty before the turn has begun."""
    source: Transcript | None = None
    """What was said, in its own language; None if it was not asked for."""

    @property
    def phase(self) -> Phase:
        """Where the turn is: at the translation, then at the words that were said."""
        if self.source is not None and not self.transcript.is_under_way and self.source.is_under_way:
            return self.source.phase
        return self.transcript.phase

    @property
    def is_under_way(self) -> bool:
        """True until both texts have come to an end."""
        return self.transcript.is_under_way or (self.source is not None and self.source.is_under_way)

    def stopped(self) -> Self:
        """Keep the words of both."""
        source = self.source and stopped(self.source)
        return replace(self, transcript=stopped(self.transcript), source=source, run=None, view=None)

    def failed(self, problem: Problem) -> Self:
        """Keep the words and say what went wrong with the translation."""
        source = self.source and stopped(self.source)
        return replace(self, transcript=failed(self.transcript, problem), source=source, run=None, view=None)


# --- handlers: plain functions -------------------------------------------------------------------


def translate(
    workbench: Workbench, session: str, path: str | None, texts: Texts, target: str = "zh", with_source: bool = True
) -> Iterator[Translated]:
    """Translate one recording, yielding whatever there is to show.

    Args:
        workbench: Model and runs.
        session: Whose turn this is; an earlier one still under way is stopped.
        path: The recording, or None.
        texts: Words for the page.
        target: Language of the translation, "en" or "zh"; anything else counts as "zh".
        with_source: Write down what was said as well.
    """
    target = target if target in OTHER else "zh"

    def steps(turn: Turn) -> Iterator[Translated]:
        return _steps(workbench, session, turn, path, texts, target, with_source)

    return turn_frames(workbench, session, steps, texts, Translated)


def _steps(
    workbench: Workbench, session: str, turn: Turn, path: str | None, texts: Texts, target: str, with_source: bool
) -> Iterator[Translated]:
    """Read the file, translate, look inside, transcribe; return early where that ends the turn."""
    heard = yield from given(workbench, turn, path, texts, Translated)
    if heard is None:
        return
    first = Transcript("listening", sound_s=heard.waveform.duration_s, note=heard.note)
    waiting = Transcript() if with_source else None
    frame = Translated(first, target=target, source=waiting)
    if heard.problem is not None:
        yield replace(frame.failed(heard.problem), source=None)
        return
    name, events = Path(path).name, []
    conversation = Translation.conversation(heard.waveform, name=name, target=target)
    for seen in write(workbench, workbench.answer(conversation, Translation.options, turn.cancel), first, events):
        frame = replace(frame, transcript=seen)
        if seen.phase not in FINISHED:  # what is finished is shown once it was looked into
            yield frame
    if turn.cancel.is_set() or seen.phase not in FINISHED:
        return
    looked = frame
    for looked in look_inside(workbench, session, turn, conversation, events, frame, texts):
        yield looked
    if with_source and not turn.cancel.is_set():
        yield from _said(workbench, turn, heard.waveform, name, replace(looked, view=None), texts)


def _said(
    workbench: Workbench, turn: Turn, waveform: Waveform, name: str, frame: Translated, texts: Texts
) -> Iterator[Translated]:
    """Write down what was said; the translation stands whatever happens."""
    events: list[Event] = []
    conversation = ASR.conversation(waveform, name=name)
    try:
        for seen in write(
            workbench, workbench.answer(conversation, ASR.options, turn.cancel), Transcript("listening"), events
        ):
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
            raw = raw_microphone(page, "translation-raw-microphone")
    shown = run_block(page, "translation-view", open_id="open-translation")
    connect(
        page, AudioInput(sound, go, halt), chips, [target, with_source], [panel, go, halt, *shown.outputs],
        translate, updates, kind=Translated, chosen_for=direction_of,
    )  # fmt: skip
    return TranslationTab(panel, shown, raw, told)


def direction_of(example: Example) -> list[str]:
    """Return the language to translate an example into, from the language of its caption."""
    return ["en" if is_chinese(example.caption) else "zh"]


def updates(frame: Translated, texts: Texts, *, is_new: bool = False) -> list:
    """Return what changes on the page: panel, go, halt, and what is under the words."""
    return [translated_html(frame, texts), *busy_updates(frame.is_under_way), *_run_updates(frame, is_new)]


def _run_updates(frame: Translated, is_new: bool) -> list:
    """Fill the view once, when it comes; frames after it change only the words."""
    return run_updates(frame if frame.view is not None else replace(frame, run=None), is_new=is_new)
