"""Thinking traces: what is truly in the sound, then what follows, then the reply.

    labels of the sound {"gender": "female", "event": "dog"}  +  Exchange
        ->  "The speaker is a woman. I hear a dog."  /  "Three plus five is eight."  ->  reply

Labels come in as plain data (the names of `model/tasks/labels.tsv`), from whoever made the sound. A trace names a few
of them, never one that is not given; an emotion that decides the tone of the reply is always named.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.tasks import paralinguistics
from model.training.world.facts import Exchange

ORDER = ("gender", "age", "emotion", "vocal", "event", "scenario", "style", "speed", "pitch", "timbre", "rhythm")
"""In which a trace names what it heard."""
MAX_NAMED = 3
"""So many properties at most: traces are short."""
_ASKS = {
    "en": {"": "I am asked something.", "typed": "It is typed, so I hear nothing."},
    "zh": {"": "有人在问我。", "typed": "这是文字，没有声音。"},
}


@dataclass(frozen=True)
class Trace:
    """A thought with the reply that follows from it."""

    thought: str
    """Two lines: what was heard, what follows."""
    reply: str
    named: tuple[str, ...]
    """Dimensions that it names."""


def think(
    exchange: Exchange, sound: Mapping[str, str], rng: np.random.Generator, *, max_named: int = MAX_NAMED
) -> Trace:
    """Write the trace of one exchange.

    Args:
        exchange: What was said and is replied; its `why` is what follows.
        sound: What is truly in the recording, dimension -> label; empty for typed text.
        rng: Chooses which of the labels are named.
        max_named: At most so many, the emotion that the reply depends on included.

    Raises:
        ValueError: If the reply depends on an emotion that is not in the sound, or a label is unknown.
    """
    _check(exchange, sound)
    must = ["emotion"] if exchange.register else []
    may = [dimension for dimension in ORDER if dimension in sound and dimension not in must]
    wanted = int(rng.integers(min(1, len(may)), max_named + 1)) - len(must)
    chosen = {*must, *rng.permutation(may).tolist()[: max(0, wanted)]}
    named = tuple(dimension for dimension in ORDER if dimension in chosen)
    gap = "" if exchange.language == "zh" else " "
    heard = gap.join(paralinguistics.reply(d, sound[d], exchange.language) for d in named)
    heard = heard or _ASKS[exchange.language]["" if sound else "typed"]
    return Trace("\n".join(filter(None, (heard, exchange.why))), exchange.reply, named)


def _check(exchange: Exchange, sound: Mapping[str, str]) -> None:
    unknown = [f"{d}={label}" for d, label in sound.items() if label not in _labels(d)]
    if unknown:
        raise ValueError(
            f"Could not think about a sound: found the labels {', '.join(unknown)}, expected those of labels.tsv."
        )
    if exchange.manner and sound.get("emotion") != exchange.manner:
        raise ValueError(
            f"Could not think about {exchange.human!r}: found the emotion {sound.get('emotion')!r} in the sound, "
            f"expected {exchange.manner!r}, which its reply depends on; say it so, or draw another reply."
        )


def _labels(dimension: str) -> Mapping[str, object]:
    return paralinguistics.labels(dimension) if dimension in paralinguistics.DIMENSIONS else {}
