"""Speech to words: record or upload, watch the words come, then look where they came from.

`transcribe` is the whole of it and knows no gradio: it yields a `Frame` whenever the page has
something new to show. `build` only connects it.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from demo.errors import Problem, explain
from demo.linked_view import linked_view, payload
from demo.model_thread import TICK_S, Item, Job, Tick, aside
from demo.page import AT_ONCE, QUIET, Page
from demo.runs import Run
from demo.session import Turn
from demo.texts import Texts
from demo.theme import waveform_look
from demo.transcript import FINISHED, Phase, Transcript, advance, failed, stopped, transcript_html
from demo.workbench import Workbench
from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform, load_waveform, quality_note
from model.events import Event
from model.messages import Conversation
from model.tasks.asr import ASR

TAB = "asr"
SHORTEST_S = 0.1
"""Below this nothing is said: one 12.5 Hz position is 0.08 s."""
FRAME_S = 0.05
"""Least time between two pictures of words coming in."""
EXAMPLES = Path(__file__).parents[2] / "model" / "nano" / "examples"


@dataclass(frozen=True)
class Frame:
    """What the tab shows at one moment."""

    transcript: Transcript
    run: Run | None = None
    """The finished run, once it has been looked into."""
    view: dict[str, Any] | None = None
    """What the linked view shows of it."""


# --- handlers: plain functions -------------------------------------------------------------------


def accept(workbench: Workbench, session: str, path: str | None) -> Frame:
    """Note a request, and show at once what it waits for; the turn itself stands in a queue."""
    workbench.sessions.request(session)
    if not path:
        return Frame(Transcript())
    if workbench.loading.phase == "loading":
        return Frame(Transcript("model"))
    return Frame(Transcript("queued" if workbench.is_busy else "starting"))


def transcribe(workbench: Workbench, session: str, path: str | None, texts: Texts) -> Iterator[Frame]:
    """Transcribe one recording, yielding whatever there is to show.

    Closing the generator, or `stop`, stops the model. No step takes longer than a tick, so both
    are seen at once.

    Args:
        workbench: Model and runs.
        session: Whose turn this is; an earlier one still under way is stopped.
        path: The recording, or None.
        texts: Words for the page.
    """
    turn = workbench.sessions.start(session)
    frame = Frame(Transcript("starting"))
    try:
        if not turn.cancel.is_set():
            for frame in _steps(workbench, session, turn, path, texts):
                yield frame
        if turn.cancel.is_set():
            yield Frame(stopped(frame.transcript))
    # The border to the page: every error becomes words, and the app goes on.
    except Exception as error:
        yield Frame(failed(frame.transcript, explain(error, texts)))
    finally:
        workbench.sessions.end(session, turn)


def stop(workbench: Workbench, session: str) -> Frame | None:
    """Stop the session's turn; return how it now looks, or None where the turn itself will show that."""
    turn = workbench.sessions.stop(session)
    return None if turn is None or turn.is_started else Frame(Transcript("stopped"))


def paced(frames: Iterator[Frame], least_s: float = FRAME_S) -> Iterator[Frame]:
    """Leave out frames that follow too fast, never a change of phase nor the last; a slow page stays up to date."""
    shown_s, phase, held = -math.inf, None, None
    with closing(frames):
        for frame in frames:
            if frame.transcript.phase == phase and time.monotonic() - shown_s < least_s:
                held = frame
                continue
            yield frame
            shown_s, phase, held = time.monotonic(), frame.transcript.phase, None
        if held is not None:
            yield held


def _steps(workbench: Workbench, session: str, turn: Turn, path: str | None, texts: Texts) -> Iterator[Frame]:
    """Read the file, ask the model, look inside; return early where that ends the turn."""
    if not path:
        yield Frame(failed(Transcript(), Problem(texts("nothing_given_title"), texts("nothing_given"))))
        return
    reading = aside(lambda: hear(path, workbench.settings.max_audio_s, texts), turn.cancel)
    heard = yield from _wait(reading, Frame(Transcript("listening")))
    if heard is None:
        return
    first = Transcript("listening", sound_s=heard.waveform.duration_s, note=heard.note)
    if heard.problem is not None:
        yield Frame(failed(first, heard.problem))
        return
    conversation = ASR.conversation(heard.waveform, name=Path(path).name)
    events: list[Event] = []
    for seen in _listen(workbench, workbench.answer(conversation, ASR.options, turn.cancel), first, events):
        if seen.phase not in FINISHED:  # what is finished is shown once it was looked into
            yield Frame(seen)
    if not turn.cancel.is_set() and seen.phase in FINISHED:
        yield from _look_inside(workbench, session, turn, conversation, events, seen, texts)


