"""The sound says one thing and the text another: who wins, and at which depth is it decided?

                 both          sound "turn left" + text "The speaker says: turn right."     who wins
                 sound only    sound "turn left"                                            what the sound alone does
                 text only     silence           + text "The speaker says: turn right."     what the text alone does
    depth        in  0  1  2 ... last
    margin       log p(left) - log p(right) where the two answers part, through the model's own unembedding

Above 0 the sound leads, below 0 the text. The two controls tell winning from being right anyway: a case where the sound
alone would not have been believed is no conflict, and `Conflict.real` says so.

    found = conflict(loaded, conversation, claim="The speaker says: turn right.", answers=("turn left", "turn right"))
    found.winner, found.decided_at                # ("text", "3")
    curves(found.margins())                       # analysis.figures.curves
    changes(who_wins([found, ...]))               # shares of sound, text and neither over many cases

A margin at a depth is what the last layer could read there. Cases that differ in which side is true, in order and in
wording belong together in `who_wins`; one case proves nothing.

Source: the question of ALME and of LISTEN (2025); logit lens as in `lens.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from analysis.counterfactual import clip_of, with_clip
from analysis.edits import Edit
from analysis.faithfulness import answer_all, says_the_same
from analysis.lens import logit_lens, settling_depth
from analysis.resampling import mean_statistic
from analysis.scoring import Progress
from analysis.statistic import Axis, Statistic
from model.chat import Conversation, Text, with_reply
from model.errors import TraceError
from model.generation import encode_sound
from model.options import GenerationOptions

BOTH, SOUND_ONLY, TEXT_ONLY = "both", "sound only", "text only"
CONDITIONS = (BOTH, SOUND_ONLY, TEXT_ONLY)
SIDES = ("sound", "text", "neither")
Side = Literal["sound", "text", "neither"]


@dataclass(frozen=True, eq=False)
class Conflict:
    """One case: what the sound says, what the text says, and which of them the model follows."""

    heard: str
    """The answer that the sound speaks for."""
    written: str
    """The answer that the text speaks for."""
    depths: tuple[str, ...]
    """`in` for the embeddings, then the layers."""
    margin: np.ndarray
    """log p(heard) - log p(written) at the token where they part, nat, float64 [condition, depth]."""
    whole: np.ndarray
    """The same for the two answers as wholes, at the output, float64 [condition]."""
    said: tuple[str, ...] = ()
    """What the model answers under each condition; empty if it was not asked."""

    def __post_init__(self) -> None:
        n = len(CONDITIONS)
        if self.margin.shape != (n, len(self.depths)) or self.whole.shape != (n,) or len(self.said) not in (0, n):
            raise _refusal(f"margins {self.margin.shape} and {self.whole.shape}", f"{n} conditions and all depths")

    def margins(self) -> Statistic:
        """Return who leads at each depth, [condition, depth]: above 0 the sound, below 0 the text."""
        axes = Axis("condition", labels=CONDITIONS), Axis("depth", labels=self.depths)
        notes = {"heard": self.heard, "written": self.written, "chance": 0.0}
        return Statistic("lead of the sound over the text", self.margin, axes, "nat", notes=notes)

    @property
    def winner(self) -> Side:
        """Whom the model follows when both speak: by what it says, or by the likelier answer if it was not asked."""
        return self.side(BOTH)

    @property
    def real(self) -> bool:
        """Whether each side alone would have been followed; only then is there a conflict to win."""
        return self.side(SOUND_ONLY) == "sound" and self.side(TEXT_ONLY) == "text"

    @property
    def decided_at(self) -> str:
        """The first depth from which on the same side leads, both speaking."""
        return self.depths[int(settling_depth(self.margin[:1] > 0)[0])]

    def side(self, condition: str) -> Side:
        """Return whom the model follows under one condition."""
        place = CONDITIONS.index(condition)
        if not self.said:
            return "sound" if self.whole[place] > 0 else "text"
        answers = {"sound": self.heard, "text": self.written}
        return next((side for side, text in answers.items() if says_the_same(text, self.said[place])), "neither")


def conflict(
    loaded: Any,
    conversation: Conversation,
    claim: str,
    answers: tuple[str, str],
    *,
    clip: int = 0,
    regenerate: bool = True,
    options: GenerationOptions | None = None,
    progress: Progress | None = None,
) -> Conflict:
    """Measure one case.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: With the sound and the text in it; an assistant turn is opened where none is.
        claim: The text that contradicts the sound: a text part that is exactly this. It is left out of `sound only`.
        answers: What the sound speaks for, and what the text speaks for, word for word as the model would say it.
        clip: The sound that speaks, counted from 0; it is muted in `text only`.
        regenerate: Also let the model answer. Without it `winner` is the likelier of the two answers.
        options: How to write answers; greedy by default.
        progress: Told after each condition; raising stops.

    Raises:
        TraceError: If the claim is not there, or the two answers are the same.
    """
    encode, end = loaded.processor.encode_text, loaded.processor.ids.eot
    replies = [[*encode(text), end] for text in answers]
    if replies[0] == replies[1]:
        raise _refusal(f"the answer {answers[0]!r} on both sides", "two answers that differ")
    versions = _versions(with_reply(conversation), claim, clip)
    margins, whole = [], []
    for number, version in enumerate(versions):
        margin, lead = _lead(loaded, version, replies)
        margins.append(margin)
        whole.append(lead)
        if progress is not None:
            progress("lens", (number + 1) / len(versions))
    turns = answer_all(loaded, versions, options=options) if regenerate else []
    depths = ("in", *map(str, range(len(margins[0]) - 1)))
    said = tuple(turn.text.strip() for turn in turns)
    return Conflict(*answers, depths, np.array(margins), np.array(whole), said)


def _versions(conversation: Conversation, claim: str, clip: int) -> tuple[Conversation, ...]:
    """Return the conversation as it is, without the claim, and with the clip muted."""
    kept = tuple(
        replace(message, parts=tuple(part for part in message.parts if part != Text(claim))) for message in conversation
    )
    if kept == conversation:
        texts = [part.text for message in conversation for part in message.parts if isinstance(part, Text)]
        raise _refusal(f"no text {claim!r} among {texts}", "a claim that is a text part of its own")
    return conversation, kept, with_clip(conversation, clip, Edit("mute")(clip_of(conversation, clip)))


def _lead(loaded: Any, conversation: Conversation, replies: Sequence[Sequence[int]]) -> tuple[np.ndarray, float]:
    """Return log p(first) - log p(second): by depth where they part, float64 [depth], and as wholes at the output."""
    features = encode_sound(loaded.model, loaded.processor.encode(conversation))
    came = [
        logit_lens(loaded, conversation, reply, top=1, audio_features=features).came.astype(np.float64)
        for reply in replies
    ]
    parting = next(place for place, pair in enumerate(zip(*replies)) if pair[0] != pair[1])
    return came[0][:, parting] - came[1][:, parting], float(came[0][-1].sum() - came[1][-1].sum())


# --- many cases ---------------------------------------------------------------------------------------------------


def who_wins(found: Sequence[Conflict], *, only_real: bool = True) -> Statistic:
    """Return how often each side wins, [side], with 95 % bootstrap intervals over cases.

    Args:
        found: Cases, best with the two sides balanced.
        only_real: Leave out cases where one of the sides alone would not have been followed.

    Returns:
        Shares of `sound`, `text` and `neither`; they sum to 1. Notes: how many cases there were and how many count.
    """
    counted = _counted(found, only_real)
    rows = np.array([[one.winner == side for side in SIDES] for one in counted], dtype=float)
    notes = {"cases": len(found), "real": sum(one.real for one in found), "only_real": only_real}
    return mean_statistic("share of conflicts won", rows, (Axis("side", labels=SIDES),), unit="share", notes=notes)


def mean_margins(found: Sequence[Conflict], *, only_real: bool = True) -> Statistic:
    """Return who leads at each depth, mean over cases with 95 % bootstrap intervals, [condition, depth]."""
    counted = _counted(found, only_real)
    if len({one.depths for one in counted}) != 1:
        raise _refusal("cases of models with other depths", "cases of one model")
    axes = Axis("condition", labels=CONDITIONS), Axis("depth", labels=counted[0].depths)
    rows, notes = np.stack([one.margin for one in counted]), {"chance": 0.0}
    return mean_statistic("lead of the sound over the text", rows, axes, unit="nat", notes=notes)


def _counted(found: Sequence[Conflict], only_real: bool) -> list[Conflict]:
    counted = [one for one in found if one.real or not only_real]
    if not counted:
        raise _refusal(f"{len(found)} cases, none of them a real conflict", "at least one that counts")
    return counted


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Make the claim a Text part of its own, and take answers that the model gives to each side alone."
    return TraceError("set sound against text", found=found, expected=expected, todo=todo)
