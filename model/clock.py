"""One monotonic clock for all events of a turn."""

import time

from model.events import StageTiming


class Clock:
    """Seconds since the turn started, and the stages between."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.stage_start_s = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._start

    def stage(self, name: str) -> StageTiming:
        """Close the running stage under `name` and start the next."""
        start_s, end_s = self.stage_start_s, self()
        self.stage_start_s = end_s
        return StageTiming(name, start_s, end_s, end_s)
