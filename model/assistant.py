"""One turn: listen, think, call tools, answer, speak. Start reading here.

    assistant = Assistant.from_model(load_model("nano"))
    talk = ConversationState()
    for event in assistant.say(talk, recording, "Answer in one word."):
        ...                                                     # TextDelta, AudioDelta, ToolCallEvent, ..., TurnDone

    say ──> TurnRun ──think, reply, call, reply, speak──> events                 what happens, while it happens
                    └──when it is over──> ConversationState.exchanges           what was said, and what comes next reads

An `Assistant` is the model and the way it answers; it knows no conversation, so any number of them can share one. A
`ConversationState` is one conversation.
"""

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from model.backends.base import AUDIO_OUT, Backend
from model.conversation_state import ConversationState, Exchange, Said, human
from model.events import Event
from model.messages import Message
from model.turn import TurnOptions, TurnRun

if TYPE_CHECKING:
    from model.checkpoint import LoadedModel
    from model.token2wav.token2wav import Token2Wav

__all__ = ["Assistant", "ConversationState", "TurnOptions"]


class Assistant:
    """Answers in conversations.

    Args:
        backend: What writes the replies.
        token2wav: What turns its speech codes into sound, or a function that returns it when it is first needed; None
            where there is none, or where the backend speaks itself.
        options: How turns go, unless they say otherwise.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        token2wav: "Token2Wav | Callable[[], Token2Wav | None] | None" = None,
        options: TurnOptions | None = None,
    ) -> None:
        self.backend, self.options = backend, options or TurnOptions()
        self._token2wav = token2wav

    @classmethod
    def from_model(cls, loaded: "LoadedModel", *, options: TurnOptions | None = None) -> "Assistant":
        """Answer with a loaded model, and with its voice if it has one; the voice is read when it is first needed."""
        from model.backends.local import LocalBackend

        voice = (lambda: loaded.token2wav) if loaded.has_voice else None
        return cls(LocalBackend(loaded), token2wav=voice, options=options)

    @property
    def has_voice(self) -> bool:
        """Whether it can speak; asking loads nothing."""
        return self._token2wav is not None or AUDIO_OUT in self.backend.info.get("capabilities", ())

    @property
    def token2wav(self) -> "Token2Wav | None":
        """What makes its sound; read now if it was not before."""
        return self._token2wav() if callable(self._token2wav) else self._token2wav

    def say(
        self,
        state: ConversationState,
        *said: Said,
        options: TurnOptions | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Say something, and get an answer.

        Args:
            state: The conversation; it has one exchange more when the turn is over.
            said: Words, recordings and message parts, in the order in which they are to be heard.
            options: How the turn goes; the assistant's own options if None.
            cancel: Set by any thread to end the turn, within a step of the decoder or of the vocoder.

        Yields:
            Events of the turn on one clock, `TurnDone` last. Its `ids` are those of all replies of the turn; its
            `message` says what could not be done. If something fails, `TurnDone("error")` is followed by the exception
            itself, and the conversation is as it was, the message kept as `unanswered`. A turn that was stopped, by
            `cancel` or by no longer listening, leaves what had been said by then.

        Raises:
            ConversationError: If nothing was said, or another turn of this conversation is under way.
        """
        asked = human(said)
        return self._run(state, lambda: state.exchanges, asked, options, cancel)

    def regenerate(
        self,
        state: ConversationState,
        *,
        options: TurnOptions | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Answer the latest message again, or for the first time if that came to nothing; else as `say`.

        The old answer goes when the new one is there. With a seed that is the same, so is the answer.

        Raises:
            ConversationError: If nothing was said yet.
        """
        index = state.last
        asked = state.asked(index)
        return self._run(state, lambda: state.before(index), asked, options, cancel)

    def edit(
        self,
        state: ConversationState,
        index: int,
        *said: Said,
        options: TurnOptions | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Say something else in place of an earlier message; everything after it goes when it is answered.

        Args:
            state: The conversation.
            index: Which message of the person, from 0.
            said: What to say instead, as in `say`.
            options: As in `say`.
            cancel: As in `say`.

        Raises:
            ConversationError: If there is no such message, or nothing was said.
        """
        state.before(index)
        asked = human(said)
        return self._run(state, lambda: state.before(index), asked, options, cancel)

    def _run(
        self,
        state: ConversationState,
        before: Callable[[], tuple[Exchange, ...]],
        asked: Message,
        options: TurnOptions | None,
        cancel: threading.Event | None,
    ) -> Iterator[Event]:
        """Run a turn behind some exchanges, which are read when the turn begins."""
        with state.turn():
            options, cancel = options or self.options, cancel or threading.Event()
            run = TurnRun(self.backend, lambda: self.token2wav, state, before(), asked, options, cancel)
            yield from run.events()
