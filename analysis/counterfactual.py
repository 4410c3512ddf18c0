"""And if it had not been said? What an edit of the sound does to the answer, in two ways.

    conversation --edit one clip--> conversation'
        --(1) the SAME answer, read in one teacher-forced pass--> change in log-probability of each token
        --(2) a NEW answer, written by the model---------------> what it says now, with a token diff

The first way says how much each token leaned on the sound that is gone, also where the answer stays; the second what
one would have noticed. In a notebook:

    found = counterfactual(loaded, ASR.conversation(sound), Edit("mute", 0.8, 1.2))
    found.change                      # Statistic [query]: nats gained or lost by each token of the answer
    found.answer, found.new_answer    # before, after

Edits that draw noise can be repeated with other seeds; values are then means with 95 % intervals over the seeds.
A change in log-probability is a fact about this model and this edit: an edited sound is also an unusual one, so compare
several kinds of edit (mute, noise, swap) before reading meaning into one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.attention import Word
from analysis.capture import token_texts
from analysis.edits import Edit
from analysis.scoring import Progress, ReplyScorer, repeat_interval
from analysis.statistic import Axis, Effect, Statistic
from model.audio import Waveform
from model.chat import Audio, Conversation
from model.errors import TraceError
from model.events import Turn
from model.generation import generate_batch
from model.options import GenerationOptions
from model.tasks.metrics import Edit as TokenEdit
from model.tasks.metrics import align, bootstrap_interval

METRIC = "log-probability of the answer"
NO_SOUND = "no sound at all"


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """What one edit of one clip did to one answer."""

    edit: Edit | None
    """What was done; None took the clip out of the prompt."""
    clip: int
    """Which clip of the conversation, counted from 0."""
    tokens: tuple[str, ...]
    """Texts of the answer's tokens."""
    before: np.ndarray
    """Natural log-probability of each token with the sound as it was, float64 [token]."""
    after: np.ndarray
    """The same after the edit, float64 [repeat, token]; NaN where the run was cancelled."""
    seeds: tuple[int | None, ...]
    """Seed of each repeat; None for an edit that draws nothing."""
    answer: str
    """What the tokens say."""
    new_turn: Turn | None = None
    """What the model answers to the edited sound (first seed); None if that was not asked for."""
    new_tokens: tuple[str, ...] = ()
    """Texts of the new answer's tokens."""

    @property
    def label(self) -> str:
        """Name of the edit."""
        return NO_SOUND if self.edit is None else self.edit.label

    @property
    def change(self) -> Statistic:
        """What each token gained (above 0) or lost, in nats, [query]; with an interval when there were repeats."""
        return self._statistic(self.after - self.before, (Axis("query", labels=self.tokens),))

    @property
    def total(self) -> Statistic:
        """The same for the whole answer, a single number."""
        return self._statistic((self.after - self.before).sum(axis=1), ())

    @property
    def effect(self) -> Effect:
        """The log-probability of the whole answer, before and for each seed."""
        axis = Axis("seed", labels=tuple(str(seed) for seed in self.seeds))
        return Effect(METRIC, float(self.before.sum()), self.after.sum(axis=1), (axis,))

    @property
    def new_answer(self) -> str | None:
        """What the model says after the edit."""
        return None if self.new_turn is None else self.new_turn.text

    @property
    def diff(self) -> tuple[TokenEdit, ...]:
        """Fewest token edits from the answer to the new one; empty if there is no new one."""
        return () if self.new_turn is None else tuple(align(self.tokens, self.new_tokens))

    @property
    def same_answer(self) -> bool | None:
        """Whether the new answer is the old one, token for token."""
        return None if self.new_turn is None else self.tokens == self.new_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {
            "edit": None if self.edit is None else self.edit.to_dict(),
            "clip": self.clip,
            "seeds": list(self.seeds),
            "answer": self.answer,
            "new_answer": self.new_answer,
            "diff": [step._asdict() for step in self.diff],
            "change": self.change.to_dict(),
            "total": self.total.to_dict(),
        }

    def _statistic(self, values: np.ndarray, axes: tuple[Axis, ...]) -> Statistic:
        mean, low, high = repeat_interval(values)
        notes = {
            "edit": None if self.edit is None else self.edit.to_dict(),
            "clip": self.clip,
            "seeds": list(self.seeds),
        }
        return Statistic(f"change of {METRIC}", mean, axes, "nat", low, high, len(values), notes)


