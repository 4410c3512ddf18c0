"""The conversations that the app keeps: one for each browser session, forgotten when the page is closed or unused.

A conversation's sounds are also files, because the page plays files; they lie in a folder of their own that goes with
the conversation.
"""

import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from demo.runs import new_id
from model.audio import Waveform, save_waveform
from model.conversation_state import ConversationState, Exchange

if TYPE_CHECKING:
    from demo.bubbles import Bubbles
    from demo.chat import Wish


class Talk:
    """One conversation as the page shows it."""

    def __init__(self) -> None:
        self.state = ConversationState()
        self.pictures: dict[Exchange, Bubbles] = {}
        """How each exchange was last seen."""
        self.voice_setting = ""
        """Voice that the visitor chose last."""
        self.wish: Wish | None = None
        """What was asked for and stands in the queue."""
        self.live: Bubbles | None = None
        """The turn under way, or one that came to nothing."""
        self.live_index = 0
        """Which message of the person `live` belongs to."""
        self._folder: Path | None = None
        self._files: dict[int, tuple[Waveform, str]] = {}

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="talk-"))
        return self._folder

    def file_of(self, waveform: Waveform) -> str:
        """Write a sound once and return its path, which tells nothing of whose it is."""
        known = self._files.get(id(waveform))
        if known is None:
            path = str(self.folder / f"{new_id()}.wav")
            save_waveform(path, waveform)
            known = self._files[id(waveform)] = (waveform, path)
        return known[1]

    def tidy(self) -> None:
        """Forget pictures of exchanges that are no more."""
        self.pictures = {e: self.pictures[e] for e in self.state.exchanges if e in self.pictures}

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._files = None, {}


class Talks:
    """Conversations by session; the least recently used ones go first.

    Args:
        max_talks: Conversations kept at once.
        ttl_s: Seconds one is kept after it was last used.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, *, max_talks: int = 64, ttl_s: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max, self._ttl_s, self._clock = max_talks, ttl_s, clock
        self._kept: OrderedDict[str, tuple[float, Talk]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> Talk:
        """Return the conversation of a session, a new one if there is none."""
        with self._lock:
            self._forget()
            _, talk = self._kept.pop(session, (0.0, None))
            talk = talk or Talk()
            self._kept[session] = (self._clock(), talk)
            return talk

    def drop(self, session: str) -> None:
        """Forget the conversation of a session."""
        with self._lock:
            _, talk = self._kept.pop(session, (0.0, None))
        if talk is not None:
            talk.close()

    def __len__(self) -> int:
        """Count the conversations kept."""
        return len(self._kept)

    def _forget(self) -> None:
        oldest = self._clock() - self._ttl_s
        while self._kept:
            session, (used_s, talk) = next(iter(self._kept.items()))
            if used_s >= oldest and len(self._kept) <= self._max:
                return
            del self._kept[session]
            talk.close()