def _wait(job: "Job[Item]", frame: Frame) -> Generator[Frame, None, Item | None]:
    """Show a frame until a job is done, and return its one item; None if it was cancelled."""
    yield frame
    result = None
    for item in job:
        if isinstance(item, Tick):
            yield frame
        else:
            result = item
    return result


def _listen(workbench: Workbench, job: "Job[Event]", seen: Transcript, events: list[Event]) -> Iterator[Transcript]:
    """Yield a picture for every event and every tick; collect the events on the way."""
    waited_s = 0.0
    yield seen
    for item in job:
        if isinstance(item, Tick):
            waited_s += TICK_S
            phase = _waiting_phase(workbench, job, seen)
            seen = replace(seen, phase=phase, waited_s=0.0 if phase == "writing" else waited_s)
        else:
            events.append(item)
            seen = replace(advance(seen, item), waited_s=0.0)
        yield seen


def _waiting_phase(workbench: Workbench, job: Job, seen: Transcript) -> Phase:
    if seen.phase == "writing":
        return "writing"
    if job.started:
        return "listening"
    return "model" if workbench.loading.phase == "loading" else "queued"


def _look_inside(
    workbench: Workbench,
    session: str,
    turn: Turn,
    conversation: Conversation,
    events: Sequence[Event],
    seen: Transcript,
    texts: Texts,
) -> Iterator[Frame]:
    """Run the teacher-forced second pass and keep its trace as a run; the words stand whatever happens."""
    looking = Frame(replace(seen, phase="looking"))
    try:
        trace = yield from _wait(workbench.look_inside(conversation, events[-1].ids, events, turn.cancel), looking)
        run = trace and Run(session, run_title(seen.text), trace)
        view = run and (yield from _wait(aside(lambda: payload(run), turn.cancel), looking))
        if view:
            yield Frame(seen, workbench.runs.put(run), view)
    # The border to the page: the transcription is done, only the look inside is not.
    except Exception as error:
        yield Frame(replace(seen, problem=explain(error, texts)))


class Heard(NamedTuple):
    """A recording as read, and what there is to say about it."""

    waveform: Waveform
    note: str = ""
    problem: Problem | None = None


def hear(path: str, max_seconds: float, texts: Texts) -> Heard:
    """Read a recording and judge it.

    Raises:
        AudioError: If it cannot be read, is too long or too short.
    """
    waveform = load_waveform(path, sample_rate_hz=INPUT_SAMPLE_RATE_HZ, max_seconds=max_seconds, min_seconds=SHORTEST_S)
    note = quality_note(waveform)
    if note == "silent":
        return Heard(waveform, problem=Problem(texts("note_silent_title"), texts("note_silent")))
    keys = {"very quiet": "note_quiet", "clipped": "note_clipped"}
    return Heard(waveform, texts(keys[note]) if note in keys else note or "")


def run_title(text: str, now: datetime | None = None) -> str:
    """Name a run for the picker: when it was, and how it begins."""
    words = " ".join(text.split())
    short = words if len(words) <= 48 else words[:47] + "…"
    return f"{now or datetime.now():%H:%M:%S} · {short or '–'}"


class Example(NamedTuple):
    """A sound that ships with the model."""

    path: Path
    caption: str


def examples(folder: Path = EXAMPLES) -> list[Example]:
    """Find the example sounds; the caption of `name.flac` is the first line of `name.txt`."""
    sounds = sorted(path for path in folder.glob("*") if path.suffix in (".wav", ".flac"))
    return [Example(path, _caption(path)) for path in sounds]


def _caption(sound: Path) -> str:
    text = sound.with_suffix(".txt")
    lines = text.read_text(encoding="utf-8").strip().splitlines() if text.is_file() else []
    return lines[0].strip() if lines else sound.stem.replace("_", " ")


# --- the tab -------------------------------------------------------------------------------------


class AsrTab(NamedTuple):
    """Components that other parts of the page connect to."""

    panel: gr.HTML
    run_id: gr.State
    """Id of the run on show."""
    open_button: gr.Button
    raw_microphone: gr.Checkbox
    """Shows what the browser remembers; `RAW_LOAD_JS` reads it."""


# Copies the words; the panel is redrawn with every token, so the click is caught on its parent.
COPY_JS = """
element.addEventListener('click', async (event) => {
  const button = event.target.closest('.copy');
  if (!button) return;
  await navigator.clipboard.writeText(element.querySelector('.words').textContent);
  button.textContent = button.dataset.copied;
});
"""
RAW_JS = "(on) => { window.stepAudioRawMicrophone?.set(on); return on; }"
RAW_LOAD_JS = "() => window.stepAudioRawMicrophone?.get() ?? true"


