"""How long the assistant may think, and how a thought ends: by itself, or cleanly when its budget is spent.

    prompt          ...assistant\n\n<think>\n
    written         It was a woman. She asked for tea                    <- budget spent here
    next prompt     ...assistant\n\n<think>\nIt was a woman. She asked for tea\n</think>\n\n<tts_start>

The ids of the thought stay as they were written, so the second prompt continues the first one id by id. Only an
unfinished character, the beginning of a tag or a cycle that went round and round is taken off its end.

Source: the official thinking example (a first pass up to `</think>`, a second one after it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from model.chat import THINK_END, THINK_PREFIX, THINK_SUFFIX
from model.errors import OptionsError
from model.events import ThoughtDelta, TurnDone
from model.messages import Part, RawIds, Text, Thought

Budget = Literal["none", "free"] | int
FREE_TOKENS = 2048
"""Where even a free thought ends; the official example allows as many."""
_AFTER_TAG = THINK_SUFFIX.removeprefix(THINK_END)


def check_budget(budget: Budget) -> None:
    """Refuse what is no budget.

    Raises:
        OptionsError: If it is neither a number of tokens, "none" nor "free".
    """
    number = isinstance(budget, int) and not isinstance(budget, bool)
    if (number and budget >= 0) or budget in ("none", "free"):
        return
    raise OptionsError(
        "give the assistant time to think",
        found=f"think={budget!r}",
        expected='"none", "free" or a number of tokens, 0 or more',
        todo="Correct the option",
    )


def most_tokens(budget: Budget) -> int:
    """Return how many tokens a thought may have; 0 for none at all."""
    check_budget(budget)
    if isinstance(budget, str):
        return FREE_TOKENS if budget == "free" else 0
    return min(budget, FREE_TOKENS)


@dataclass(frozen=True)
class FinishedThought:
    """A thought, and how the next prompt begins with it."""

    text: str
    parts: tuple[Part, ...]
    """First parts of the assistant's open turn."""
    closed_itself: bool
    """Whether the model wrote `</think>`; else its budget ended it, the end of the turn or a cycle."""


def finish_thought(
    deltas: Sequence[ThoughtDelta], after: str, done: TurnDone, *, repetition_window: int = 0
) -> FinishedThought:
    """Close a thought, however it ended.

    Args:
        deltas: What was thought; the last one carries the ids of the tag, if there is one.
        after: Text that came with the tag's last id.
        done: How the pass ended.
        repetition_window: Ids that went round in a cycle, where that is the reason.
    """
    kept = list(deltas)
    # The id that ends a turn belongs to no delta, the id that ends the tag belongs to the last one.
    closed = done.reason == "stop" and (not done.ids or bool(kept) and done.ids[-1:] == kept[-1].ids[-1:])
    if done.reason == "repetition":
        kept = _without_last_ids(kept, repetition_window)
    if not closed:
        kept = _without_loose_end(kept)
    text = "".join(delta.text for delta in kept)
    ids = tuple(i for delta in kept for i in delta.ids)
    if not done.ids or (closed and not _AFTER_TAG.startswith(after)):
        return FinishedThought(text.strip(), (Thought(_ended(text)),), closed)
    rest = _AFTER_TAG.removeprefix(after) if closed else _ended(text)[len(text) :] + THINK_SUFFIX
    parts = (Text(THINK_PREFIX), RawIds(ids), Text(rest)) if ids else (Text(THINK_PREFIX + rest),)
    return FinishedThought(text.strip(), tuple(p for p in parts if p != Text("")), closed)


def _ended(text: str) -> str:
    """End the last line of a thought."""
    return text if not text or text.endswith("\n") else text + "\n"


def _without_last_ids(deltas: list[ThoughtDelta], n_ids: int) -> list[ThoughtDelta]:
    """Take off the deltas that hold the last so many ids."""
    while deltas and n_ids > 0:
        n_ids -= len(deltas[-1].ids)
        deltas = deltas[:-1]
    return deltas


def _without_loose_end(deltas: list[ThoughtDelta]) -> list[ThoughtDelta]:
    """Take off an unfinished character, and words in which a tag began that never ended."""
    while deltas and (not deltas[-1].text or _begins_tag(deltas[-1].text)):
        deltas = deltas[:-1]
    return deltas


def _begins_tag(text: str) -> bool:
    return any(text.endswith(THINK_END[:n]) for n in range(1, len(THINK_END)))
