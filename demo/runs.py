"""The runs that the app remembers: a bounded store that forgets.

A run is one finished turn together with its trace. The page only ever holds run ids; the
arrays live here. Ids are unguessable, since whoever knows one may look at the run (the linked
view fetches layers through calls that carry no session).
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from analysis.trace import Trace


def new_id() -> str:
    """Return an id that cannot be guessed (128 random bits)."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, eq=False)
class Run:
    """One finished turn, as kept for looking at."""

    owner: str
    """Id of the session that made it."""
    title: str
    """What the run picker shows, e.g. "14:02 · turn on the light"."""
    trace: Trace
    """Everything captured."""
    created_s: float = field(default_factory=time.time)
    """When it was made, in seconds since 1970."""
    id: str = field(default_factory=new_id)
    """Unguessable key."""

    @property
    def n_bytes(self) -> int:
        """Memory taken by the arrays and the sound, in bytes."""
        tensors = sum(tensor.nbytes for tensor in self.trace.tensors.values())
        return tensors + sum(waveform.samples.nbytes for waveform in self.trace.audio.values())


class Keepable(Protocol):
    """What a store can hold: a run, or anything else that a session made and may look at again."""

    @property
    def owner(self) -> str: ...
    @property
    def created_s(self) -> float: ...
    @property
    def id(self) -> str: ...
    @property
    def n_bytes(self) -> int: ...


Item = TypeVar("Item", bound=Keepable)


@dataclass
class _Kept(Generic[Item]):
    run: Item
    used_s: float


class RunStore(Generic[Item]):
    """Least recently used runs go first, and none outlives its time.

    Args:
        max_bytes: Memory for all runs together; the newest run is kept even when it alone is
            larger.
        max_per_owner: Runs of one session, so that nobody pushes out everybody else's.
        ttl_s: Seconds a run is kept after it was last looked at.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 1 << 30,
        max_per_owner: int = 16,
        ttl_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes, self._max_per_owner, self._ttl_s = max_bytes, max_per_owner, ttl_s
        self._clock = clock
        self._kept: OrderedDict[str, _Kept[Item]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, run: Item) -> Item:
        """Keep a run, in place of one with the same id, and forget what no longer fits."""
        with self._lock:
            self._kept[run.id] = _Kept(run, self._clock())
            self._forget_expired()
            self._forget_surplus(run)
        return run

    def get(self, run_id: str) -> Item | None:
        """Return a run, and count this as looking at it; None when it is gone."""
        with self._lock:
            self._forget_expired()
            kept = self._kept.get(run_id)
            if kept is None:
                return None
            kept.used_s = self._clock()
            self._kept.move_to_end(run_id)
            return kept.run

    def owned_by(self, owner: str) -> tuple[Item, ...]:
        """Return a session's runs, newest first."""
        with self._lock:
            self._forget_expired()
            return tuple(sorted(self._of(owner), key=lambda run: run.created_s, reverse=True))

    def drop_owner(self, owner: str) -> None:
        """Forget everything a session made, as when its page is closed."""
        with self._lock:
            for run in self._of(owner):
                del self._kept[run.id]

    def forget_expired(self) -> None:
        """Forget what nobody has looked at for too long; done by every other call as well."""
        with self._lock:
            self._forget_expired()

    def __len__(self) -> int:
        """Count the runs kept."""
        return len(self._kept)

    @property
    def n_bytes(self) -> int:
        """Memory of all kept runs, in bytes."""
        return sum(kept.run.n_bytes for kept in self._kept.values())

    def _of(self, owner: str) -> list[Item]:
        return [kept.run for kept in self._kept.values() if kept.run.owner == owner]

    def _forget_expired(self) -> None:
        oldest = self._clock() - self._ttl_s
        for run_id in [key for key, kept in self._kept.items() if kept.used_s < oldest]:
            del self._kept[run_id]

    def _forget_surplus(self, newest: Item) -> None:
        for run in self._of(newest.owner)[: -self._max_per_owner]:
            del self._kept[run.id]
        while self.n_bytes > self._max_bytes and len(self._kept) > 1:
            self._kept.popitem(last=False)
