"""Speech to words: record or upload, watch the words come, then look where they came from.

`transcribe` is the whole of it and knows no gradio: it yields a `Frame` whenever the page has
something new to show. `build` only connects it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from demo.audio_input import (
    COPY_JS,
    AudioInput,
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
from demo.page import Page
from demo.session import Turn
from demo.texts import Texts
from demo.transcript import FINISHED, Transcript, failed, transcript_html
from demo.workbench import Workbench
from model.events import Event
from model.tasks.asr import ASR

TAB = "asr"


# --- handlers: plain functions -------------------------------------------------------------------


def transcribe(workbench: Workbench, session: str, path: str | None, texts: Texts) -> Iterator[Frame]:
    """Transcribe one recording, yielding whatever there is to show.

    Args:
        workbench: Model and runs.
        session: Whose turn this is; an earlier one still under way is stopped.
        path: The recording, or None.
        texts: Words for the page.
    """
    return turn_frames(workbench, session, lambda turn: _steps(workbench, session, turn, path, texts), texts)


def _steps(workbench: Workbench, session: str, turn: Turn, path: str | None, texts: Texts) -> Iterator[Frame]:
    """Read the file, ask the model, look inside; return early where that ends the turn."""
    heard = yield from given(workbench, turn, path, texts)
    if heard is None:
        return
    first = Transcript("listening", sound_s=heard.waveform.duration_s, note=heard.note)
    if heard.problem is not None:
        yield Frame(failed(first, heard.problem))
        return
    conversation = ASR.conversation(heard.waveform, name=Path(path).name)
    events: list[Event] = []
    for seen in write(workbench, workbench.answer(conversation, ASR.options, turn.cancel), first, events):
        if seen.phase not in FINISHED:  # what is finished is shown once it was looked into
            yield Frame(seen)
    if not turn.cancel.is_set() and seen.phase in FINISHED:
        yield from look_inside(workbench, session, turn, conversation, events, Frame(seen), texts)


# --- the tab -------------------------------------------------------------------------------------


class AsrTab(NamedTuple):
    """Components that other parts of the page connect to."""

    panel: gr.HTML
    run: RunBlock
    raw_microphone: gr.Checkbox


def build(page: Page) -> AsrTab:
    """Build the tab inside a `gr.Tab`."""
    with gr.Row(equal_height=True):
        with gr.Column(scale=5, min_width=300):
            sound = recorder(page, "sound")
            go, halt = run_buttons(page, "transcribe", go_id="transcribe", halt_id="stop")
        with gr.Column(scale=7, min_width=300):
            panel = gr.HTML(
                transcript_html(Transcript(), Texts()), js_on_load=COPY_JS,
                apply_default_css=False, elem_id="transcript", elem_classes="transcript-box",
            )  # fmt: skip
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            chips = example_buttons(page)
        with gr.Column(scale=1, min_width=300):
            raw = raw_microphone(page, "raw-microphone")
    shown = run_block(page, "asr-view", open_id="open-inspect")
    outputs = [panel, go, halt, *shown.outputs]
    connect(page, AudioInput(sound, go, halt), chips, [], outputs, transcribe, _updates, kind=Frame)
    return AsrTab(panel, shown, raw)


def _updates(frame: Frame, texts: Texts, *, is_new: bool = False) -> list:
    """Return what changes on the page: panel, go, halt, view block, view, run id."""
    shown = [transcript_html(frame.transcript, texts), *busy_updates(frame.transcript.is_under_way)]
    return [*shown, *run_updates(frame, is_new=is_new)]
