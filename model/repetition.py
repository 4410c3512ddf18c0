"""When a reply goes round in circles: the same short cycle over and over."""

from collections.abc import Sequence

LOOP_MIN_ROUNDS = 6
"""How often a cycle must come round within the window to count as a loop."""


def is_looping(items: Sequence[object], window: int) -> bool:
    """Whether the last `window` items, ids or characters, are one cycle that comes round `LOOP_MIN_ROUNDS` times."""
    if window <= 0 or len(items) < window:
        return False
    tail = items[-window:]
    return any(tail[period:] == tail[:-period] for period in range(1, window // LOOP_MIN_ROUNDS + 1))
