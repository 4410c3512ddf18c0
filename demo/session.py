"""What one browser session has going on: an id, and at most one turn.

Nothing here is shared between sessions: a stop stops the turn of the session that asked.
"""

import threading
from dataclasses import dataclass, field

from demo.runs import new_id


def new_session() -> str:
    """Return the id of a new browser session; the page's state holds nothing else."""
    return new_id()


@dataclass
class Turn:
    """One request of a session, from the click to its end."""

    cancel: threading.Event = field(default_factory=threading.Event)
    """Set to stop the model."""
    is_started: bool = False
    """False while the request still stands in the queue."""


class Sessions:
    """The turn of each session, and which browser connection is which session."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._by_connection: dict[str, str] = {}
        self._lock = threading.Lock()

    def request(self, session: str) -> Turn:
        """Note that a turn was asked for; one still under way in this session is stopped."""
        turn = Turn()
        with self._lock:
            earlier = self._turns.get(session)
            self._turns[session] = turn
        if earlier is not None:
            earlier.cancel.set()
        return turn

    def start(self, session: str) -> Turn:
        """Return the turn that was asked for, which may have been stopped since; without one, a new one."""
        with self._lock:
            turn = self._turns.get(session)
        if turn is None or turn.is_started:
            turn = self.request(session)
        turn.is_started = True
        return turn

    def end(self, session: str, turn: Turn) -> None:
        """Stop a turn if it still runs, and forget it if it is the session's latest."""
        turn.cancel.set()
        with self._lock:
            if self._turns.get(session) is turn:
                del self._turns[session]

    def stop(self, session: str) -> Turn | None:
        """Stop the session's turn and return it; None when nothing is under way."""
        with self._lock:
            turn = self._turns.get(session)
        if turn is not None:
            turn.cancel.set()
        return turn

    def remember(self, connection: str | None, session: str) -> None:
        """Note which session a browser connection belongs to."""
        if connection:
            self._by_connection[connection] = session

    def forget(self, connection: str | None) -> str | None:
        """Stop the turn of a closed connection and return its session."""
        session = self._by_connection.pop(connection or "", None)
        if session is not None:
            self.stop(session)
        return session
