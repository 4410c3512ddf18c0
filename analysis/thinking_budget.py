"""How much thought does an answer need, and is the sound still looked at while it goes on? A sweep over budgets.

    budget   0 tokens   16        32        64       whole thought
    thought  </think>   The sp... The sp... ...                        the model's own, cut there and closed
    answer   asked again after each

    accuracy, attention of the thought to the sound, attention of the answer to the sound      on one axis of budgets

Decoding is greedy, so a thought that is cut after 16 tokens is the thought that a budget of 16 would have given: each
example thinks once. A thought shorter than a budget counts as it is, and how often that happens stands in the notes.

    found = budget_sweep(loaded, examples, budgets=(0, 8, 16, 32, None))
    curves(found.curves())                        # analysis.figures.curves

Accuracy that stays while attention to the sound falls means that the answer is decided early; accuracy that falls with
it is what is called drift. Attention is no proof of use: `thought.py` and `faithfulness.py` intervene.

Source: the question of CESAR (2025) and MPAR2 (2026), that more thought can cost perception.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.capture import capture_trace
from analysis.faithfulness import answer_all, ended_as, with_thought, within_thought
from analysis.resampling import mean_interval
from analysis.scoring import Progress
from analysis.segments import without_sinks
from analysis.statistic import Axis, Statistic
from analysis.trace import CaptureSpec, Trace
from model.chat import THINK_END, THINK_SUFFIX, Conversation
from model.errors import TraceError
from model.events import Turn
from model.options import GenerationOptions
from model.tasks.base import Example, Task
from model.tasks.thinking import Thinking

BUDGETS: tuple[int | None, ...] = (0, 8, 16, 32, 64, None)
"""Tokens of thought; None is all of it."""
ACCURACY, THOUGHT_LOOKS, ANSWER_LOOKS = (
    "accuracy",
    "attention of the thought to the sound",
    "attention of the answer to the sound",
)
SERIES = (ACCURACY, THOUGHT_LOOKS, ANSWER_LOOKS)


@dataclass(frozen=True, eq=False)
class BudgetSweep:
    """What each budget gave, example by example."""

    budgets: tuple[int | None, ...]
    values: np.ndarray
    """float64 [example, series, budget], each in shares; NaN where there is nothing to look at (no thought, no sound)
    or an answer could not be scored."""
    thought_tokens: np.ndarray
    """Tokens of each example's whole thought, int64 [example]."""
    answers: tuple[tuple[str, ...], ...]
    """What was answered, [example][budget]."""

    def curves(self, *, seed: int = 0) -> Statistic:
        """Return accuracy and attention by budget, mean over examples with 95 % bootstrap intervals, [series, budget].

        Notes: the mean length of the whole thoughts, and the share of examples that each budget really cut.
        """
        columns = [[_mean(self.values[:, s, b], seed) for b in range(len(self.budgets))] for s in range(len(SERIES))]
        mean, low, high = np.moveaxis(np.array(columns), -1, 0)
        cut = [0.0 if b is None else float((self.thought_tokens > b).mean()) for b in self.budgets]
        notes = {"thought tokens": float(self.thought_tokens.mean()), "cut": cut, "sinks": "left out"}
        axes = Axis("series", labels=SERIES), self._axis
        return Statistic("share", mean, axes, "share", low, high, len(self.values), notes)

    def accuracy(self, *, seed: int = 0) -> Statistic:
        """Return accuracy alone, [budget]."""
        whole = self.curves(seed=seed)
        return Statistic(ACCURACY, whole.values[0], whole.axes[1:], "share", whole.low[0], whole.high[0], whole.n)

    @property
    def _axis(self) -> Axis:
        return Axis("tokens of thought", labels=["all" if b is None else str(b) for b in self.budgets])


