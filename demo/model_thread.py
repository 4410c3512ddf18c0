"""The one thread that touches the model.

Loading, generating and capturing all happen here, one after the other, in the order they
were asked for: that is the app's model lock. Whoever asks gets an iterator that never blocks
for longer than a tick, so a page can show time passing and a Stop is seen at once even while
the model is in the middle of a long step.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

TICK_S = 0.1


class Tick:
    """Nothing new yet; yielded every `TICK_S` seconds of waiting."""


TICK = Tick()


@dataclass(frozen=True)
class _Raised:
    error: BaseException


_STARTED, _ENDED = object(), object()


class Job(Generic[Item]):
    """Work asked of the model thread; iterate over it to receive what it yields.

    Args:
        work: Called on the model thread; what it yields is handed over.
        cancel: When set, work that has not started never does, and the iteration ends. Work
            under way is expected to look at it too.
    """

    def __init__(self, work: Callable[[], Iterator[Item]], cancel: threading.Event) -> None:
        self._work, self._cancel = work, cancel
        self._items: queue.SimpleQueue = queue.SimpleQueue()
        self.started = False
        """True once the thread has turned to this job."""

    def run(self) -> None:
        """Do the work (called by the model thread only); an error is handed over, not raised."""
        try:
            self._hand_over()
        except BaseException as error:  # the asking thread raises it again
            self._items.put(_Raised(error))
        finally:
            self._items.put(_ENDED)

    def _hand_over(self) -> None:
        if self._cancel.is_set():
            return
        self._items.put(_STARTED)
        items = self._work()
        try:
            for item in items:
                self._items.put(item)
                if self._cancel.is_set():
                    return
        finally:
            getattr(items, "close", lambda: None)()

    def __iter__(self) -> Iterator[Item | Tick]:
        """Yield the items as they come, and `TICK` while there are none.

        Raises:
            BaseException: Whatever the work raised.
        """
        while not self._cancel.is_set():
            try:
                item = self._items.get(timeout=TICK_S)
            except queue.Empty:
                yield TICK
                continue
            if item is _ENDED:
                return
            if isinstance(item, _Raised):
                raise item.error
            self.started = True
            yield TICK if item is _STARTED else item


def aside(work: Callable[[], Item], cancel: threading.Event) -> Job[Item]:
    """Call a function that does not touch the model on a thread of its own; its result is the one item."""

    def once() -> Iterator[Item]:
        yield work()

    job = Job(once, cancel)
    threading.Thread(target=job.run, name="aside", daemon=True).start()
    return job


class ModelThread:
    """Runs jobs one at a time on a thread of its own, started with the first job."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._running: Job | None = None

    @property
    def is_busy(self) -> bool:
        """True while a job runs or waits."""
        return self._running is not None or not self._jobs.empty()

    def submit(self, work: Callable[[], Iterator[Item]], cancel: threading.Event) -> Job[Item]:
        """Queue work and return the job to iterate over."""
        job = Job(work, cancel)
        self._jobs.put(job)
        self._start_once()
        return job

    def _start_once(self) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon, so that Ctrl-C during a long load ends the program at once.
                self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while True:
            self._running = self._jobs.get()
            self._running.run()
            self._running = None
