"""What was said so far: one conversation, as its people see it and as the model reads it again.

    exchange   asked    human: [sound] "and this one?"
               rounds   thought | words + tool call | answer           what the model was given and wrote, each time
               replied  assistant: <tts_start> ids <tool_call>...      what later turns read: raw ids, no thought
                        input: result
                        assistant: <tts_start> ids

A conversation changes only when a turn is over, and by whole exchanges: a turn that fails, or is stopped before
anything was said, leaves it as it was and is kept as `unanswered`, to be tried again. The system prompt is no part of
it: it is written anew for every turn.

Source: the official Step-Audio 2 examples (thoughts are taken out of history, generated ids stay as they are).
"""

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from model.audio import Waveform
from model.errors import ConversationError
from model.events import Event, Turn
from model.messages import Audio, Conversation, Message, Part, Text

if TYPE_CHECKING:
    from model.token2wav.voice import Voice

RoundKind = Literal["thought", "reply"]
Said = str | Waveform | Part
"""What a person may say: typed words, a recording, or a part of a message."""


@dataclass(frozen=True)
class Round:
    """One reply of the model within a turn."""

    kind: RoundKind
    prompt: Conversation
    """What it was given; the last turn is the open one that it continued."""
    ids: tuple[int, ...]
    """What it wrote, end tokens included; empty where a server tells no ids."""
    events: tuple[Event, ...]
    """What happened, without sound."""


@dataclass(frozen=True, eq=False)
class Exchange:
    """What a person said, and everything that followed."""

    asked: Message
    replied: tuple[Message, ...]
    """Closed turns of assistant and tools, as later turns read them."""
    turn: Turn
    """All that happened, thought, tools and sound included."""
    rounds: tuple[Round, ...]
    voice: str = ""
    """Name of the voice that spoke; empty for a written reply."""
    n_forgotten: int = 0
    """Earliest exchanges that the model could not be given any more, for want of room."""

    @property
    def messages(self) -> Conversation:
        """The exchange as history."""
        return (self.asked, *self.replied)


class ConversationState:
    """One conversation; one turn at a time, any number of conversations at once.

    Args:
        system: System prompt, `{today}` standing for the date; empty for what the model was trained with.
        voice: Voice of the replies; empty for the first one of the model.
    """

    def __init__(self, system: str = "", voice: "Voice | str" = "") -> None:
        self.id = secrets.token_hex(8)
        self.system = system
        """Applies from the next turn on."""
        self.unanswered: Message | None = None
        """The latest message, if its turn came to nothing."""
        self.use_voice(voice)
        self._exchanges: tuple[Exchange, ...] = ()
        self._turn = threading.Lock()

    def use_voice(self, voice: "Voice | str", library_id: str = "") -> None:
        """Speak in another voice from now on.

        Args:
            voice: A voice, or the name of one that the model has; empty for its first one.
            library_id: Its id in the voice library that it was found in, if it was.
        """
        self.voice, self.voice_id = voice, library_id

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All that was said and answered."""
        return self._exchanges

    @property
    def messages(self) -> Conversation:
        """The history as later turns read it."""
        return history(self._exchanges)

    @property
    def is_busy(self) -> bool:
        """Whether a turn is under way."""
        return self._turn.locked()

    def clear(self) -> None:
        """Forget everything that was said; system prompt and voice stay.

        Raises:
            ConversationError: If a turn is under way.
        """
        with self.turn():
            self._exchanges, self.unanswered = (), None

    def undo(self) -> Message | None:
        """Take back the latest message with its answer, and return it; None if there is none.

        Raises:
            ConversationError: If a turn is under way.
        """
        with self.turn():
            taken, self.unanswered = self.unanswered, None
            if taken is None and self._exchanges:
                taken = self._exchanges[-1].asked
                self._exchanges = self._exchanges[:-1]
            return taken

    # --- for those who run turns ------------------------------------------------------------------------------------

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other turns of this conversation out while one is under way.

        Raises:
            ConversationError: If there is one already.
        """
        if not self._turn.acquire(blocking=False):
            raise ConversationError(
                "go on with a conversation",
                found="a turn of it that is still under way",
                expected="one turn at a time",
                todo="Wait for it or stop it; other conversations may go on meanwhile",
            )
        try:
            yield
        finally:
            self._turn.release()

    def keep(self, before: Sequence[Exchange], exchange: Exchange) -> None:
        """Let the conversation be what was before an exchange, and the exchange."""
        self._exchanges, self.unanswered = (*before, exchange), None

    def before(self, index: int) -> tuple[Exchange, ...]:
        """Return the exchanges before a message.

        Args:
            index: Which message of the person, from 0; the one after the last exchange is the unanswered one.

        Raises:
            ConversationError: If there is no such message.
        """
        n_messages = len(self._exchanges) + (self.unanswered is not None)
        if not 0 <= index < n_messages:
            raise ConversationError(
                f"find message {index} of the conversation",
                found=f"{n_messages} messages" if n_messages else "no message yet",
                expected="the place of one of them, counted from 0",
                todo="Say something new instead",
            )
        return self._exchanges[:index]

    def asked(self, index: int) -> Message:
        """Return a message of the person; arguments and errors as in `before`."""
        self.before(index)
        return self._exchanges[index].asked if index < len(self._exchanges) else self.unanswered

    @property
    def last(self) -> int:
        """Place of the latest message of the person, answered or not; -1 if nothing was said."""
        return len(self._exchanges) - (self.unanswered is None)


def history(exchanges: Sequence[Exchange]) -> Conversation:
    """Return exchanges as the model reads them."""
    return tuple(message for exchange in exchanges for message in exchange.messages)


def human(said: Sequence[Said]) -> Message:
    """Make a person's message of words and recordings, in the order in which they were given.

    Raises:
        ConversationError: If nothing was said.
    """
    parts = tuple(_part(each) for each in said)
    parts = tuple(part for part in parts if not (isinstance(part, Text) and not part.text.strip()))
    if not parts:
        raise ConversationError(
            "take a turn",
            found="nothing that was said",
            expected="some words or a recording",
            todo="Write or say something",
        )
    return Message("human", parts)


def _part(said: Said) -> Part:
    if isinstance(said, str):
        return Text(said)
    return Audio(said) if isinstance(said, Waveform) else said
