"""A vLLM server as a backend: StepFun's fork, which answers with speech codes, or vllm-omni, which answers with sound.

    conversation ──vllm_request──> JSON ──http_stream──> server ──http_stream──> bytes ──vllm_reply──> events

This file joins the three and says in a sentence what went wrong: nobody there, another model, a refusal, silence, half
an answer. Nothing is tried twice: a turn is worth seconds, and whoever asked can ask again.
"""

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.backends.base import AUDIO_CODES, AUDIO_IN, AUDIO_OUT, LOGPROBS, TEXT
from model.backends.http_stream import Cancelled, Refused, Server, exchange
from model.backends.vllm_reply import ServerReply, read_events, said_by_server
from model.backends.vllm_request import dialect_of, opening, request_body
from model.errors import BackendError, StepAudioError
from model.events import Event
from model.messages import Conversation
from model.options import GenerationOptions

if TYPE_CHECKING:
    from model.processing_step_audio_2 import StepAudio2Processor

MODELS, CHAT = "/v1/models", "/v1/chat/completions"
MAX_LIST_BYTES = 2**20
CHECK_TIMEOUT_S = 5.0
_BROKEN = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class ServerHealth:
    """What a server says of itself."""

    model: str
    """The model that will be asked."""
    models: tuple[str, ...]
    """All that it serves."""
    max_positions: int | None
    """Longest prompt and reply together, in ids; None if the server does not tell."""


