"""What produces turns: a thing with a description and one verb, `stream`."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from model.events import Event
from model.messages import Conversation
from model.options import GenerationOptions
from model.tokens import TokenIds

TEXT, AUDIO_IN, AUDIO_CODES, AUDIO_OUT, LOGPROBS, ACTIVATIONS = (
    "text",
    "audio_in",
    "audio_codes",
    "audio_out",
    "logprobs",
    "activations",
)
"""Capabilities: reads and writes text; hears; writes speech codes; speaks; gives log-probabilities; can be looked
into."""


@runtime_checkable
class Backend(Protocol):
    """Anything that can answer a conversation: a model in this process, a server, a script."""

    @property
    def info(self) -> Mapping[str, Any]:
        """`name` (str), `capabilities` (tuple of the names above), `scripted` (bool: no model behind it), and more."""
        ...

    def stream(
        self, conversation: Conversation, options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """Answer once.

        Args:
            conversation: Messages; an open last turn is continued, after a closed one an assistant turn is opened.
            options: How to write.
            cancel: Set by another thread to end the reply early.

        Yields:
            Events of one turn, `TurnDone` last.
        """
        ...


@runtime_checkable
class Measuring(Protocol):
    """A backend that knows the ids of its model: what a long conversation needs to stay within its bounds."""

    @property
    def token_ids(self) -> TokenIds:
        """Ids of the control tokens and codes."""
        ...

    def room(self, conversation: Conversation) -> int:
        """Count the ids that can still be written behind a conversation; negative when it is too long itself."""
        ...