def counterfactual(loaded: Any, conversation: Conversation, edit: Edit | None, **options: Any) -> Counterfactual:
    """Measure one edit; arguments as for `counterfactuals`."""
    return counterfactuals(loaded, conversation, [edit], **options)[0]


def counterfactuals(
    loaded: Any,
    conversation: Conversation,
    edits: Sequence[Edit | None],
    *,
    reply_ids: Sequence[int] | None = None,
    clip: int = 0,
    repeats: int = 1,
    regenerate: bool = True,
    options: GenerationOptions | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Counterfactual, ...]:
    """Measure what each of several edits does to an answer.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given; its last turn is the one it continues.
        edits: What to do to the clip; None takes the clip out of the prompt.
        reply_ids: The answer to look at, exactly as generated (`Turn.ids`); left out, the model answers first.
        clip: Which clip of the conversation to edit, counted from 0.
        repeats: How many seeds to try for edits that draw: the edit's own, and those that follow it.
        regenerate: Also let the model answer the edited sound.
        options: How to write answers; greedy by default.
        progress: Told what is being done and how much of it is done.
        cancel: Looked at between batches; what was not reached is NaN and has no new answer.

    Returns:
        One record for each edit, in order.

    Raises:
        TraceError: If there is no such clip, or no answer.
    """
    waveform = clip_of(conversation, clip)
    reply_ids = answer_of(loaded, conversation, options) if reply_ids is None else reply_ids
    scorer = ReplyScorer(loaded, conversation, reply_ids)
    seeded = [[one] if one is None or one.seed is None else _reseeded(one, repeats) for one in edits]
    asked = [[_edited(conversation, clip, waveform, one) for one in group] for group in seeded]
    rows = [version for group in asked for version in group]
    after = scorer.score(rows, n=len(rows), progress=progress, cancel=cancel)
    parts = np.split(after, np.cumsum([len(group) for group in seeded])[:-1])
    turns: list[Turn | None] = [None] * len(edits)
    if regenerate and not (cancel is not None and cancel.is_set()):
        turns = _answers(loaded, [group[0] for group in asked], options, progress, cancel)
    answer = loaded.processor.decode(reply_ids)
    return tuple(
        Counterfactual(
            edit=group[0],
            clip=clip,
            tokens=token_texts(loaded.processor, reply_ids),
            before=scorer.baseline,
            after=part,
            seeds=tuple(None if one is None else one.seed for one in group),
            answer=answer,
            new_turn=turn,
            new_tokens=() if turn is None else token_texts(loaded.processor, turn.ids),
        )
        for group, part, turn in zip(seeded, parts, turns)
    )


def whole_clip_edits(*, other: Waveform | None = None, seed: int = 0) -> tuple[Edit | None, ...]:
    """Return the edits that ask whether the sound is needed at all: silence, noise, another clip, no sound.

    Args:
        other: Another clip, put in whole, at its own level.
        seed: Seed of the noise.
    """
    edits: list[Edit | None] = [Edit("mute"), Edit("noise", seed=seed)]
    if other is not None:
        whole = {"other": other, "other_end_s": other.duration_s, "match_level": False}
        edits.append(Edit("replace", settings=whole))
    return (*edits, None)


# --- summaries ----------------------------------------------------------------------------------------------------


def by_word(statistic: Statistic, words: Sequence[Word]) -> Statistic:
    """Add up what belongs to tokens over the tokens of each word: [query, ...] becomes [word, ...].

    Args:
        statistic: Values whose first axis is `query`, such as changes of log-probability.
        words: Words of the same reply, as `analysis.attention.words` finds them.
    """
    axis = statistic.axis("query")
    assert axis is statistic.axes[0], "query is the first axis"
    sums = [statistic.values[list(word.queries)].sum(axis=0) for word in words]
    values = np.array(sums).reshape(len(words), *statistic.values.shape[1:])
    axes = (Axis("word", labels=tuple(word.text for word in words)), *statistic.axes[1:])
    return Statistic(statistic.name, values, axes, statistic.unit, notes=statistic.notes)