class VllmBackend:
    """Answers with a model that a vLLM server runs.

    Args:
        url: Where the server is, such as `http://localhost:8000`; a trailing `/v1` may be there.
        model: What the server calls the model; None takes the only one that it serves.
        dialect: "stepfun" or "omni", see `model.backends.vllm_request`.
        processor: Of the same checkpoint, on this machine: spells raw ids of earlier replies that a model here wrote.
        api_key: Sent as a bearer token, never shown.
        connect_timeout_s: Longest wait for a connection.
        idle_timeout_s: Longest silence of a connected server.
        logprobs: Ask for log-probabilities (and exact ids with them).

    Raises:
        BackendError: If `url` is no address.
        OptionsError: If the dialect is unknown.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        dialect: str = "stepfun",
        processor: "StepAudio2Processor | None" = None,
        api_key: str | None = None,
        connect_timeout_s: float = 5.0,
        idle_timeout_s: float = 120.0,
        logprobs: bool = False,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.server = Server(url.rstrip("/").removesuffix("/v1"), headers, connect_timeout_s, idle_timeout_s)
        self.model, self.dialect, self.processor = model, dialect_of(dialect), processor
        self.logprobs = logprobs

    @property
    def info(self) -> Mapping[str, Any]:
        """Name and address, and what this kind of server can do; asks nobody."""
        speech = AUDIO_OUT if self.dialect.speaks else AUDIO_CODES
        return {
            "name": self.model or self.server.url,
            "capabilities": (TEXT, AUDIO_IN, speech, *([LOGPROBS] if self.logprobs else [])),
            "scripted": False,
            "device": f"server at {self.server.url}",
            "dialect": self.dialect.name,
        }

    def check(self, *, cancel: threading.Event | None = None) -> ServerHealth:
        """Ask the server what it serves, and settle which model to ask.

        Raises:
            BackendError: If it cannot be reached, is no such server, or does not serve the model.
        """
        server = Server(self.server.url, self.server.headers, self.server.connect_timeout_s, CHECK_TIMEOUT_S)
        try:
            answer = b"".join(_limited(exchange(server, MODELS, cancel=cancel)))
            listed = json.loads(answer)["data"]
            names = tuple(str(each["id"]) for each in listed)
        except (Cancelled, Refused, *_BROKEN) as error:
            raise self._explained(error, server) from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._no_vllm() from error
        if self.model not in names and (self.model or len(names) != 1):
            raise self._wrong_model(names)
        self.model = self.model or names[0]
        positions = listed[names.index(self.model)].get("max_model_len")
        return ServerHealth(self.model, names, positions if isinstance(positions, int) else None)

    def stream(
        self, conversation: Conversation, options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """Answer once; see `model.backends.base.Backend.stream`.

        Raises:
            BackendError: If the server fails, after `TurnDone("error")` with what had come until then.
        """
        cancel = cancel or threading.Event()
        reply = ServerReply(options, token_ids=self.processor.ids if self.processor else None)
        try:
            yield from self._turn(conversation, reply, cancel)
        except Cancelled:
            yield from reply.end("cancelled")
        except (StepAudioError, Refused, *_BROKEN) as error:
            explained = self._explained(error, self.server)
            yield reply.done("error", message=str(explained))
            raise explained from error

    def _turn(self, conversation: Conversation, reply: ServerReply, cancel: threading.Event) -> Iterator[Event]:
        if self.model is None:
            self.check(cancel=cancel)
        body = request_body(
            conversation,
            reply.options,
            model=self.model,
            dialect=self.dialect,
            processor=self.processor,
            logprobs=self.logprobs,
        )
        reply.open(opening(body))
        yield reply.clock.stage("prepare")
        pieces = exchange(self.server, CHAT, json.dumps(body).encode(), cancel=cancel)
        try:
            for chunk in read_events(pieces):
                yield from reply.feed(chunk)
                if reply.reason == "repetition":
                    break
        finally:
            pieces.close()  # at once, also when the consumer goes away or the reply is broken off
        yield from reply.end()

    # -- words for what goes wrong -----------------------------------------------------------------------------------

    def _explained(self, error: Exception, server: Server) -> Exception:
        """Say what happened; errors that already do stay as they are."""
        if isinstance(error, StepAudioError):
            return error
        if isinstance(error, Refused):
            return self._refusal(error)
        if isinstance(error, TimeoutError):
            seconds = f"{server.connect_timeout_s:g} s to connect, {server.idle_timeout_s:g} s for more of an answer"
            return self._error(f"silence ({seconds})", "an answer by then", "Look whether the server is busy or stuck")
        if isinstance(error, Cancelled):
            return self._error("that the wait was cancelled", "an answer", "Ask again")
        if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
            found = f"a connection that broke ({type(error).__name__})"
            return self._error(found, "a whole answer", "Look into the server's log, then ask again")
        found = f"nobody there ({error.strerror or error})" if isinstance(error, OSError) else str(error)
        return self._error(found, "a vLLM server", "Start the server, or correct the address")

    def _refusal(self, error: Refused) -> BackendError:
        said = said_by_server(error.body.decode("utf-8", "replace")) or "nothing more"
        found = f"status {error.status}, and the server says: {said.rstrip('.')}"
        if error.status in (401, 403):
            return self._error(found, "to be let in", "Give the key that the server was started with")
        if error.status == 404:
            todo = "Check the name of the model and the address; `check()` lists what is served"
            return self._error(found, f"the model {self.model!r}", todo)
        if error.status >= 500:
            return self._error(found, "an answer", "Look into the server's log")
        return self._error(found, "a question that it accepts", "Shorten the conversation, or correct what it names")

    def _wrong_model(self, names: tuple[str, ...]) -> BackendError:
        served = ", ".join(map(repr, names)) or "no model"
        expected = f"the model {self.model!r}" if self.model else "exactly one model"
        return self._error(f"a server of {served}", expected, "Name one of those that it serves")

    def _no_vllm(self) -> BackendError:
        return self._error("something that is no list of models", "a vLLM server", "Correct the address")

    def _error(self, found: str, expected: str, todo: str) -> BackendError:
        return BackendError(f"ask the server at {self.server.url}", found=found, expected=expected, todo=todo)


def _limited(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces up to a size that no list of models reaches."""
    left = MAX_LIST_BYTES
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise ValueError("too much")
        yield piece