def budget_sweep(
    loaded: Any,
    examples: Sequence[Example],
    task: type[Task] = Thinking,
    *,
    budgets: Sequence[int | None] = BUDGETS,
    max_thought: int = 256,
    max_answer: int = 128,
    spec: CaptureSpec | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> BudgetSweep:
    """Let each example think once, and answer after every budget.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`, `.info`.
        examples: Questions with their right answers.
        task: Scores an answer; it is handed thought and answer, the closing tag between them.
        budgets: Tokens of thought, rising; None is all of it and comes last.
        max_thought: Most tokens of the whole thought.
        max_answer: Most tokens of an answer.
        spec: What to capture of each turn; by default the mean over heads of every layer.
        progress: Told after each example.
        cancel: Looked at between steps; a sweep that was cancelled holds the examples that were done.

    Raises:
        TraceError: If there is no example, or budgets that do not rise.
    """
    budgets = tuple(budgets)
    sizes = [np.inf if budget is None else budget for budget in budgets]
    if not examples or not budgets or sizes != sorted(set(sizes)) or sizes[0] < 0:
        raise _refusal(f"{len(examples)} examples and budgets of {budgets}", "at least one each, budgets rising from 0")
    rows, lengths, answers = [], [], []
    for number, example in enumerate(examples):
        one = _sweep_one(loaded, example, task, budgets, max_thought, max_answer, spec, cancel)
        if one is None:
            break
        rows.append(one[0])
        lengths.append(one[1])
        answers.append(one[2])
        if progress is not None:
            progress("budgets", (number + 1) / len(examples))
    if not rows:
        raise _refusal("no example that was done before the sweep was cancelled", "at least one")
    return BudgetSweep(budgets, np.array(rows), np.array(lengths), tuple(answers))


def _sweep_one(
    loaded: Any,
    example: Example,
    task: type[Task],
    budgets: tuple[int | None, ...],
    max_thought: int,
    max_answer: int,
    spec: CaptureSpec | None,
    cancel: threading.Event | None,
) -> tuple[np.ndarray, int, tuple[str, ...]] | None:
    """Return [series, budget], length of the thought and the answers of one example; None if it was cancelled."""
    begun = within_thought(example.conversation, "")
    thinking = GenerationOptions(max_new_tokens=max_thought, stop=(THINK_END,))
    [whole] = answer_all(loaded, [begun], options=thinking, cancel=cancel)
    if whole is None:
        return None
    ids = _thought_ids(loaded, whole)
    written = loaded.processor.decode(ids)
    thoughts = [ended_as(loaded.processor.decode(ids[:budget]).rstrip("\ufffd"), written) for budget in budgets]
    asked = [with_thought(example.conversation, thought) for thought in thoughts]
    turns = answer_all(loaded, asked, options=GenerationOptions(max_new_tokens=max_answer), cancel=cancel)
    if any(turn is None for turn in turns):
        return None
    scores = [_score(task, f"{t}{THINK_SUFFIX}{turn.text}", example) for t, turn in zip(thoughts, turns)]
    looks = [_looks(loaded, conversation, turn, spec) for conversation, turn in zip(asked, turns)]
    thought_looks = _thought_looks(loaded, begun, ids, budgets, spec)
    return np.array([scores, thought_looks, looks]), len(ids), tuple(turn.text.strip() for turn in turns)


def _thought_ids(loaded: Any, turn: Turn) -> tuple[int, ...]:
    """Return the ids of a thought without its closing tag and what ended it."""
    ids, decode = turn.ids, loaded.processor.decode
    n = len(ids)
    while n and THINK_END in decode(ids[:n]):
        n -= 1
    wanted = decode(ids).partition(THINK_END)[0]
    while n and len(decode(ids[:n])) > len(wanted):
        n -= 1
    return tuple(i for i in ids[:n] if i not in loaded.processor.ids.eos)


def _score(task: type[Task], hypothesis: str, example: Example) -> float:
    value = task.score(hypothesis, example).value
    return np.nan if value is None else float(value)


def _looks(loaded: Any, conversation: Conversation, turn: Turn, spec: CaptureSpec | None) -> float:
    """Return the share of attention that an answer pays to the sound, sinks left out; NaN without either."""
    each = _attention(loaded, conversation, turn.ids, spec)
    return float(each.mean()) if len(each) else np.nan


def _thought_looks(
    loaded: Any, conversation: Conversation, ids: Sequence[int], budgets: Sequence[int | None], spec: CaptureSpec | None
) -> list[float]:
    """Return the share of attention that the thought pays to the sound up to each budget."""
    each = _attention(loaded, conversation, ids, spec)
    return [float(each[:budget].mean()) if len(each[:budget]) else np.nan for budget in budgets]


def _attention(loaded: Any, conversation: Conversation, ids: Sequence[int], spec: CaptureSpec | None) -> np.ndarray:
    """Return the share of attention to the sound of each token, mean over layers and heads, [token]."""
    if not len(ids):
        return np.zeros(0)
    trace: Trace = capture_trace(loaded, conversation, ids, spec=spec or CaptureSpec(heads="mean"))
    if "audio" not in trace.meta.segments:
        return np.zeros(0)
    shares = without_sinks(trace).tensors["attention.segments"][..., trace.meta.segments.index("audio")]
    return shares.astype(np.float64).mean(axis=(0, 1))


def _mean(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Return the mean over examples and its interval; NaN where there is none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan, np.nan
    low, high = mean_interval(known[:, None], seed=seed)
    return float(known.mean()), float(low[0]), float(high[0])


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("sweep over budgets of thought", found=found, expected=expected, todo="Correct the arguments.")
