"""Waiting for work that may never end: it gets a thread of its own, and whoever waits goes on after a while."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
_LOOK_S = 0.05
"""How often a wait looks whether it was cancelled."""


class Late(Exception):
    """The work is not done yet, and nobody waits for it any more."""


class Cancelled(Exception):
    """Somebody cancelled the wait."""


def within(
    seconds: float, work: Callable[[], Result], *, name: str = "work", cancel: threading.Event | None = None
) -> Result:
    """Do work in another thread and wait for it.

    Work that is late goes on in its thread, a daemon; so it should have limits of its own, only wider ones.

    Args:
        seconds: How long to wait.
        work: What to do; what it raises is raised here.
        name: Of the thread.
        cancel: Ends the wait when it is set.

    Raises:
        Late: After that time.
        Cancelled: When `cancel` is set.
    """
    end = time.monotonic() + seconds
    results: list[Any] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # whatever it is, it belongs to the one who waits
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name=name, daemon=True).start()
    while not done.is_set():
        left = end - time.monotonic()
        if left <= 0:
            raise Late
        if cancel is not None and cancel.is_set():
            raise Cancelled
        done.wait(left if cancel is None else min(left, _LOOK_S))
    if errors:
        raise errors[0]
    return results[0]
