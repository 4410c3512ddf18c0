"""What a thought rests on: which seconds of sound, and which earlier step, make each of its steps likelier.

    thought   "The speaker is a woman." | "I hear a dog." | "A dog may bark." |  answer
                 ^ seconds 0.3-1.1          ^ seconds 2-2.4    ^ step 2              ^ step 3
    sound  ---> a window of it is muted:      the step loses nats                      [step, time]
    earlier --> a step is hidden:             those behind it lose nats                [step, step]
    support --> other sounds in its place:    log p(step | its sound) - log mean p(step | other sound)

Support is an estimate of the pointwise mutual information of a step and the sound, the logarithm of a Bayes factor. A
step is `heard` where it reaches `THRESHOLD_NAT`; `follows` where it does not, but an earlier step that is itself heard
or follows makes it likelier by as much; else `unsupported`: the model would have thought it of other sounds too. That
does not make it false (it may come from the question), it makes it a step without acoustic evidence.

    found = evidence_map(loaded, conversation, turn.ids)
    found.verdicts                                # ("heard", "follows", "unsupported", ...)
    evidence(found.sound(), waveform)             # analysis.figures.thought

Source: Kass and Raftery 1995 (a log Bayes factor from 1 on is positive evidence); Zeiler and Fergus 2014 (occlusion);
Bogdan et al. 2025 (hiding single steps of a thought, see `knockout.py`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from analysis.capture import THOUGHT, lay_out
from analysis.counterfactual import clip_of, with_clip
from analysis.edits import Edit
from analysis.knockout import Knockout, score_knockouts
from analysis.occlusion import Occlusion, occlusion_map
from analysis.scoring import Progress, ReplyScorer
from analysis.statistic import Axis, Statistic
from analysis.trace import Trace
from model.audio import Waveform
from model.chat import THINK_END, THINK_START, Conversation, with_reply
from model.errors import TraceError
from model.tokens import Kind

THRESHOLD_NAT = 1.0
"""Nats from which a sound, or an earlier step, counts as evidence: it makes the step 2.7 times likelier."""
NOISES = 2
"""Draws of white noise among the sounds that are put in place of the clip."""
ANSWER = "answer"
Verdict = Literal["heard", "follows", "unsupported"]
_END = re.compile(r"(?<=[.!?…])(?=\s|$)|(?<=[。！？；])|(?<=\n)")
"""Where a step ends: behind a mark and before a space, behind a Chinese mark, at the end of a line."""


class Step(NamedTuple):
    """One sentence or line of a thought, or the whole answer behind it."""

    text: str
    queries: tuple[int, ...]
    """Reply tokens it is made of, counted from the first reply token."""
    part: str = THOUGHT
    """`thought` or `answer`."""


# --- steps --------------------------------------------------------------------------------------------------------


def thought_steps(trace: Trace) -> tuple[Step, ...]:
    """Return the steps of the thought in a trace, and the answer as the last one; empty without a thought."""
    places = list(trace.reply)
    return _steps([trace.tokens.text[i] for i in places], [trace.tokens.kind[i] for i in places])


def steps_of(loaded: Any, conversation: Conversation, reply_ids: Sequence[int]) -> tuple[Step, ...]:
    """Return the steps of a reply that was not captured; arguments as for `evidence_map`."""
    layout = lay_out(loaded.processor.encode(with_reply(conversation)), reply_ids, loaded.processor)
    return _steps(layout.text[layout.n_prompt :], layout.kind[layout.n_prompt :])


def sentences(thought: str) -> tuple[str, ...]:
    """Cut a thought into its steps; joined they are the thought again, character for character."""
    pieces: list[str] = []
    for piece in _END.split(thought):
        if pieces and not piece.strip():
            pieces[-1] += piece
        elif pieces and not pieces[-1].strip():
            pieces[-1] += piece
        elif piece:
            pieces.append(piece)
    return tuple(pieces)


def _steps(texts: Sequence[str], kinds: Sequence[str]) -> tuple[Step, ...]:
    thought = [query for query, kind in enumerate(kinds) if kind == THOUGHT]
    if not thought:
        return ()
    whole = "".join(texts[query] for query in thought)
    opening = THINK_START if whole.lstrip().startswith(THINK_START) else ""
    body = whole.partition(opening)[2] if opening else whole
    begin = len(whole) - len(body)
    steps, start = [], begin
    for piece in sentences(body.partition(THINK_END)[0]):
        steps.append(Step(piece.strip(), _inside(texts, thought, start, start + len(piece))))
        start += len(piece)
    behind = [query for query in range(thought[-1] + 1, len(kinds)) if kinds[query] == Kind.TEXT.value]
    said = "".join(texts[query] for query in behind).strip()
    answer = [Step(said, tuple(behind), ANSWER)] if said else []
    return tuple(step for step in [*steps, *answer] if step.text and step.queries)


def _inside(texts: Sequence[str], queries: Sequence[int], start: int, end: int) -> tuple[int, ...]:
    """Return the tokens whose first visible character lies between two characters; blank ones where they begin."""
    found, place = [], 0
    for query in queries:
        blank = len(texts[query]) - len(texts[query].lstrip())
        visible = place + (blank if blank < len(texts[query]) else 0)
        if start <= visible < end:
            found.append(query)
        place += len(texts[query])
    return tuple(found)


# --- evidence -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Evidence:
    """What each step of one thought rests on, in nats."""

    steps: tuple[Step, ...]
    """The answer is the last one, where there is one."""
    windows: Occlusion
    """The whole reply with one window of the sound muted at a time."""
    baseline: np.ndarray
    """Natural log-probability of each step with its sound, float64 [step]."""
    instead: np.ndarray
    """The same with another sound in place of the clip, float64 [sound, step]; NaN where it was cancelled."""
    sounds: tuple[str, ...]
    """What was put in place of the clip."""
    raised: np.ndarray
    """How much the step of each column raises that of each row, float64 [step, step]; NaN unless it is earlier."""
    threshold_nat: float = THRESHOLD_NAT
    clip: int = 0
    notes: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.steps)
        shapes = self.baseline.shape, self.instead.shape, self.raised.shape
        if shapes != ((n,), (len(self.sounds), n), (n, n)) or not self.sounds:
            raise _refusal(f"{n} steps, {len(self.sounds)} other sounds and arrays of {shapes}", "shapes that agree")

    def sound(self) -> Statistic:
        """Return what each step loses without each window of the sound, [step, time]."""
        lost = self.windows.by_token().values
        rows = np.array([lost[list(step.queries)].sum(axis=0) for step in self.steps])
        notes = {**self.windows.notes, **self._notes, "verdicts": list(self.verdicts)}
        return Statistic("log-probability lost", rows, (self._axis("step"), *self.windows.axes), "nat", notes=notes)

    def earlier(self) -> Statistic:
        """Return what each step loses when it cannot see each earlier one, [step, earlier step]; NaN for later ones."""
        axes = self._axis("step"), self._axis("earlier step")
        return Statistic("log-probability lost", self.raised, axes, "nat", notes=self._notes)

    def support(self) -> Statistic:
        """Return how much the sound speaks for each step against other sounds, [step]."""
        with np.errstate(invalid="ignore"):  # what was cancelled stays NaN
            found = self.baseline - np.logaddexp.reduce(self.instead, axis=0) + np.log(len(self.sounds))
        notes = {**self._notes, "instead": list(self.sounds), "verdicts": list(self.verdicts_of(found))}
        return Statistic("support by the sound", found, (self._axis("step"),), "nat", notes=notes)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """`heard`, `follows` or `unsupported` for each step; see the top of the file."""
        return self.verdicts_of(self.support().values) if len(self.steps) else ()

    def verdicts_of(self, support: np.ndarray) -> tuple[Verdict, ...]:
        """Judge each step by its support, float64 [step], and by what raises it."""
        found: list[Verdict] = []
        for row, nats in zip(self.raised, support):
            grounds = [k for k, verdict in enumerate(found) if verdict != "unsupported"]
            follows = any(row[k] >= self.threshold_nat for k in grounds)
            found.append("heard" if nats >= self.threshold_nat else "follows" if follows else "unsupported")
        return tuple(found)

    @property
    def unsupported(self) -> tuple[Step, ...]:
        """The steps without acoustic evidence, direct or through an earlier step."""
        return tuple(step for step, verdict in zip(self.steps, self.verdicts) if verdict == "unsupported")

    @property
    def _notes(self) -> dict[str, object]:
        return {"threshold_nat": self.threshold_nat, "clip": self.clip, **self.notes}

    def _axis(self, name: str) -> Axis:
        return Axis(name, labels=[f"{k + 1} {step.text}" for k, step in enumerate(self.steps)])


def evidence_map(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int],
    *,
    clip: int = 0,
    others: Sequence[Waveform] = (),
    threshold_nat: float = THRESHOLD_NAT,
    window_s: float | None = None,
    hop_s: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Evidence:
    """Find what each step of a thought rests on.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given.
        reply_ids: What it thought and answered (`Turn.ids`).
        clip: Which clip of the conversation, counted from 0.
        others: Other recordings to put in place of the clip besides silence and noise; the more they are like what
            the model usually hears, the more support means.
        threshold_nat: From how many nats on something counts as evidence.
        window_s: Length of a muted window, as for `occlusion_map`.
        hop_s: From one window to the next, likewise.
        progress: Told what is being done and how much of it is done.
        cancel: Looked at between batches; what was not reached is NaN.

    Raises:
        TraceError: If the reply has no thought, or there is no such clip.
    """
    steps = steps_of(loaded, conversation, reply_ids)
    if not steps or steps[0].part != THOUGHT:
        raise _refusal("a reply without a thought", "the ids of a turn that thought before it answered")
    shared = {"progress": progress, "cancel": cancel}
    windows = occlusion_map(loaded, conversation, reply_ids, clip=clip, window_s=window_s, hop_s=hop_s, **shared)
    sounds = _other_sounds(clip_of(conversation, clip), others)
    versions = [with_clip(conversation, clip, sound) for sound in sounds.values()]
    rows = ReplyScorer(loaded, conversation, reply_ids).score(versions, n=len(versions), **shared)
    return Evidence(
        steps=steps,
        windows=windows,
        baseline=_by_step(windows.baseline, steps),
        instead=np.array([_by_step(row, steps) for row in rows]),
        sounds=tuple(sounds),
        raised=_raised(loaded, conversation, reply_ids, steps, windows.baseline, **shared),
        threshold_nat=threshold_nat,
        clip=clip,
    )


def _other_sounds(sound: Waveform, others: Sequence[Waveform]) -> dict[str, Waveform]:
    """Return what is put in place of a clip: silence, white noise as loud as the clip, and other recordings."""
    noises = {f"noise {seed}": Edit("noise", seed=seed, settings={"colour": "white"})(sound) for seed in range(NOISES)}
    return {"silence": Edit("mute")(sound), **noises, **{f"other {k}": other for k, other in enumerate(others)}}


def _by_step(row: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    return np.array([row[list(step.queries)].sum() for step in steps])


def _raised(
    loaded: Any, conversation: Conversation, reply_ids: Sequence[int], steps: Sequence[Step], whole: np.ndarray, **how
) -> np.ndarray:
    """Hide each step from those behind it, and see what they lose, [step, earlier step]."""
    n_prompt = len(loaded.processor.encode(with_reply(conversation)).ids)
    knockouts = [
        Knockout(tuple(n_prompt + query for query in step.queries), n_prompt + max(step.queries)) for step in steps[:-1]
    ]
    found = np.full((len(steps), len(steps)), np.nan)
    rows = score_knockouts(loaded, conversation, reply_ids, knockouts, **how)
    for column, row in enumerate(rows):
        for later in range(column + 1, len(steps)):
            found[later, column] = (whole - row)[list(steps[later].queries)].sum()
    return found


# --- attention ----------------------------------------------------------------------------------------------------


def attention_by_step(trace: Trace, *, segment: str = "audio") -> Statistic:
    """Return which share of its attention each step pays to the sound, mean over its tokens, heads and layers, [step].

    Args:
        trace: With attention over segments; `analysis.segments.without_sinks(trace)` to leave sinks out.
        segment: Another segment to ask for, such as `thought` or `system`.
    """
    steps, names = thought_steps(trace), trace.meta.segments
    if "attention.segments" not in trace.tensors or segment not in names or not steps:
        found = f"segments {list(names)} and {len(steps)} steps"
        raise _refusal(found, f"a captured turn with a thought and a segment {segment!r}")
    each = trace.tensors["attention.segments"][..., names.index(segment)].astype(np.float64).mean(axis=(0, 1))
    values = [each[list(step.queries)].mean() for step in steps]
    axis = Axis("step", labels=[f"{k + 1} {step.text}" for k, step in enumerate(steps)])
    return Statistic(f"attention to {segment}", values, (axis,), "share", n=len(each))


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Generate with `GenerationOptions(think=True)`, or open a thought in the conversation."
    return TraceError("look into a thought", found=found, expected=expected, todo=todo)
