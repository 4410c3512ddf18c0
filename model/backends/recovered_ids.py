"""The ids behind a reply that came from elsewhere, so that it can be measured and kept as history like one of ours.

    thought </think> | words and codes, interleaved again, <tts_end> | text | <tool_call> ... </tool_call> | <|EOT|>

A server sends text; what it generated were ids. Tokenising the text again gives the same ids whenever the model wrote
the way its tokenizer reads, which it nearly always does; where it did not, the words and codes are the same and only
their cut into tokens differs. That is enough to measure the turn: `capture_trace(loaded, conversation, recovered_ids(
events, loaded.processor), events=events)` reads it once more with a model in this process.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from model.chat import THINK_END, pack_ta4
from model.events import AudioCodesDelta, Event, TextDelta, ThoughtDelta, TurnDone
from model.tokens import TOOL_CALL, TOOL_CALL_END

if TYPE_CHECKING:
    from model.processing_step_audio_2 import StepAudio2Processor

_TAGS = (TOOL_CALL, TOOL_CALL_END)


def recovered_ids(
    events: Iterable[Event], processor: "StepAudio2Processor", *, spoken: bool = False, ended: bool | None = None
) -> tuple[int, ...]:
    """Make the ids of one reply from its events.

    Args:
        events: One reply as its backend yielded it, such as `Round.events` of an assistant's turn.
        processor: Of the checkpoint that shall read the ids.
        spoken: Whether the prompt ended in `<tts_start>`, which then is not part of the reply.
        ended: Whether the model closed its turn itself; None asks `TurnDone`, which cannot tell a stop text apart.

    Returns:
        Ids as `TurnDone.ids` has them for a model in this process.
    """
    events = list(events)
    if ended is None:
        ended = any(isinstance(event, TurnDone) and event.reason == "stop" for event in events)
    thought = "".join(event.text for event in events if isinstance(event, ThoughtDelta))
    said = "".join(event.text for event in events if isinstance(event, TextDelta) and event.spoken)
    plain = "".join(event.text for event in events if isinstance(event, TextDelta) and not event.spoken)
    codes = [code for event in events if isinstance(event, AudioCodesDelta) for code in event.codes]
    went_on = bool(plain or ended)

    before = thought + THINK_END if thought and went_on else thought
    if said or codes:
        packed = pack_ta4(processor.encode_text(said), codes, processor.ids)
        inside = packed[1 if spoken else 0 : None if went_on else -1]
        ids = [*processor.encode_text(before), *inside, *_text_ids(plain, processor)]
    else:
        ids = _text_ids(before + plain, processor)
    return (*ids, processor.ids.eot) if ended else tuple(ids)


def _text_ids(text: str, processor: "StepAudio2Processor") -> list[int]:
    """Ids of text, with the tags of tool calls as the control tokens that they are."""
    tags = dict(zip(_TAGS, processor.tokenizer.convert_tokens_to_ids(list(_TAGS)), strict=True))
    pieces = re.split(f"({'|'.join(_TAGS)})", text)
    return [i for piece in pieces for i in ([tags[piece]] if piece in tags else processor.encode_text(piece))]