def build(page: Page) -> AsrTab:
    """Build the tab inside a `gr.Tab`."""
    label = page.label
    run_id = gr.State(None)
    with gr.Row(equal_height=True):
        with gr.Column(scale=5, min_width=300):
            sound = _recorder(page)
            with gr.Row():
                go = gr.Button(label("transcribe"), variant="primary", scale=3, min_width=120, elem_id="transcribe")
                halt = gr.Button(label("stop"), scale=1, min_width=90, interactive=False, elem_id="stop")
        with gr.Column(scale=7, min_width=300):
            panel = gr.HTML(
                transcript_html(Transcript(), Texts()), js_on_load=COPY_JS,
                apply_default_css=False, elem_id="transcript",
            )  # fmt: skip
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            chips = _example_buttons(page)
        with gr.Column(scale=1, min_width=300):
            raw = _raw_microphone(page)
    with gr.Column(visible=False, elem_id="asr-view-block") as view_block:
        with gr.Row(equal_height=True):
            gr.Markdown(label("view_title"), elem_classes="view-title")
            open_button = gr.Button(label("open_in_inspect"), size="sm", scale=0, min_width=150, elem_id="open-inspect")
        view = linked_view(page.workbench, elem_id="asr-view")
    _connect(page, sound, go, halt, chips, [panel, go, halt, view_block, view, run_id])
    return AsrTab(panel, run_id, open_button, raw)


def _recorder(page: Page) -> gr.Audio:
    return gr.Audio(
        label=page.label("sound"), sources=["upload", "microphone"], type="filepath", buttons=[],
        waveform_options=waveform_look(INPUT_SAMPLE_RATE_HZ), elem_id="sound",
    )  # fmt: skip


def _raw_microphone(page: Page) -> gr.Checkbox:
    raw = gr.Checkbox(
        True, label=page.label("raw_microphone"), info=page.label("raw_microphone_info"),
        elem_classes="plain-check", elem_id="raw-microphone",
    )  # fmt: skip
    gr.Markdown(page.label("no_microphone"), elem_classes="no-microphone-note")
    raw.input(None, raw, None, js=RAW_JS, **AT_ONCE)
    return raw


def _example_buttons(page: Page) -> list[tuple[gr.Button, Example]]:
    found = examples()
    if not found:
        return []
    with gr.Row(elem_classes="examples"):
        gr.Markdown(page.label("examples"), elem_classes="section-title")
        return [(gr.Button(item.caption, size="sm", scale=0), item) for item in found]


def _connect(page: Page, sound, go, halt, chips, outputs: list) -> None:
    """Connect the buttons: first the page shows that it heard you, then the turn queues."""
    workbench = page.workbench

    def clicked(path: str | None, session: str, request: gr.Request) -> list:
        return _updates(accept(workbench, session, path), page.texts(request), hide_view=True)

    def run(path: str | None, session: str, request: gr.Request) -> Iterator[list]:
        texts = page.texts(request)
        for frame in paced(transcribe(workbench, session, path, texts)):
            yield _updates(frame, texts)

    def halted(session: str, request: gr.Request) -> list:
        frame = stop(workbench, session)
        return [gr.skip()] * len(outputs) if frame is None else _updates(frame, page.texts(request))

    def start(trigger: Any) -> None:
        chosen = trigger(clicked, [sound, page.session], outputs, **AT_ONCE)
        chosen.then(run, [sound, page.session], outputs, concurrency_id="model", concurrency_limit=1, **QUIET)

    start(go.click)
    for chip, item in chips:
        start(chip.click(lambda path=str(item.path): path, None, sound, **AT_ONCE).then)
    # Not by gradio's `cancels`: frames on their way would arrive after the stop and stay on the page.
    halt.click(halted, page.session, outputs, **AT_ONCE)


def _updates(frame: Frame, texts: Texts, *, hide_view: bool = False) -> list:
    """Return what changes on the page: panel, go, halt, view block, view, run id."""
    busy = frame.transcript.is_under_way
    shown: list[Any] = [
        transcript_html(frame.transcript, texts),
        gr.update(interactive=not busy),
        gr.update(interactive=busy),
    ]
    if frame.run is not None:
        return [*shown, gr.update(visible=True), frame.view, frame.run.id]
    if hide_view:
        return [*shown, gr.update(visible=False), {}, None]
    return [*shown, gr.skip(), gr.skip(), gr.skip()]