def compare(found: Sequence[Counterfactual]) -> Statistic:
    """Put several edits of one answer side by side: change of its log-probability, [edit]."""
    totals = [one.total for one in found]
    low, high = (
        [float(getattr(one, end) if one.low is not None else one.values) for one in totals] for end in ("low", "high")
    )
    axis = Axis("edit", labels=tuple(one.label for one in found))
    repeated = any(one.low is not None for one in totals)
    values = [float(one) for one in totals]
    ends = (low, high) if repeated else (None, None)
    return Statistic(
        f"change of {METRIC}", values, (axis,), "nat", *ends, notes={"edits": [one.notes for one in totals]}
    )


def over_clips(groups: Mapping[str, Sequence[Counterfactual]], *, seed: int = 0) -> Statistic:
    """Average the same edit over many clips: mean change per token with a 95 % bootstrap interval over clips, [edit].

    Args:
        groups: Name of an edit -> one record for each clip.
        seed: Seed of the bootstrap.
    """
    means = [[float(one.change.values.mean()) for one in found] for found in groups.values()]
    ends = [bootstrap_interval(values, seed=seed) for values in means]
    return Statistic(
        f"change of {METRIC} per token",
        [np.mean(values) for values in means],
        (Axis("edit", labels=tuple(groups)),),
        "nat",
        [end.low for end in ends],
        [end.high for end in ends],
        n=min(map(len, means)),
        notes={"clips": {name: len(found) for name, found in groups.items()}},
    )


# --- conversations ------------------------------------------------------------------------------------------------


def clip_of(conversation: Conversation, clip: int) -> Waveform:
    """Return the sound of one clip.

    Raises:
        TraceError: If there is no such clip.
    """
    sounds = [part.waveform for message in conversation for part in message.parts if isinstance(part, Audio)]
    if not 0 <= clip < len(sounds):
        raise TraceError(
            f"edit clip {clip} of a conversation",
            found=f"{len(sounds)} clips",
            expected="a clip of that number, counted from 0",
            todo="Correct `clip`.",
        )
    return sounds[clip]


def with_clip(conversation: Conversation, clip: int, sound: Waveform | None) -> Conversation:
    """Return the conversation with another sound in place of one clip; None takes it out."""
    seen, messages = -1, []
    for message in conversation:
        parts = []
        for part in message.parts:
            seen += isinstance(part, Audio)
            if not isinstance(part, Audio) or seen != clip:
                parts.append(part)
            elif sound is not None:
                parts.append(Audio(sound, part.name))
        messages.append(replace(message, parts=tuple(parts)))
    return tuple(messages)


def answer_of(loaded: Any, conversation: Conversation, options: GenerationOptions | None = None) -> tuple[int, ...]:
    """Return the ids of the model's own answer; greedy by default."""
    return generate_batch(loaded.model, loaded.processor, [conversation], options)[0].ids


def _edited(conversation: Conversation, clip: int, sound: Waveform, edit: Edit | None) -> Conversation:
    return with_clip(conversation, clip, None if edit is None else edit(sound))


def _reseeded(edit: Edit, repeats: int) -> list[Edit]:
    return [replace(edit, seed=edit.seed + k) for k in range(repeats)]


def _answers(
    loaded: Any,
    conversations: Sequence[Conversation],
    options: GenerationOptions | None,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> list[Turn | None]:
    """Return what the model answers to each; None for those that were cancelled."""
    tell = progress or (lambda step, fraction: None)
    tell("answer", 0.0)
    turns = generate_batch(loaded.model, loaded.processor, conversations, options, cancel=cancel)
    tell("answer", 1.0)
    return [None if turn.reason == "cancelled" else turn for turn in turns]
