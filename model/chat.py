"""Messages, the chat template, and the small syntaxes inside a reply: spoken groups, thoughts, tool calls.

    Conversation ──render──> pieces ──(processor: tokenizer, audio)──> ids
                 <──parse──

    <|BOT|>system\\nBe brief.<|EOT|>  <|BOT|>human\\n [sound] <|EOT|>  <|BOT|>assistant\\n          <- open turn
    ControlPiece TextPiece  Control   Control Text   Audio   Control  Control Text

Turns are glued without a newline. Each `TextPiece` is tokenised on its own: BPE never merges across pieces, as in
the official code, where a string is one tokenizer call with its header and list items are calls of their own.
Control tokens are pieces, never characters: whatever a person types stays text, `<|EOT|>` included.

This file knows no ids but those it is handed (`TokenIds`) and no tokenizer.

Source: the official Step-Audio 2 wrapper (roles, template, list items, `eot`), its vLLM fork (tool calls, TA4).
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from model.audio import Waveform, load_waveform
from model.errors import ConversationError
from model.messages import (
    PLAIN,
    ROLE_ALIASES,
    ROLES,
    WRITABLE_CONTROLS,
    Audio,
    AudioCodes,
    AudioPiece,
    Control,
    ControlPiece,
    Conversation,
    IdsPiece,
    Message,
    Part,
    Piece,
    RawIds,
    SpokenPiece,
    Text,
    TextPiece,
    Thought,
    ToolCall,
    ToolResult,
)
from model.tokens import BOT, EOT, TOOL_CALL, TOOL_CALL_END, TTS_START, TokenIds

__all__ = [
    "PLAIN",
    "Audio",
    "AudioCodes",
    "AudioPiece",
    "Control",
    "ControlPiece",
    "Conversation",
    "IdsPiece",
    "Message",
    "Part",
    "Piece",
    "RawIds",
    "SpokenPiece",
    "Text",
    "TextPiece",
    "Thought",
    "ToolCall",
    "ToolResult",
    "from_messages",
    "pack_ta4",
    "parse",
    "parse_tool_calls",
    "render",
    "render_messages",
    "split_thought",
    "unpack_ta4",
    "with_reply",
]

THINK_START, THINK_END = "<think>", "</think>"
"""Tags around a thought; ordinary text to the tokenizer."""
THINK_PREFIX = f"\n{THINK_START}\n"
THINK_SUFFIX = f"{THINK_END}\n\n"
CODES_PER_TEXT = 4
"""Speech slots after each text slot of a spoken reply."""


# --- conversation -> pieces and back ------------------------------------------------------------


def render(conversation: Sequence[Message]) -> list[Piece]:
    """Lay out a conversation as pieces.

    Raises:
        ConversationError: If a turn before the last one is open.
    """
    return [piece for message in render_messages(conversation) for piece in message]


def render_messages(conversation: Sequence[Message]) -> list[list[Piece]]:
    """Lay out a conversation as pieces, one list per message."""
    check_conversation(conversation)
    return [_render_message(message) for message in conversation]


def check_conversation(conversation: Sequence[Message]) -> None:
    """Refuse an empty conversation, things that are no messages, and an open turn in the middle."""
    problem = None
    if not conversation:
        problem = "no message"
    elif any(not isinstance(message, Message) for message in conversation):
        problem = "something that is no Message"
    elif any(not message.closed for message in conversation[:-1]):
        problem = "an open turn before the last one"
    if problem:
        raise ConversationError(
            "read a conversation",
            found=problem,
            expected="a tuple of Message, all closed but possibly the last",
            todo="Close earlier turns, and use from_messages for the official dictionaries",
        )


def _render_message(message: Message) -> list[Piece]:
    body = [piece for part in message.parts for piece in _render_part(part, message.closed)]
    body = [piece for piece in body if piece != TextPiece("")]
    if message.role == PLAIN:
        return body
    joined = _joins(body) if message.joined is None else message.joined
    header = f"{message.role}\n"
    if joined and body and isinstance(body[0], TextPiece):
        header += body.pop(0).text
    end = [ControlPiece(EOT)] if message.closed else []
    return [ControlPiece(BOT), TextPiece(header), *body, *end]


def _render_part(part: Part, closed: bool) -> list[Piece]:
    """Pieces of one part; a thought leaves no piece in a closed turn."""
    match part:
        case Text(text) | ToolResult(content=text):
            return [TextPiece(text)]
        case Control(name):
            return [ControlPiece(name)]
        case Audio(waveform):
            return [AudioPiece(waveform)]
        case AudioCodes(codes, text):
            return [SpokenPiece(text, tuple(codes))]
        case RawIds(ids):
            return [IdsPiece(tuple(ids))]
        case Thought(text):
            return [] if closed else [TextPiece(THINK_PREFIX + text + THINK_SUFFIX)]
        case ToolCall(name, arguments):
            call = f"function\n{name}\n{json.dumps(dict(arguments), ensure_ascii=False)}"
            return [ControlPiece(TOOL_CALL), TextPiece(call), ControlPiece(TOOL_CALL_END)]
    raise AssertionError(f"a part without a rendering: {type(part).__name__}")


def _joins(body: Sequence[Piece]) -> bool:
    """Whether these pieces could be one official string content: text and controls, no two texts in a row."""
    if not all(isinstance(piece, TextPiece | ControlPiece) for piece in body):
        return False
    pairs = zip(body, body[1:], strict=False)
    return not any(isinstance(a, TextPiece) and isinstance(b, TextPiece) for a, b in pairs)


def parse(pieces: Iterable[Piece]) -> Conversation:
    """Rebuild the conversation that renders to these pieces.

    What the template writes as text or control tokens comes back as `Text` and `Control`: a tool call or result
    returns in that form, and a thought that history forgot stays forgotten.

    Raises:
        ConversationError: If a turn does not start with `<|BOT|>` and a known role, or is glued to an open one.
    """
    messages: list[Message] = []
    turn: list[Piece] | None = None
    plain: list[Piece] = []
    for piece in pieces:
        if piece == ControlPiece(BOT):
            if turn is not None:
                raise _unparsable("a turn that starts inside another one")
            turn = []
        elif piece == ControlPiece(EOT):
            if turn is None:
                raise _unparsable("an end without a turn")
            messages.append(_parse_turn(turn, closed=True))
            turn = None
        else:
            (plain if turn is None else turn).append(piece)
    if turn is not None:
        messages.append(_parse_turn(turn, closed=False))
    if plain and messages:
        raise _unparsable("content outside the turns")
    return (Message(PLAIN, tuple(map(_parse_piece, plain))),) if plain else tuple(messages)


def _unparsable(found: str) -> ConversationError:
    return ConversationError(
        "read pieces as a conversation",
        found=found,
        expected="turns of <|BOT|>, a role, a newline, content and <|EOT|>, or content without any turn",
        todo="Pass pieces as `render` makes them",
    )


def _parse_turn(pieces: Sequence[Piece], *, closed: bool) -> Message:
    header, *body = pieces or [None]
    role, newline, first = header.text.partition("\n") if isinstance(header, TextPiece) else ("?", "", "")
    if not newline or role not in ROLES or role == PLAIN:
        raise _unparsable(f"a turn that starts with {header!r:.60}")
    whole = [TextPiece(first), *body] if first else body
    joined = bool(first) if whole and isinstance(whole[0], TextPiece) else None
    parts = tuple(map(_parse_piece, whole))
    return Message(role, parts, closed, joined=None if joined == _joins(whole) else joined)


def _parse_piece(piece: Piece) -> Part:
    match piece:
        case TextPiece(text):
            return Text(text)
        case ControlPiece(name):
            return Control(name)
        case AudioPiece(waveform):
            return Audio(waveform)
        case SpokenPiece(text, codes):
            return AudioCodes(codes, text)
        case IdsPiece(ids):
            return RawIds(ids)
    raise _unparsable(f"an object of type {type(piece).__name__}")


def with_reply(conversation: Sequence[Message], *, speak: bool = False, think: bool = False) -> Conversation:
    """Open the assistant's turn if it is not open yet.

    Args:
        conversation: Messages; one that ends open, or without template, is returned as it is.
        speak: Start the reply with `<tts_start>`, so that it is spoken.
        think: Start it with a thought instead; what follows the thought is the caller's to open.
    """
    check_conversation(conversation)
    last = conversation[-1]
    if not last.closed or last.role == PLAIN:
        return tuple(conversation)
    prefix: tuple[Part, ...] = (Control(TTS_START),) if speak else ()
    prefix = (Text(THINK_PREFIX),) if think else prefix
    return (*conversation, Message("assistant", prefix, closed=False))


# --- the official dictionaries ------------------------------------------------------------------


def from_messages(messages: Sequence[Any]) -> Conversation:
    """Read the message lists of the official examples.

    Chat form: dictionaries with `role` and `content`, where content is a string, None (an open turn) or a list of
    items, and `"eot": False` leaves the turn open. Base form, without roles: strings and items in a row. Items are
    `{"type": "text", "text": ...}`, `{"type": "audio", "audio": path, bytes, file or Waveform}` and
    `{"type": "token", "token": [ids]}`.

    The author of an assistant turn may write control tokens (`WRITABLE_CONTROLS`); a base string may end in
    `<tts_start>`. Anywhere else they are ordinary text, unlike in the official code.

    Raises:
        ConversationError: Naming the first entry that is neither.
        AudioError: If a recording cannot be read.
    """
    messages = list(messages)
    with_role = [isinstance(message, Mapping) and "role" in message for message in messages]
    if all(with_role):
        conversation = tuple(map(_from_chat_entry, messages))
    elif not any(with_role):
        conversation = (Message(PLAIN, tuple(part for entry in messages for part in _from_base_entry(entry))),)
    else:
        raise _bad_entry(messages[with_role.index(False)], "entries all with a role, or all without")
    check_conversation(conversation)
    return conversation


def _bad_entry(entry: Any, expected: str) -> ConversationError:
    return ConversationError(
        "read a message list",
        found=f"the entry {entry!r:.80}",
        expected=expected,
        todo="See from_messages for the accepted forms",
    )


def _from_chat_entry(entry: Mapping[str, Any]) -> Message:
    role, content = ROLE_ALIASES.get(entry["role"], entry["role"]), entry.get("content")
    closed = content is not None and bool(entry.get("eot", True))
    trusted = role == "assistant"
    if content is None or isinstance(content, str):
        return Message(role, _split_text(content or "", trusted), closed)
    if not isinstance(content, Sequence):
        raise _bad_entry(entry, "content that is a string, a list of items or None")
    parts = tuple(part for item in content for part in _from_item(item, trusted))
    could_join = _joins([piece for part in parts for piece in _render_part(part, closed)])
    return Message(role, parts, closed, joined=False if could_join else None)


def _from_base_entry(entry: Any) -> tuple[Part, ...]:
    if not isinstance(entry, str):
        return _from_item(entry, trusted=False)
    if entry.endswith(TTS_START):
        return (*_split_text(entry.removesuffix(TTS_START), trusted=False), Control(TTS_START))
    return _split_text(entry, trusted=False)


def _from_item(item: Any, trusted: bool) -> tuple[Part, ...]:
    """Parts of one list item."""
    match item:
        case {"type": "text", "text": str(text)}:
            return _split_text(text, trusted)
        case {"type": "audio", "audio": Waveform() as waveform}:
            return (Audio(waveform),)
        case {"type": "audio", "audio": source}:
            return (Audio(load_waveform(source), name=str(source) if isinstance(source, str) else ""),)
        case {"type": "token", "token": ids} if all(isinstance(i, int) for i in ids):
            return (RawIds(tuple(ids)),)
    raise _bad_entry(item, 'an item of type "text", "audio" or "token" with a value under that name')


_CONTROL_PATTERN = re.compile("(" + "|".join(map(re.escape, WRITABLE_CONTROLS)) + ")")


def _split_text(text: str, trusted: bool) -> tuple[Part, ...]:
    """Text as parts; control tokens become `Control` only where the author is trusted."""
    spans = _CONTROL_PATTERN.split(text) if trusted else [text]
    return tuple(Control(s) if trusted and s in WRITABLE_CONTROLS else Text(s) for s in spans if s)


# --- spoken replies: one text slot, four code slots ---------------------------------------------


class SpokenIds(NamedTuple):
    """A spoken reply taken apart."""

    text_ids: tuple[int, ...]
    codes: tuple[int, ...]
    rest_ids: tuple[int, ...]
    """What followed `<tts_end>`: plain text such as a tool call, and the end of the turn."""
    finished: bool
    """Whether `<tts_end>` was there."""


def pack_ta4(text_ids: Sequence[int], codes: Sequence[int], ids: TokenIds, *, short_pad: bool = False) -> list[int]:
    """Interleave a spoken reply: `<tts_start> t a a a a  t a a a a ... <tts_end>`.

    Whichever runs out first is padded: text slots with `<tts_pad>`, code slots with the id after the last code.

    Args:
        text_ids: Text of the reply.
        codes: Speech codes, 25 per second.
        ids: Ids of the tokenizer in use.
        short_pad: Pad the codes only to the number of groups, as the official server does by mistake.
    """
    n_groups = max(-(-len(codes) // CODES_PER_TEXT), len(text_ids))
    texts = [*text_ids, *[ids.tts_pad] * (n_groups - len(text_ids))]
    slots = [ids.id_of(code) for code in codes]
    wanted = n_groups if short_pad else n_groups * CODES_PER_TEXT
    slots += [ids.code_pad] * (wanted - len(slots))
    packed = [ids.tts_start]
    for group, text in enumerate(texts):
        packed += [text, *slots[CODES_PER_TEXT * group : CODES_PER_TEXT * (group + 1)]]
    return [*packed, ids.tts_end]


def unpack_ta4(reply_ids: Sequence[int], ids: TokenIds) -> SpokenIds:
    """Take a spoken reply apart; a leading `<tts_start>` may be there or not (it is often part of the prompt)."""
    body = list(reply_ids)
    if body[:1] == [ids.tts_start]:
        body.pop(0)
    finished = ids.tts_end in body
    end = body.index(ids.tts_end) if finished else len(body)
    spoken = body[:end]
    in_slots = [i for i in spoken if ids.first_code <= i <= ids.code_pad]
    texts = [i for i in spoken if not ids.first_code <= i <= ids.code_pad and i != ids.tts_pad]
    codes = tuple(ids.code_of(i) for i in in_slots if i != ids.code_pad)
    return SpokenIds(tuple(texts), codes, tuple(body[end + 1 :]), finished)


# --- thoughts and tool calls inside generated text ----------------------------------------------


class ThoughtSplit(NamedTuple):
    """A reply that began with a thought."""

    thought: str
    answer: str
    finished: bool
    """Whether the thought was closed; if not, there is no answer yet."""


def split_thought(text: str, *, opened: bool = False) -> ThoughtSplit:
    """Separate a thought from the answer after it.

    Args:
        text: Generated text.
        opened: Whether the prompt already ended in `<think>`, so that the text starts inside the thought.
    """
    head = text.lstrip()
    if head.startswith(THINK_START):
        head, opened = head.removeprefix(THINK_START), True
    if not opened:
        return ThoughtSplit("", text, True)
    thought, tag, answer = head.partition(THINK_END)
    return ThoughtSplit(thought.strip(), answer.lstrip(), bool(tag))


class ToolCalls(NamedTuple):
    """Tool calls found in a reply."""

    calls: tuple[ToolCall, ...]
    content: str
    """The text before the first and after the last call."""
    malformed: tuple[str, ...]
    """Bodies between the tags that are no valid call; nothing is run for them."""


def parse_tool_calls(text: str, names: Collection[str] | None = None) -> ToolCalls:
    """Find `<tool_call>function\\n{name}\\n{json}</tool_call>` in a reply.

    Args:
        text: Generated text, control tokens spelled out. A call without its end is left in the content.
        names: Tools that exist; a call to another one is malformed. None accepts every name.
    """
    pattern = re.compile(re.escape(TOOL_CALL) + "(.*?)" + re.escape(TOOL_CALL_END), re.DOTALL)
    found = list(pattern.finditer(text))
    if not found:
        return ToolCalls((), text, ())
    bodies = [match.group(1) for match in found]
    read = [_read_call(body, index, names) for index, body in enumerate(bodies)]
    calls = tuple(call for call in read if call)
    malformed = tuple(body for body, call in zip(bodies, read, strict=True) if call is None)
    return ToolCalls(calls, text[: found[0].start()] + text[found[-1].end() :], malformed)


def _read_call(body: str, index: int, names: Collection[str] | None) -> ToolCall | None:
    """One call, or None when the body is not one (the caller keeps it as malformed)."""
    kind, _, rest = body.strip().partition("\n")
    name, _, arguments = rest.partition("\n")
    try:
        values = json.loads(arguments)
    except ValueError:
        return None
    if kind != "function" or not isinstance(values, dict) or (names is not None and name not in names):
        return None
    return ToolCall(name, values, id=f"call_{index}")
