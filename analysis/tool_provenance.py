"""Which sound did each argument of a tool call come from? And which sound made the model call at all?

    sound     "what is the weather in   PARIS   tomorrow"
                        |                 |         |
    reply     <tool_call>function get_weather {"location": "Paris", "day": "tomorrow"}</tool_call>
              `-- the decision, the name --'                `-----'          `------'

Each row is the decision with the tool's name, or the value of one argument. A row is held against every clip of the
conversation: all of the clip muted says whether the row leans on it at all, one window muted at a time says where. A
row that loses less than `THRESHOLD_NAT` whichever clip is muted came from elsewhere: the text of the conversation, the
offer of tools, or the model itself.

    found = tool_provenance(loaded, conversation, turn.ids)
    for source in found.sources(): source.argument.label, source.start_s, source.end_s
    evidence(found.sound(), waveform)             # analysis.figures.thought

Source: occlusion as in `occlusion.py`; the call's syntax is that of the official examples (`model/chat.py`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from analysis.capture import token_texts
from analysis.counterfactual import clip_of, with_clip
from analysis.edits import Edit
from analysis.occlusion import Occlusion, occlusion_map
from analysis.scoring import Progress, ReplyScorer
from analysis.statistic import Axis, Statistic
from analysis.thought import THRESHOLD_NAT
from model.chat import Audio, Conversation
from model.errors import TraceError
from model.tokens import TOOL_CALL, TOOL_CALL_END

HALF = 0.5
"""Windows around the worst one that cost at least this share of what it costs belong to the evidence."""
_OPEN, _CLOSE = re.escape(TOOL_CALL), re.escape(TOOL_CALL_END)
_CALL = re.compile(_OPEN + r"(\s*function\s*\n([^\n<]*)\n?)(.*?)(?:" + _CLOSE + r"|\Z)", re.DOTALL)
_NAME = re.compile(r'\s*[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*')


class Argument(NamedTuple):
    """One argument of one call, or the call itself."""

    call: int
    """Which call of the reply, counted from 0."""
    tool: str
    name: str
    """Name of the argument; empty for the decision to call this tool."""
    value: str
    """As it is written in the reply, without quotation marks."""
    queries: tuple[int, ...]
    """Reply tokens of the value (of the decision: from the opening tag through the tool's name)."""

    @property
    def label(self) -> str:
        """Name of the row in a picture."""
        return f"{self.name}: {self.value}" if self.name else f"call {self.tool}"


class Source(NamedTuple):
    """Where one argument came from."""

    argument: Argument
    clip: int | None
    """The clip it leans on most, counted from 0; None if it leans on none."""
    start_s: float
    """Of the evidence in its clip, seconds; NaN without one."""
    end_s: float
    nats: float
    """What the argument loses without that clip, or without the one that costs most."""


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where the calls of one reply came from."""

    arguments: tuple[Argument, ...]
    maps: tuple[Occlusion, ...]
    """The whole reply with one window muted at a time, one map for each clip."""
    muted: np.ndarray
    """What each argument loses with the whole clip muted, nat, float64 [argument, clip]; NaN if cancelled."""
    threshold_nat: float = THRESHOLD_NAT

    def __post_init__(self) -> None:
        if self.muted.shape != (len(self.arguments), len(self.maps)) or not self.maps:
            raise _refusal(
                f"losses {self.muted.shape}", f"[{len(self.arguments)}, {len(self.maps)}], at least one clip"
            )

    def sound(self, clip: int = 0) -> Statistic:
        """Return what each argument loses without each window of a clip, [argument, time]."""
        lost = self.maps[clip].by_token().values
        rows = np.array([lost[list(one.queries)].sum(axis=0) for one in self.arguments])
        notes = {**self.maps[clip].notes, "clip": clip, "verdicts": [self._verdict(s) for s in self.sources()]}
        return Statistic("log-probability lost", rows, (self._axis, *self.maps[clip].axes), "nat", notes=notes)

    def clips(self) -> Statistic:
        """Return what each argument loses without each whole clip, [argument, clip]."""
        axes = self._axis, Axis("clip", labels=[str(k + 1) for k in range(len(self.maps))])
        return Statistic("log-probability lost", self.muted, axes, "nat", notes={"threshold_nat": self.threshold_nat})

    def sources(self) -> tuple[Source, ...]:
        """Return where each argument came from."""
        return tuple(self._source(row) for row in range(len(self.arguments)))

    def _source(self, row: int) -> Source:
        argument, losses = self.arguments[row], np.nan_to_num(self.muted[row], nan=-np.inf)
        clip = int(losses.argmax())
        nats = float(self.muted[row, clip])
        if not nats >= self.threshold_nat:
            return Source(argument, None, np.nan, np.nan, nats)
        lost = self.maps[clip].by_token().values[list(argument.queries)].sum(axis=0)
        return Source(argument, clip, *_around_peak(lost, self.maps[clip].spans_s), nats)

    def _verdict(self, source: Source) -> str:
        if source.clip is None:
            return "not from sound"
        several = f"clip {source.clip + 1}, " if len(self.maps) > 1 else ""
        return f"{several}{source.start_s:.1f}-{source.end_s:.1f} s"

    @property
    def _axis(self) -> Axis:
        return Axis("argument", labels=[one.label for one in self.arguments])


def tool_provenance(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int],
    *,
    threshold_nat: float = THRESHOLD_NAT,
    window_s: float | None = None,
    hop_s: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Provenance:
    """Find which sound each argument of a reply's tool calls came from.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given, with at least one clip.
        reply_ids: What it wrote (`Turn.ids`), the call in it.
        threshold_nat: How much must be lost for a clip to count as the source.
        window_s: Length of a muted window, as for `occlusion_map`.
        hop_s: From one window to the next, likewise.
        progress: Told what is being done and how much of it is done.
        cancel: Looked at between batches; what was not reached is NaN.

    Raises:
        TraceError: If the reply calls no tool, or there is no sound.
    """
    arguments = call_arguments(token_texts(loaded.processor, reply_ids))
    n_clips = sum(isinstance(part, Audio) for message in conversation for part in message.parts)
    if not arguments or not n_clips:
        raise _refusal(f"{len(arguments)} rows of tool calls and {n_clips} clips", "a tool call, and sound before it")
    shared = {"progress": progress, "cancel": cancel}
    scorer = ReplyScorer(loaded, conversation, reply_ids)
    silent = [with_clip(conversation, k, Edit("mute")(clip_of(conversation, k))) for k in range(n_clips)]
    lost = scorer.baseline - scorer.score(silent, n=n_clips, **shared)
    maps = [
        occlusion_map(loaded, conversation, reply_ids, clip=k, window_s=window_s, hop_s=hop_s, **shared)
        for k in range(n_clips)
    ]
    muted = np.array([lost[:, list(one.queries)].sum(axis=1) for one in arguments])
    return Provenance(arguments, tuple(maps), muted, threshold_nat)


def call_arguments(texts: Sequence[str]) -> tuple[Argument, ...]:
    """Find the calls in a reply and which tokens say what; a call that is no valid JSON has only its decision.

    Args:
        texts: What each token adds to the text, control tokens by name (`analysis.capture.token_texts`).
    """
    whole = "".join(texts)
    found = []
    for call, match in enumerate(_CALL.finditer(whole)):
        tool = match[2].strip()
        found.append(Argument(call, tool, "", "", _tokens(texts, match.start(), match.end(1))))
        for name, value, start, end in _values(match[3]):
            place = match.start(3)
            found.append(Argument(call, tool, name, value, _tokens(texts, place + start, place + end)))
    return tuple(found)


def _values(body: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, value and extent of the top-level members of a JSON object, as far as it can be read."""
    decoder, place = json.JSONDecoder(), 0
    while match := _NAME.match(body, place):
        try:
            value, end = decoder.raw_decode(body, match.end())
        except ValueError:
            return
        quoted = isinstance(value, str)
        yield json.loads(match[1]), str(value), match.end() + quoted, end - quoted
        place = end


def _tokens(texts: Sequence[str], start: int, end: int) -> tuple[int, ...]:
    """Return the tokens that share a character with a stretch of the text; of an empty one, the token it stands in."""
    ends = np.cumsum([len(text) for text in texts])
    starts = ends - [len(text) for text in texts]
    inside = (starts < max(end, start + 1)) & (ends > start)
    return tuple(int(query) for query in np.flatnonzero(inside))


def _around_peak(lost: np.ndarray, spans_s: np.ndarray) -> tuple[float, float]:
    """Return the stretch over the centres of the windows around the worst one that cost at least half as much."""
    peak = int(np.nan_to_num(lost, nan=-np.inf).argmax())
    good, centres = lost >= HALF * lost[peak], spans_s.mean(axis=1)
    first = last = peak
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    half = (centres[1] - centres[0]) / 2 if len(centres) > 1 else (spans_s[0, 1] - spans_s[0, 0]) / 2
    return float(centres[first] - half), float(centres[last] + half)


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Pass the ids of a reply with `<tool_call>` in it, and the conversation it answered."
    return TraceError("trace a tool call to the sound", found=found, expected=expected, todo=todo)
