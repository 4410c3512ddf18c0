"""What the tabs that listen have in common: one recording, one turn, and everything that can happen on the way.

A tab yields a picture whenever the page has something new to show. Here are the steps such a turn is made of (`hear`,
`write`, `look_inside`) and the border around it (`turn_frames`): Stop, errors in words, and a page that was left.
Knows no gradio.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from demo.errors import Problem, explain
from demo.linked_view import payload
from demo.model_thread import TICK_S, Item, Job, Tick, aside
from demo.runs import Run
from demo.session import Turn
from demo.texts import Texts
from demo.transcript import Phase, Transcript, advance, failed, stopped
from demo.workbench import Workbench
from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform, load_waveform, quality_note
from model.events import Event
from model.messages import Conversation

SHORTEST_S = 0.1
"""Below this nothing is said: one 12.5 Hz position is 0.08 s."""
FRAME_S = 0.05
"""Least time between two pictures of words coming in."""


class Picture(Protocol):
    """What a tab shows at one moment; each tab has its own kind."""

    @property
    def phase(self) -> Phase:
        """Where the turn is."""
        ...

    @classmethod
    def at(cls, phase: Phase) -> Self:
        """Return a picture of a turn that has nothing to show yet but where it is."""
        ...

    def stopped(self) -> Self:
        """Return how this looks once it was stopped."""
        ...

    def failed(self, problem: Problem) -> Self:
        """Return how this looks when something went wrong."""
        ...


P = TypeVar("P", bound=Picture)


@dataclass(frozen=True)
class Frame:
    """A turn with one answer in words, and the run that was made of it."""

    transcript: Transcript
    run: Run | None = None
    """The finished run, once it has been looked into."""
    view: dict[str, Any] | None = None
    """What the linked view shows of it."""

    @property
    def phase(self) -> Phase:
        """Where the turn is."""
        return self.transcript.phase

    @classmethod
    def at(cls, phase: Phase) -> Self:
        """Return a frame without words."""
        return cls(Transcript(phase))

    def stopped(self) -> Self:
        """Keep the words; half a turn is no run."""
        return replace(self, transcript=stopped(self.transcript), run=None, view=None)

    def failed(self, problem: Problem) -> Self:
        """Keep the words and say what went wrong."""
        return replace(self, transcript=failed(self.transcript, problem), run=None, view=None)


# --- the border: asked, stopped, failed, left ------------------------------------------------------


def accept(workbench: Workbench, session: str, path: str | None, kind: type[P] = Frame) -> P:
    """Note a request, and show at once what it waits for; the turn itself stands in a queue."""
    workbench.sessions.request(session)
    if not path:
        return kind.at("empty")
    if workbench.loading.phase == "loading":
        return kind.at("model")
    return kind.at("queued" if workbench.is_busy else "starting")


def stop(workbench: Workbench, session: str, kind: type[P] = Frame) -> P | None:
    """Stop the session's turn; return how it now looks, or None where the turn itself will show that."""
    turn = workbench.sessions.stop(session)
    return None if turn is None or turn.is_started else kind.at("stopped")


def turn_frames(
    workbench: Workbench, session: str, steps: Callable[[Turn], Iterator[P]], texts: Texts, kind: type[P] = Frame
) -> Iterator[P]:
    """Yield the pictures of one turn; whatever happens, the last one says how it ended.

    Closing the generator, or `stop`, stops the model. No step takes longer than a tick, so both are seen at once.

    Args:
        workbench: Model and runs.
        session: Whose turn this is; an earlier one still under way is stopped.
        steps: Makes the pictures; given the turn, whose `cancel` it hands on.
        texts: Words for the page.
        kind: What the pictures are.
    """
    turn = workbench.sessions.start(session)
    picture = kind.at("starting")
    try:
        if not turn.cancel.is_set():
            for picture in steps(turn):
                yield picture
        if turn.cancel.is_set():
            yield picture.stopped()
    # The border to the page: every error becomes words, and the app goes on.
    except Exception as error:
        yield picture.failed(explain(error, texts))
    finally:
        workbench.sessions.end(session, turn)


def paced(pictures: Iterator[P], least_s: float = FRAME_S) -> Iterator[P]:
    """Leave out pictures that follow too fast, never a change of phase nor the last; a slow page stays up to date."""
    shown_s, phase, held = -math.inf, None, None
    with closing(pictures):
        for picture in pictures:
            if picture.phase == phase and time.monotonic() - shown_s < least_s:
                held = picture
                continue
            yield picture
            shown_s, phase, held = time.monotonic(), picture.phase, None
        if held is not None:
            yield held


# --- steps ----------------------------------------------------------------------------------------


def wait(job: "Job[Item]", picture: P) -> Generator[P, None, Item | None]:
    """Show a picture until a job is done, and return its one item; None if it was cancelled."""
    yield picture
    result = None
    for item in job:
        if isinstance(item, Tick):
            yield picture
        else:
            result = item
    return result


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


def given(
    workbench: Workbench, turn: Turn, path: str | None, texts: Texts, kind: type[P] = Frame
) -> Generator[P, None, Heard | None]:
    """Read what was given; return it, or None where there is nothing to go on with (which was then shown)."""
    if not path:
        yield kind.at("starting").failed(Problem(texts("nothing_given_title"), texts("nothing_given")))
        return None
    reading = aside(lambda: hear(path, workbench.settings.max_audio_s, texts), turn.cancel)
    return (yield from wait(reading, kind.at("listening")))


def write(workbench: Workbench, job: "Job[Event]", seen: Transcript, events: list[Event]) -> Iterator[Transcript]:
    """Yield a transcript for every event and every tick; collect the events on the way."""
    waited_s = 0.0
    yield seen
    for item in job:
        if isinstance(item, Tick):
            waited_s += TICK_S
            phase = waiting_phase(workbench, job, seen.phase)
            seen = replace(seen, phase=phase, waited_s=0.0 if phase == "writing" else waited_s)
        else:
            events.append(item)
            seen = replace(advance(seen, item), waited_s=0.0)
        yield seen


def waiting_phase(workbench: Workbench, job: Job, phase: Phase) -> Phase:
    """Return what a turn waits for while nothing comes."""
    if phase == "writing":
        return "writing"
    if job.started:
        return "listening"
    return "model" if workbench.loading.phase == "loading" else "queued"


def look_inside(
    workbench: Workbench,
    session: str,
    turn: Turn,
    conversation: Conversation,
    events: Sequence[Event],
    frame: Frame,
    texts: Texts,
) -> Iterator[Frame]:
    """Run the teacher-forced second pass and keep its trace as a run; the words stand whatever happens.

    Args:
        frame: The finished turn; the last frame is this one with its run, or with the problem there was.
    """
    seen = frame.transcript
    looking = replace(frame, transcript=replace(seen, phase="looking"))
    try:
        trace = yield from wait(workbench.look_inside(conversation, events[-1].ids, events, turn.cancel), looking)
        run = trace and Run(session, run_title(seen.text), trace)
        view = run and (yield from wait(aside(lambda: payload(run), turn.cancel), looking))
        if view:
            yield replace(frame, run=workbench.runs.put(run), view=view)
    # The border to the page: the answer is done, only the look inside is not.
    except Exception as error:
        yield replace(frame, transcript=replace(seen, problem=explain(error, texts)))


def run_title(text: str, now: datetime | None = None) -> str:
    """Name a run for the picker: when it was, and how it begins."""
    words = " ".join(text.split())
    short = words if len(words) <= 48 else words[:47] + "…"
    return f"{now or datetime.now():%H:%M:%S} · {short or '–'}"
