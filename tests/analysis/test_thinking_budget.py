"""The toy answers rightly once it has thought " barks", and looks at its tones all along: the sweep shows both."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from analysis.figures.curves import curves
from analysis.thinking_budget import BudgetSweep, budget_sweep
from model.chat import split_thought
from model.errors import TraceError
from model.tasks.base import Example, Score, Task
from tests.analysis import toy

LOW, HIGH = (0.2, 0.4), (0.5, 0.7)
BUDGETS = (0, 2, 5, None)


class Toy(Task):
    """Right where the answer behind the thought is the reference."""

    name, prompt = "toy", ""

    @staticmethod
    def conversation(waveform, *, name=""):
        return toy.ask(waveform)

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        answer = split_thought(hypothesis, opened=True).answer.strip()
        return Score(float(answer == example.reference), answer, "")

    @classmethod
    def reward(cls, hypothesis, example):
        return cls.score(hypothesis, example).value


def example(low, high, reference: str) -> Example:
    return Example("toy", toy.ask(toy.clip(low, high, seconds=1.0)), reference)


@pytest.fixture(scope="module")
def found() -> BudgetSweep:
    both = [example(LOW, HIGH, "left"), example(None, None, "right")]
    return budget_sweep(toy.build_toy("thought"), both, Toy, budgets=BUDGETS, max_thought=20, max_answer=4)


def test_accuracy_rises_where_the_thought_gets_to_the_point(found):
    """Without " barks" the toy answers right, which is right for the quiet example only."""
    assert found.answers == (("right", "right", "left", "left"), ("right",) * 4)
    np.testing.assert_array_equal(found.accuracy().values, [0.5, 0.5, 1, 1])
    assert found.thought_tokens.tolist() == [6, 6]


def test_attention_is_that_of_what_was_thought_so_far(found):
    """Two heads of the toy rest on its tones: with tones more attention goes to the sound than without."""
    accuracy, thought, answer = np.moveaxis(found.values, 1, 0)
    assert np.isnan(thought[:, 0]).all() and np.isfinite(thought[:, 1:]).all() and np.isfinite(answer).all()
    assert (thought[0, 1:] > thought[1, 1:]).all() and (answer[0] > answer[1]).all()
    assert (thought[:, 1:] > 0).all() and (thought[:, 1:] < 1).all() and accuracy.shape == (2, 4)


def test_curves_stand_on_one_axis_with_intervals(found):
    curves = found.curves()
    assert curves.axes[0].labels[0] == "accuracy" and curves.axes[1].labels == ("0", "2", "5", "all")
    assert np.isnan(curves.values[1, 0]) and curves.unit == "share" and curves.n == 2
    known = np.isfinite(curves.values)
    assert (curves.low[known] <= curves.values[known] + 1e-9).all() and curves.low[0, 0] < curves.high[0, 0]
    assert curves.notes["cut"] == [1.0, 1.0, 1.0, 0.0] and curves.notes["thought tokens"] == 6


def test_the_sweep_can_be_drawn(found):
    figure = curves(found.curves())
    names = {line.name for line in figure.data if line.name}
    assert names == set(found.curves().axes[0].labels) and figure.layout.xaxis.ticktext[-1] == "all"


def test_a_thought_for_show_needs_no_budget():
    shown = budget_sweep(toy.build_toy("sound"), [example(LOW, HIGH, "left")], Toy, budgets=(0, None), max_answer=4)
    np.testing.assert_array_equal(shown.accuracy().values, [1, 1])


def test_a_typed_question_has_no_sound_to_look_at():
    typed = replace(example(None, None, "right"), conversation=toy.ask(None, " right"))
    found = budget_sweep(toy.build_toy("thought"), [typed], Toy, budgets=(0, None), max_thought=20, max_answer=4)
    assert np.isnan(found.values[0, 1:]).all() and found.values[0, 0].tolist() == [1, 1]


def test_a_cancelled_sweep_keeps_what_was_done():
    cancel, told = threading.Event(), []

    def progress(step: str, share: float) -> None:
        told.append(share)
        cancel.set()

    one = example(None, None, "right")
    found = budget_sweep(
        toy.build_toy("thought"), [one, one], Toy, budgets=(0,), max_thought=20, max_answer=4, progress=progress,
        cancel=cancel,
    )  # fmt: skip
    assert len(found.values) == 1 and told == [0.5]
    with pytest.raises(TraceError, match="before the sweep was cancelled"):
        budget_sweep(toy.build_toy("thought"), [one], Toy, budgets=(0,), cancel=cancel)


@pytest.mark.parametrize("budgets", [(), (8, 0), (None, 4), (-1,)])
def test_budgets_must_rise(budgets):
    with pytest.raises(TraceError, match="rising from 0"):
        budget_sweep(toy.build_toy("thought"), [example(None, None, "right")], Toy, budgets=budgets)
