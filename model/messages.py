"""What a conversation is made of: messages, their parts, and the pieces a tokenizer sees.

    Conversation = (Message(role, (Text | Audio | ...)), ...)       what people and programs write
    list[Piece]  = TextPiece | ControlPiece | AudioPiece | ...      what the template makes of it

Records only; how one becomes the other is in `model/chat.py`, which also hands these names on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model.audio import Waveform
from model.errors import ConversationError
from model.tokens import TOOL_CALL, TOOL_CALL_END, TTS_END, TTS_PAD, TTS_START

PLAIN = ""
"""Role of a message without template: what the base model reads."""
ROLES = ("system", "human", "assistant", "tool_json_schemas", "input", PLAIN)
ROLE_ALIASES = {"user": "human", "tool": "input"}
WRITABLE_CONTROLS = (TTS_START, TTS_END, TTS_PAD, TOOL_CALL, TOOL_CALL_END)
"""Control tokens that the author of an assistant turn may write; those of the template are never content."""


# --- parts of a message -------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """Words to read. Control tokens inside are ordinary characters."""

    text: str

    def __post_init__(self) -> None:
        """Refuse what no tokenizer can encode."""
        if not isinstance(self.text, str) or not _is_encodable(self.text):
            raise ConversationError(
                "make a text part",
                found=f"{type(self.text).__name__} {self.text!r:.60}",
                expected="a string of valid Unicode",
                todo="Decode bytes first, and drop lone surrogates",
            )


@dataclass(frozen=True)
class Control:
    """A control token written on purpose by the author of the turn, one of `WRITABLE_CONTROLS`."""

    name: str

    def __post_init__(self) -> None:
        """Refuse the tokens of the template itself."""
        if self.name not in WRITABLE_CONTROLS:
            raise ConversationError(
                "put a control token into a message",
                found=repr(self.name),
                expected=f"one of {', '.join(WRITABLE_CONTROLS)}",
                todo="Use Text for characters, and RawIds for ids that a model generated",
            )


@dataclass(frozen=True)
class Audio:
    """A recording to listen to, of any length and rate."""

    waveform: Waveform
    name: str = ""
    """For people only, such as the file name."""

    def __post_init__(self) -> None:
        """Refuse bare arrays: without a rate they have no meaning."""
        if not isinstance(self.waveform, Waveform):
            raise ConversationError(
                "make an audio part",
                found=f"an object of type {type(self.waveform).__name__}",
                expected="a Waveform",
                todo="Read files with load_waveform, wrap arrays with Waveform(samples, rate)",
            )


@dataclass(frozen=True)
class AudioCodes:
    """Speech of the assistant: codes at 25 Hz, with the words they say when known."""

    codes: tuple[int, ...]
    text: str = ""


@dataclass(frozen=True)
class RawIds:
    """Ids exactly as a model generated them; the faithful form of a past reply."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Thought:
    """What the assistant thought. Rendered in an open turn only: history forgets thoughts."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The assistant asks for a tool."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered; a part of an `input` message."""

    content: str
    name: str = ""
    id: str = ""


Part = Text | Control | Audio | AudioCodes | RawIds | Thought | ToolCall | ToolResult


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: str
    """One of `ROLES`; the person who speaks is `human`."""
    parts: tuple[Part, ...] = ()
    closed: bool = True
    """False leaves the turn open for the model to continue; only the last one can be."""
    joined: bool | None = None
    """Whether the header and the first text are one tokenizer call. None: as for the official string
    content when the parts could be one string, as for its list content otherwise."""

    def __post_init__(self) -> None:
        """Refuse unknown roles and parts that are no parts."""
        object.__setattr__(self, "parts", tuple(self.parts))
        wrong = [type(part).__name__ for part in self.parts if not isinstance(part, Part)]
        if self.role not in ROLES or wrong:
            raise ConversationError(
                "make a message",
                found=f"role {self.role!r}" + (f" with parts of type {', '.join(wrong)}" if wrong else ""),
                expected=f"a role among {', '.join(filter(None, ROLES))} and a tuple of parts such as Text or Audio",
                todo="Use from_messages for the official dictionaries; wrap strings in Text",
            )


Conversation = tuple[Message, ...]


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# --- pieces: what the tokenizer sees, call by call ----------------------------------------------


@dataclass(frozen=True)
class TextPiece:
    """Characters of one tokenizer call."""

    text: str


@dataclass(frozen=True)
class IdsPiece:
    """Ids that are already there."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class AudioPiece:
    """A recording; becomes one block of placeholders per 25 s."""

    waveform: Waveform


@dataclass(frozen=True)
class ControlPiece:
    """One control token, by name."""

    name: str


@dataclass(frozen=True)
class SpokenPiece:
    """Words and codes that become groups of one text and four codes."""

    text: str
    codes: tuple[int, ...]


Piece = TextPiece | IdsPiece | AudioPiece | ControlPiece | SpokenPiece
