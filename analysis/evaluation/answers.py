"""Ask a model every example of a task and keep what it answered.

examples --batches of like length--> turns --Task.score--> Answer(example, turn, hypothesis, score)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from model.checkpoint import LoadedModel
from model.events import Turn
from model.generation import generate_batch
from model.messages import Audio
from model.tasks.base import Example, Score, Task
from model.tokens import EOT

BATCH = 8


@dataclass(frozen=True, eq=False)
class Answer:
    """One answered example."""

    example: Example
    turn: Turn
    hypothesis: str
    score: Score


def written(loaded: LoadedModel, turn: Turn) -> str:
    """Everything a turn wrote, thoughts and call tags spelled out, without the end of the turn."""
    return loaded.processor.decode(turn.ids, keep_special=True).removesuffix(EOT)


def _seconds(example: Example) -> float:
    parts = (part for message in example.conversation for part in message.parts)
    return sum(part.waveform.duration_s for part in parts if isinstance(part, Audio))


def answer_all(
    loaded: LoadedModel,
    task: type[Task],
    examples: Sequence[Example],
    *,
    name: str = "",
    raw: bool = False,
    score: Callable[[str, Example], Score] | None = None,
) -> list[Answer]:
    """Answer examples with the task's own options, shortest first.

    Args:
        loaded: The model.
        task: Whose options and score are used.
        examples: What to ask.
        name: Shown beside the progress bar.
        raw: Whether the hypothesis is everything that was written (`written`), not the reply's text alone.
        score: Another score than the task's.
    """
    found: list[Answer] = []
    ordered = sorted(examples, key=_seconds)
    with tqdm(total=len(ordered), desc=name or task.name, unit="example") as bar:
        for start in range(0, len(ordered), BATCH):
            batch = ordered[start : start + BATCH]
            turns = generate_batch(loaded.model, loaded.processor, [e.conversation for e in batch], task.options)
            for example, turn in zip(batch, turns, strict=True):
                hypothesis = written(loaded, turn) if raw else turn.text
                found.append(Answer(example, turn, hypothesis, (score or task.score)(hypothesis, example)))
            bar.update(len(batch))
    return found
