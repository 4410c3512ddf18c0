"""What a turn yields while it happens, whoever produces it: local torch, a server, a script.

    StageTiming("prepare") StageTiming("encode") StageTiming("prefill")
    TextDelta TextDelta ... | AudioCodesDelta AudioDelta ... | ThoughtDelta ... | ToolCallEvent ToolResultEvent
    StageTiming("decode") TurnDone                                                  <- always last

Every event carries `t_s`, seconds on one monotonic clock that starts with the turn. `collect` is the only form that
does not stream. Events know nothing of models and prompts; `to_dict` and `from_dict` carry them through JSON.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from model.audio import Waveform
from model.errors import BackendError, TraceError

Reason = Literal["stop", "length", "cancelled", "error", "repetition"]


@dataclass(frozen=True)
class TextDelta:
    """More of the answer, in whole characters."""

    text: str
    ids: tuple[int, ...]
    """The ids these characters came from; several when a character was split over them."""
    t_s: float
    logprobs: tuple[float, ...] = ()
    """Natural log-probability of each id under the model itself (temperature 1, no penalty); may be left out."""
    spoken: bool = False
    """Whether the words belong to speech codes beside them."""


@dataclass(frozen=True)
class ThoughtDelta:
    """More of the thought before the answer. The closing tag's ids belong to the last one, its characters to none."""

    text: str
    ids: tuple[int, ...]
    t_s: float
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class AudioCodesDelta:
    """More speech codes, 25 per second of speech."""

    codes: tuple[int, ...]
    """Padding is left out, so there can be fewer codes than ids."""
    ids: tuple[int, ...]
    t_s: float


@dataclass(frozen=True)
class AudioDelta:
    """More sound of the answer, to be played right after what came before."""

    waveform: Waveform
    t_s: float


@dataclass(frozen=True)
class SoundMark:
    """Where a piece of sound stands, for a record that keeps the sound of the answer as a whole (a Trace)."""

    from_s: float
    """Start of the piece in the answer, seconds."""
    to_s: float
    t_s: float
    """When it was there."""


@dataclass(frozen=True)
class ToolCallEvent:
    """The model asked for a tool."""

    name: str
    arguments: Mapping[str, Any]
    id: str
    t_s: float


@dataclass(frozen=True)
class ToolResultEvent:
    """A tool answered."""

    content: str
    name: str
    id: str
    t_s: float
    failed: bool = False
    """Whether the content is what went wrong instead of a result."""
    seconds: float = 0.0
    """From the call to the result."""
    source: str = ""
    """Where the result comes from, in words, if known."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The result for programs: plain JSON values, not guarded against markup."""


@dataclass(frozen=True)
class StageTiming:
    """A stage of the turn is over."""

    stage: str
    """"prepare" (tokenise, mel), "encode" (sound), "prefill" (prompt), "decode" (all new tokens, and what is done
    between them); of speech "voice" (read the voice) and "sound" (one piece of it)."""
    start_s: float
    end_s: float
    t_s: float

    def __post_init__(self) -> None:
        """Refuse a stage that ends before it starts."""
        if self.end_s < self.start_s:
            raise _bad_event(self, f"stage {self.stage!r} from {self.start_s} s to {self.end_s} s", "end after start")


@dataclass(frozen=True)
class TurnDone:
    """The turn is over; nothing follows."""

    reason: Reason
    """"stop": the model ended it; "length": the limit did; "cancelled", "error", "repetition": it was broken off."""
    ids: tuple[int, ...]
    """Every generated id, end tokens included, never cut: what history and the analysis pass read."""
    prompt_tokens: int
    new_tokens: int
    t_s: float
    message: str = ""
    """What went wrong, when the reason is an error; else what could not be done, such as speaking without a voice."""

    def __post_init__(self) -> None:
        """Refuse unknown reasons and counts that do not match."""
        if self.reason not in get_args(Reason):
            raise _bad_event(self, f"reason {self.reason!r}", f"one of {', '.join(get_args(Reason))}")
        if self.new_tokens != len(self.ids):
            raise _bad_event(self, f"new_tokens={self.new_tokens} and {len(self.ids)} ids", "as many as ids")


Event = (
    TextDelta
    | ThoughtDelta
    | AudioCodesDelta
    | AudioDelta
    | SoundMark
    | ToolCallEvent
    | ToolResultEvent
    | StageTiming
    | TurnDone
)


def shifted(event: Event, seconds: float) -> Event:
    """Return the same event on a clock that began `seconds` earlier."""
    times = {name: getattr(event, name) + seconds for name in ("start_s", "end_s", "t_s") if hasattr(event, name)}
    return replace(event, **times)


