"""When what happened in a turn: the wall clock, the playback clock, and how far the sound was ahead of the ear.

    wall clock   0 s   .    .    .    1 s  .    .    .    2 s
    stages       prepare|encode|prefill|decode........................
    text              a         few        words
    codes                  ####  ####  ####  ####                         25 codes are one second of speech
    sound                       [made]   [made]                           by the vocoder
    playback                        =========------======                 what one hears; ---- is a stall

Only events are read (`model.events`), of a live turn or from a Trace. Playback is what a player does that starts with
the first piece of sound and never skips: a piece begins when the one before it has ended and it has arrived.

    line = timeline(events)                       # or timeline(trace)
    lanes(line.lanes())                           # analysis.figures.timeline
    line.first_sound_s, line.real_time_factor, line.stalled_s
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.statistic import Axis, Statistic
from analysis.trace import Trace
from model.errors import TraceError
from model.events import (
    AudioCodesDelta,
    AudioDelta,
    Event,
    SoundMark,
    StageTiming,
    TextDelta,
    ThoughtDelta,
    ToolCallEvent,
    ToolResultEvent,
    TurnDone,
)

STAGES, THOUGHT, TEXT, CODES, TOOLS, SOUND, PLAYBACK = (
    "stages",
    "thought",
    "text",
    "codes",
    "tools",
    "sound",
    "playback",
)
LANES = (STAGES, THOUGHT, TEXT, CODES, TOOLS, SOUND, PLAYBACK)
"""From top to bottom."""
SOUND_STAGE = "sound"
"""Name of the stage that makes one piece of sound."""


class Span(NamedTuple):
    """Something that took time, on the wall clock of the turn."""

    lane: str
    label: str
    start_s: float
    end_s: float


class Piece(NamedTuple):
    """One piece of sound: when it was there, and when it is heard."""

    arrived_s: float
    """Wall clock."""
    plays_s: float
    """Wall clock."""
    seconds: float
    """How long it lasts."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Everything of one turn that has a time, in seconds since the turn began."""

    spans: tuple[Span, ...]
    """By lane, then by time."""
    pieces: tuple[Piece, ...]
    """Pieces of sound, in order; empty for a silent answer."""
    end_s: float
    """When the turn was over."""
    heard_s: float = 0.0
    """Length of the sound that was listened to; 0 if unknown."""

    def lanes(self) -> Statistic:
        """Return start and end of everything, [span, edge]; the notes name the lane and the label of each span."""
        values = np.array([(span.start_s, span.end_s) for span in self.spans]).reshape(len(self.spans), 2)
        axes = (
            Axis("span", labels=[f"{span.lane}: {span.label}" for span in self.spans]),
            Axis("edge", ("start", "end")),
        )
        notes = {"lanes": [span.lane for span in self.spans], "labels": [span.label for span in self.spans]}
        return Statistic("time since the turn began", values, axes, "s", notes={**notes, "end_s": self.end_s})

    def latencies(self) -> Statistic:
        """Return how long each stage took, pieces of one name added up, [stage], in the order they came."""
        totals: dict[str, float] = {}
        for span in self.spans:
            if span.lane in (STAGES, SOUND, TOOLS):
                name = span.label if span.lane == STAGES else {SOUND: SOUND_STAGE}.get(span.lane, f"tool {span.label}")
                totals[name] = totals.get(name, 0.0) + span.end_s - span.start_s
        return Statistic("time spent", list(totals.values()), (Axis("stage", labels=totals),), "s")

    def clock(self) -> Statistic:
        """Return how many seconds of sound had arrived and had been heard by each moment, [clock, time].

        The distance between the two is the reserve; where they touch, playback stalls.
        """
        if not self.pieces:
            raise _refusal("a turn without sound", "pieces of sound with their times")
        at = np.unique([0.0, *(t for p in self.pieces for t in (p.arrived_s, p.plays_s, p.plays_s + p.seconds))])
        arrived = sum(piece.seconds * (at >= piece.arrived_s) for piece in self.pieces)
        played = sum(np.clip(at - piece.plays_s, 0, piece.seconds) for piece in self.pieces)
        axes = Axis("clock", labels=("arrived", "heard")), Axis("time", values=at, unit="s")
        return Statistic("seconds of sound", [arrived, played], axes, "s", notes={"stalled_s": self.stalled_s})

    def summary(self) -> Statistic:
        """Return the numbers that are compared between systems, [measure]; what did not happen is left out."""
        found = {
            "first text": self.first(TEXT),
            "first code": self.first(CODES),
            "first sound": self.first_sound_s,
            "turn over": self.end_s,
            "playback over": self.pieces[-1].plays_s + self.pieces[-1].seconds if self.pieces else None,
            "stalled": self.stalled_s if self.pieces else None,
        }
        known = {name: value for name, value in found.items() if value is not None}
        notes = {"real time factor": self.real_time_factor, "input real time factor": self.input_real_time_factor}
        return Statistic("time since the turn began", list(known.values()), (Axis("measure", labels=known),), "s",
                         notes=notes)  # fmt: skip

    def first(self, lane: str) -> float | None:
        """Return when the first thing of a lane was there; None if nothing was."""
        return min((span.end_s for span in self.spans if span.lane == lane), default=None)

    @property
    def first_sound_s(self) -> float | None:
        """From the beginning of the turn to the first sound; None for a silent answer."""
        return self.pieces[0].arrived_s if self.pieces else None

    @property
    def sound_s(self) -> float:
        """Length of the spoken answer."""
        return float(sum(piece.seconds for piece in self.pieces))

    @property
    def stalled_s(self) -> float:
        """How long playback stood still between pieces."""
        ends = [piece.plays_s + piece.seconds for piece in self.pieces]
        return float(sum(piece.plays_s - end for piece, end in zip(self.pieces[1:], ends)))

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work for each second of spoken answer; below 1 it is made faster than it plays."""
        return self.end_s / self.sound_s if self.pieces else None

    @property
    def input_real_time_factor(self) -> float | None:
        """Seconds of work for each second of sound that was listened to; None if that is unknown."""
        return self.end_s / self.heard_s if self.heard_s else None


def timeline(turn: Trace | Iterable[Event], *, heard_s: float | None = None) -> Timeline:
    """Lay out a turn in time.

    Args:
        turn: The events of one turn, `TurnDone` included; or a Trace that has them.
        heard_s: Length of the sound that was listened to; a Trace knows it.

    Raises:
        TraceError: If there is no event, or the turn does not end.
    """
    if isinstance(turn, Trace):
        sounds = [sound.duration_s for name, sound in turn.audio.items() if name.startswith("input_")]
        heard_s, turn = sum(sounds) if heard_s is None else heard_s, turn.events
    events = tuple(turn)
    done = [event for event in events if isinstance(event, TurnDone)]
    if not done:
        raise _refusal(f"{len(events)} events without an end", "the events of a turn, TurnDone included")
    pieces = _pieces(events)
    spans = [*_spans(events), *(Span(PLAYBACK, f"{p.seconds:.2f} s", p.plays_s, p.plays_s + p.seconds) for p in pieces)]
    spans.sort(key=lambda span: (LANES.index(span.lane), span.start_s, span.end_s))
    return Timeline(tuple(spans), tuple(pieces), done[-1].t_s, heard_s or 0.0)


def _pieces(events: Iterable[Event]) -> list[Piece]:
    """Play the pieces of sound one after the other, each when it is there."""
    pieces: list[Piece] = []
    for event in events:
        if isinstance(event, AudioDelta | SoundMark):
            seconds = event.waveform.duration_s if isinstance(event, AudioDelta) else event.to_s - event.from_s
            free = pieces[-1].plays_s + pieces[-1].seconds if pieces else 0.0
            pieces.append(Piece(event.t_s, max(event.t_s, free), seconds))
    return pieces


def _spans(events: Iterable[Event]) -> Iterator[Span]:
    """Yield what took time; a delta took from the event before it to its own."""
    calls: dict[str, ToolCallEvent] = {}
    before_s = 0.0
    for event in events:
        match event:
            case StageTiming(stage=stage):
                yield Span(SOUND if stage == SOUND_STAGE else STAGES, stage, event.start_s, event.end_s)
            case TextDelta(text=text):
                yield Span(TEXT, text, min(before_s, event.t_s), event.t_s)
            case ThoughtDelta(text=text):
                yield Span(THOUGHT, text, min(before_s, event.t_s), event.t_s)
            case AudioCodesDelta(codes=codes):
                yield Span(CODES, f"{len(codes)} codes", min(before_s, event.t_s), event.t_s)
            case ToolCallEvent():
                calls[event.id] = event
            case ToolResultEvent():
                start_s = calls[event.id].t_s if event.id in calls else event.t_s
                yield Span(TOOLS, event.name, start_s, event.t_s)
        before_s = event.t_s


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Pass all events of a turn, or a trace that was captured with `events=`."
    return TraceError("lay out a turn in time", found=found, expected=expected, todo=todo)
