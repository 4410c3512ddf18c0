"""What later turns read of a reply: the ids as they were written, or, where it was broken off, a whole reply from it.

    ended by itself   <tts_start> t a a a a  t a a a a <tts_end> <tool_call>...</tool_call>         every id stays
    stopped           <tts_start> t a a a a  t a a      ->  <tts_start> t a a a a <tts_end>         whole groups stay
    went in circles   my my my my my my                 ->  my                                      the cycle goes
    called in vain    Let me check. <tool_call>...      ->  Let me check.                           the words stay

Source: the official chat examples, where the next turn reads `<tts_start>` and the generated ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model.chat import CODES_PER_TEXT
from model.events import Reason
from model.messages import AudioCodes, Control, Message, Part, RawIds, Text, ToolCall
from model.tokens import TTS_START, TokenIds


@dataclass(frozen=True)
class Written:
    """One reply as it was written, and the answers to its calls."""

    reason: Reason
    ids: tuple[int, ...]
    """Every id; empty where a server tells none."""
    last_shown_id: int | None
    """The last id that stands for words or sound; an end token comes after it."""
    speaks: bool
    """Whether it was opened with `<tts_start>`."""
    spoken_text: str = ""
    """Words beside speech codes."""
    text: str = ""
    """Words without speech, calls left out."""
    codes: tuple[int, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    tried_to_call: bool = False
    """Whether it called a tool, or began to."""
    results: tuple[Message, ...] = ()
    """What the tools answered."""

    @property
    def is_whole(self) -> bool:
        """Whether it ended by itself, and whatever it asked for was answered."""
        return self.reason == "stop" and (not self.tried_to_call or bool(self.results))


def replied(
    replies: Sequence[Written], token_ids: TokenIds | None = None, *, repetition_window: int = 0
) -> tuple[Message, ...]:
    """Return the closed turns of a whole exchange; empty if nothing was answered.

    Args:
        replies: All replies of the turn, in order; only the last one can be broken off.
        token_ids: Ids of the model, to cut a spoken reply between two groups; else it is packed anew.
        repetition_window: Ids that went round in a cycle, where that is the reason.
    """
    left = list(replies)
    while left:
        *before, last = left
        parts = _whole(last) if last.is_whole and not last.results else _cut(last, token_ids, repetition_window)
        if parts is not None:
            return (*so_far(before), Message("assistant", parts))
        left = before
    return ()


def so_far(replies: Sequence[Written]) -> tuple[Message, ...]:
    """Return replies whose calls were answered, as the next reply of the same turn reads them."""
    return tuple(message for reply in replies for message in (Message("assistant", _whole(reply)), *reply.results))


def _whole(reply: Written) -> tuple[Part, ...]:
    ids = reply.ids
    if reply.reason == "stop" and ids[-1:] != (reply.last_shown_id,):
        ids = ids[:-1]  # the end of the turn; the template writes it
    if reply.ids:
        return (*_opening(reply), RawIds(ids))
    return (*_from_words(reply), *reply.calls)


def _cut(reply: Written, token_ids: TokenIds | None, window: int) -> tuple[Part, ...] | None:
    """Return what can stay of a reply that was broken off, or called for nothing; None if nothing can."""
    if not (reply.text.strip() or reply.spoken_text.strip() or reply.codes):
        return None
    by_ids = bool(reply.ids) and not reply.tried_to_call and (token_ids is not None or not reply.speaks)
    if not by_ids:
        return _from_words(reply) or None
    ids = list(reply.ids)
    loop = window * (1 + CODES_PER_TEXT if reply.speaks else 1) if reply.reason == "repetition" else 0
    ids = ids[: len(ids) - loop] if loop else ids
    if reply.speaks:
        ids = _whole_groups(ids, token_ids)
    return (*_opening(reply), RawIds(tuple(ids))) if ids else None


def _whole_groups(ids: list[int], token_ids: TokenIds) -> list[int]:
    """Cut a spoken reply after its last whole group and end it; one whose speech has ended stays as it is."""
    if token_ids.tts_end in ids:
        return ids
    whole = len(ids) - len(ids) % (1 + CODES_PER_TEXT)
    return [*ids[:whole], token_ids.tts_end] if whole else []


def _opening(reply: Written) -> tuple[Part, ...]:
    return (Control(TTS_START),) if reply.speaks else ()


def _from_words(reply: Written) -> tuple[Part, ...]:
    """Build the reply anew from its words and codes."""
    spoken = (AudioCodes(reply.codes, reply.spoken_text),) if reply.codes or reply.spoken_text else ()
    return (*spoken, *([Text(reply.text)] if reply.text else []))
