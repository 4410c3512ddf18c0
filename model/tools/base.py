"""What a tool is: a name, a description, a schema, and one verb, `run`.

    ToolCall ──Toolbox.run──> check arguments ──> tool.run(arguments, context) ──> ToolOutput(text, data, source)
                                                                                        │
    ToolResult (what the model reads) <── guarded text <── size limit <─────────────────┘

A tool is plain synchronous Python that may be called from any thread, several calls at once. It raises `ToolError` for
what it cannot do; the time limit, the size limit and everything unexpected are the toolbox's business.

What others wrote (a page, a description, a server's answer) is data. `quote` puts it between quotation marks on one
line, and no text of a tool ever spells a control token: see `guard`. The structured `data` is not for the model but for
people and programs; it keeps such text as it came, so whoever shows it has to escape it.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from model.errors import ToolError

LANGUAGES = ("en", "zh")
MAX_QUOTE_CHARS = 300
_HAN = re.compile(r"[\u3400-\u9fff]")
_ANGLES = str.maketrans("<>", "‹›")
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}
"""Unicode categories that no reader sees: controls, zero-width and direction marks, surrogates, private use."""


def utc_now() -> datetime:
    """Return the present moment, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class ToolContext:
    """What a tool may know about the conversation it is called from."""

    language: str = "en"
    """Language of the answer where the arguments do not tell: "en" or "zh"."""
    time_zone: str = "UTC"
    """The person's time zone, an IANA name."""
    place: str = ""
    """Where the person is; what "here" means."""
    voice: str = ""
    """Id of the voice that speaks now, if it came from a library."""
    now: Callable[[], datetime] = field(default=utc_now)
    """The present moment, with a zone; tests and replays put their own."""
    cancel: threading.Event | None = None
    """Set when nobody waits for the result any more."""

    def __post_init__(self) -> None:
        """Refuse a language that no tool speaks."""
        if self.language not in LANGUAGES:
            raise ToolError(
                "set the language of the tools",
                found=repr(self.language),
                expected=" or ".join(map(repr, LANGUAGES)),
                todo="Name the nearer of the two",
            )

    def language_of(self, *texts: str) -> str:
        """Return "zh" when any of the texts has Chinese characters, else the language of the conversation."""
        return "zh" if any(map(_HAN.search, texts)) else self.language


@dataclass(frozen=True)
class ToolOutput:
    """What a tool found."""

    text: str
    """For the model: short sentences, what others wrote inside quotation marks."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs: numbers, names, ids; JSON-able."""
    source: str = ""
    """Where it comes from, in words: `Open-Meteo`, `knowledge base (offline)`."""


@runtime_checkable
class Tool(Protocol):
    """Anything that the assistant may call."""

    name: str
    """What the model writes to call it: letters, digits, `_` and `-`."""
    description: str
    """When to use it, for the model."""
    parameters: Mapping[str, Any]
    """JSON schema of the arguments, of type "object"."""
    timeout_s: float
    """Seconds after which nobody waits for it any more."""

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Do it.

        Args:
            arguments: Already checked against `parameters`.
            context: Who asks, and when.

        Raises:
            ToolError: In words for the person, when there is no result.
        """
        ...


def object_schema(required: tuple[str, ...] = (), **properties: Mapping[str, Any]) -> dict[str, Any]:
    """Write the schema of a tool's arguments; arguments it does not name are refused.

    >>> object_schema(("query",), query={"type": "string"})["required"]
    ['query']
    """
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": list(required), "additionalProperties": False}


def guard(text: str) -> str:
    """Make text that cannot be mistaken for the template: no angle brackets, nothing invisible but line ends.

    Control tokens are never made from characters in this project, but a server that glues the prompt into one string
    would make them. So `<|EOT|>` becomes `‹|EOT|›`: readable, and harmless everywhere.
    """
    kept = (letter if letter == "\n" else " " if letter in "\t\r\x85\u2028\u2029" else letter for letter in text)
    seen = "".join(letter for letter in kept if letter == "\n" or unicodedata.category(letter) not in _INVISIBLE)
    return seen.translate(_ANGLES)


def quote(text: object, max_chars: int = MAX_QUOTE_CHARS) -> str:
    """Quote what others wrote, on one line: `"like this"`.

    Quotation marks inside become single ones, so that the quotation ends where it ends; longer texts end in `…`.
    """
    return '"' + one_line(text, max_chars).replace('"', "'") + '"'


def one_line(text: object, max_chars: int = MAX_QUOTE_CHARS) -> str:
    """Guard text and put it on one line of at most so many characters."""
    return shorten(" ".join(guard(str(text).replace("\n", " ")).split()), max_chars)


def shorten(text: str, max_chars: int) -> str:
    """Cut text to a number of characters, the `…` of the cut included; at a space when one is near."""
    if len(text) <= max_chars:
        return text
    head = text[: max(0, max_chars - 1)]
    at_space = head.rfind(" ")
    return (head[:at_space] if at_space > 0.7 * max_chars else head).rstrip() + "…"