def _bad_event(event: Any, found: str, expected: str) -> TraceError:
    todo = "Correct the program that made it"
    return TraceError(f"make a {type(event).__name__}", found=found, expected=expected, todo=todo)


@dataclass(frozen=True, eq=False)
class Turn:
    """A whole turn, for those who need no stream."""

    text: str
    thought: str
    codes: tuple[int, ...]
    ids: tuple[int, ...]
    """Every generated id, as `TurnDone` has them."""
    timings: tuple[StageTiming, ...]
    reason: Reason
    prompt_tokens: int
    new_tokens: int
    seconds: float
    """From the start of the turn to its end."""
    text_ids: tuple[int, ...] = ()
    """The ids behind `text`."""
    logprobs: tuple[float, ...] = ()
    """One per text id, where the backend gives them."""
    waveform: Waveform | None = None
    """The spoken answer, if there is sound."""
    tool_calls: tuple[ToolCallEvent, ...] = ()
    tool_results: tuple[ToolResultEvent, ...] = field(default=())
    message: str = ""


def collect(events: Iterable[Event]) -> Turn:
    """Read a turn to its end.

    Raises:
        BackendError: If the stream does not end with `TurnDone`, or goes on after it.
    """
    events = list(events)
    done = [event for event in events if isinstance(event, TurnDone)]
    if len(done) != 1 or events[-1] is not done[0]:
        raise BackendError(
            "collect a turn",
            found=f"{len(done)} TurnDone among {len(events)} events"
            + (f", the last event is {type(events[-1]).__name__}" if events else ""),
            expected="exactly one, as the last event",
            todo="Correct the backend that produced the stream",
        )
    texts = _of(events, TextDelta)
    codes = _of(events, AudioCodesDelta)
    end = done[0]
    return Turn(
        text="".join(event.text for event in texts),
        thought="".join(event.text for event in _of(events, ThoughtDelta)),
        codes=tuple(code for event in codes for code in event.codes),
        ids=end.ids,
        timings=tuple(_of(events, StageTiming)),
        reason=end.reason,
        prompt_tokens=end.prompt_tokens,
        new_tokens=end.new_tokens,
        seconds=end.t_s,
        text_ids=tuple(i for event in texts for i in event.ids),
        logprobs=tuple(value for event in texts for value in event.logprobs),
        waveform=_join([event.waveform for event in _of(events, AudioDelta)]),
        tool_calls=tuple(_of(events, ToolCallEvent)),
        tool_results=tuple(_of(events, ToolResultEvent)),
        message=end.message,
    )


def _of(events: Iterable[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def _join(waveforms: list[Waveform]) -> Waveform | None:
    """Sounds one after the other; None when there is none."""
    rates = {waveform.sample_rate_hz for waveform in waveforms}
    if len(rates) > 1:
        raise BackendError(
            "join the sound of a turn",
            found=f"pieces at {sorted(rates)} Hz",
            expected="one sample rate",
            todo="Correct the backend that produced the stream",
        )
    return Waveform(np.concatenate([w.samples for w in waveforms]), rates.pop()) if waveforms else None


# --- JSON ---------------------------------------------------------------------------------------

_KINDS = {kind.__name__: kind for kind in get_args(Event)}


def to_dict(event: Event) -> dict[str, Any]:
    """One event as plain JSON values; sound becomes base64 of little-endian float32."""
    values = {f.name: _plain(getattr(event, f.name)) for f in fields(event)}
    return {"type": type(event).__name__, **values}


def from_dict(values: Mapping[str, Any]) -> Event:
    """The event that `to_dict` wrote.

    Raises:
        TraceError: If it is of an unknown type, or its fields are not those of the type.
    """
    kind = _KINDS.get(values.get("type")) if isinstance(values, Mapping) else None
    if kind is None:
        raise _unreadable(values)
    try:
        return kind(**{name: _restored(value) for name, value in values.items() if name != "type"})
    except (TypeError, ValueError) as error:
        raise _unreadable(values) from error


def _unreadable(values: Any) -> TraceError:
    return TraceError(
        "read an event",
        found=f"{values!r:.80}",
        expected=f"a type among {', '.join(_KINDS)} with the fields of that type",
        todo="Read the file with the version that wrote it",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Waveform):
        data = base64.b64encode(value.samples.astype("<f4").tobytes()).decode("ascii")
        return {"sample_rate_hz": value.sample_rate_hz, "float32": data}
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"sample_rate_hz", "float32"}:
        samples = np.frombuffer(base64.b64decode(value["float32"]), dtype="<f4").astype(np.float32)
        return Waveform(samples, value["sample_rate_hz"])
    return tuple(value) if isinstance(value, list) else value
