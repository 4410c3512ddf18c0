"""How a transcription looks while it happens: events in, one picture out.

`advance` is a pure step from picture to picture, `transcript_html` draws it. Neither knows
gradio or the model, so both are tested with hand-made events.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from demo.errors import Problem, problem_html
from demo.texts import Texts
from model.events import Event, StageTiming, TextDelta, TurnDone

Phase = Literal[
    "empty", "starting", "model", "queued", "listening", "voice", "thinking", "tool", "writing", "speaking",
    "looking", "done", "stopped", "length", "repetition", "failed",
]  # fmt: skip
UNDER_WAY = (
    "starting", "model", "queued", "listening", "voice", "thinking", "tool", "writing", "speaking", "looking",
)  # fmt: skip
FINISHED = ("done", "length", "repetition")
"""Phases of a turn that has an answer to look into."""
ENDINGS: dict[str, Phase] = {
    "stop": "done",
    "length": "length",
    "cancelled": "stopped",
    "repetition": "repetition",
    "error": "failed",
}


class Seen(Protocol):
    """What pictures of turns have in common, whatever the turn is about."""

    @property
    def phase(self) -> Phase: ...
    @property
    def text(self) -> str: ...
    @property
    def waited_s(self) -> float: ...
    @property
    def is_under_way(self) -> bool: ...


@dataclass(frozen=True)
class Transcript:
    """One picture of a transcription."""

    phase: Phase = "empty"
    text: str = ""
    sound_s: float | None = None
    """Length of the recording."""
    encode_s: float | None = None
    """Time the encoder took."""
    first_s: float | None = None
    """From the start of the turn to the first word."""
    n_tokens: int = 0
    speed: float | None = None
    """Tokens per second after the first one."""
    total_s: float | None = None
    waited_s: float = 0.0
    """How long the present phase has lasted, for phases that show it."""
    note: str = ""
    """A remark on the recording, in words for the page."""
    problem: Problem | None = None

    @property
    def is_under_way(self) -> bool:
        """True until the turn has come to an end."""
        return self.phase in UNDER_WAY


def advance(seen: Transcript, event: Event) -> Transcript:
    """Return the picture after one more event of the turn."""
    match event:
        case TextDelta():
            return _with_words(seen, event)
        case StageTiming(stage="encode"):
            return replace(seen, encode_s=event.end_s - event.start_s)
        case TurnDone():
            return replace(seen, phase=ENDINGS[event.reason], total_s=event.t_s)
    return seen


def _with_words(seen: Transcript, event: TextDelta) -> Transcript:
    n_tokens = seen.n_tokens + len(event.ids)
    if seen.first_s is None:
        return replace(seen, phase="writing", text=seen.text + event.text, n_tokens=n_tokens, first_s=event.t_s)
    after_s = event.t_s - seen.first_s
    speed = (n_tokens - 1) / after_s if after_s > 0 else seen.speed
    return replace(seen, phase="writing", text=seen.text + event.text, n_tokens=n_tokens, speed=speed)


def stopped(seen: Transcript) -> Transcript:
    """Return how a turn looks once it was stopped; words already found stay."""
    return replace(seen, phase="stopped") if seen.is_under_way else seen


def failed(seen: Transcript, problem: Problem) -> Transcript:
    """Return how a turn looks when something went wrong; words already found stay."""
    return replace(seen, phase="failed", problem=problem)


def transcript_html(seen: Transcript, texts: Texts) -> str:
    """Draw a picture; every word of it that came from elsewhere is escaped."""
    if seen.phase == "empty":
        return empty_html(texts, "asr_empty")
    parts = [head_html(seen, texts)]
    if seen.problem is not None:
        parts.append(problem_html(seen.problem))
    if seen.text or seen.problem is None:
        parts.append(words_html(seen, texts))
    if seen.note:
        parts.append(f'<p class="note">{html.escape(seen.note)}</p>')
    parts.append(_timings_html(seen, texts))
    busy = str(seen.is_under_way).lower()
    return f'<div class="panel transcript" data-phase="{seen.phase}" aria-busy="{busy}">{"".join(parts)}</div>'


def empty_html(texts: Texts, key: str) -> str:
    """Say what a tab is for in three steps, before anything was asked; their words are `key_title`, `key_1` ..."""
    steps = "".join(f"<li>{html.escape(texts(f'{key}_{i}'))}</li>" for i in (1, 2, 3))
    title = html.escape(texts(f"{key}_title"))
    return f'<div class="panel transcript empty" data-phase="empty"><h2>{title}</h2><ol>{steps}</ol></div>'


def head_html(seen: Seen, texts: Texts) -> str:
    """Draw the line above the words: where the turn is, and how long that has lasted."""
    waited = f' <span class="waited">{texts("seconds", n=f"{seen.waited_s:.1f}")}</span>' if seen.waited_s >= 1 else ""
    label = html.escape(texts(f"phase_{seen.phase}"))
    copy = ""
    if seen.text and not seen.is_under_way:
        copy = f'<button type="button" class="copy" data-copied="{texts("copied")}">{texts("copy")}</button>'
    return f'<div class="transcript-head"><span class="phase" role="status">{label}</span>{waited}{copy}</div>'


def words_html(seen: Seen, texts: Texts) -> str:
    """Draw the words so far."""
    if not seen.text.strip() and not seen.is_under_way:
        none = texts("no_words") if seen.phase != "stopped" else ""
        return f'<p class="words none">{html.escape(none)}</p>'
    caret = '<span class="caret" aria-hidden="true"></span>' if seen.is_under_way else ""
    return f'<p class="words" dir="auto">{html.escape(seen.text)}{caret}</p>'


def _timings_html(seen: Transcript, texts: Texts) -> str:
    cells = (
        ("time_sound", seconds(seen.sound_s, texts)),
        ("time_encode", seconds(seen.encode_s, texts)),
        ("time_first", seconds(seen.first_s, texts)),
        ("time_speed", None if seen.speed is None else texts("tokens_per_s", n=f"{seen.speed:.0f}")),
        ("time_total", seconds(seen.total_s, texts)),
    )
    return timings_html(cells, texts)


def timings_html(cells: Sequence[tuple[str, str | None]], texts: Texts) -> str:
    """Draw measured values, each under the word of its key; what is not known yet keeps its place."""
    rows = "".join(
        f"<div><dt>{html.escape(texts(key))}</dt><dd>{html.escape(value or '–')}</dd></div>" for key, value in cells
    )
    return f'<dl class="timings">{rows}</dl>'


def seconds(value_s: float | None, texts: Texts) -> str | None:
    """Return a time for reading, in milliseconds below a second; None stays None."""
    if value_s is None:
        return None
    if value_s < 0.9995:
        return texts("milliseconds", n=f"{1000 * value_s:.0f}")
    return texts("seconds", n=f"{value_s:.1f}")
