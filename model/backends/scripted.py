"""A backend without a model: replays given events. For tests and for work on views; it says that it is scripted."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from model.backends.base import TEXT
from model.events import Event, TurnDone
from model.messages import Conversation
from model.options import GenerationOptions

Script = Sequence[Event] | Callable[[Conversation, GenerationOptions], Sequence[Event]]


class ScriptedBackend:
    """Yields the same events for every conversation, or those that a function returns for it.

    Args:
        script: Events of one turn, or a function of conversation and options that returns them.
        pause_s: Seconds to wait before each event.
        name: Shown where a model's name would be.
        capabilities: What the script stands for.
    """

    def __init__(
        self,
        script: Script,
        *,
        pause_s: float = 0.0,
        name: str = "scripted",
        capabilities: Sequence[str] = (TEXT,),
    ) -> None:
        self.script, self.pause_s = script, pause_s
        self.calls: list[tuple[Conversation, GenerationOptions]] = []
        self._info = {"name": name, "capabilities": tuple(capabilities), "scripted": True}

    @property
    def info(self) -> Mapping[str, Any]:
        """Name and capabilities as given, and the plain statement that no model answers."""
        return dict(self._info)

    def stream(
        self, conversation: Conversation, options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """Replay the script; when cancelled, what was replayed so far counts as the reply."""
        self.calls.append((conversation, options))
        cancel = cancel or threading.Event()
        ids: list[int] = []
        t_s, prompt_tokens = 0.0, 0
        for event in self.script(conversation, options) if callable(self.script) else self.script:
            if self.pause_s:
                _wait(self.pause_s, cancel)
            if cancel.is_set():
                yield TurnDone("cancelled", tuple(ids), prompt_tokens, len(ids), t_s)
                return
            yield event
            ids += getattr(event, "ids", ())
            t_s = event.t_s


def _wait(seconds: float, cancel: threading.Event) -> None:
    """Sleep, but not through a cancel."""
    end = time.monotonic() + seconds
    cancel.wait(max(0.0, end - time.monotonic()))
