"""With the planted head muted the toy no longer hears its tone; other heads, and a factor of one, change nothing."""

import pytest
import torch

from analysis.attention import Head
from analysis.figures.counterfactual import diff_text
from analysis.steering import answer_scaled, head_taps
from model.errors import TraceError
from model.options import GenerationOptions
from tests.analysis import toy

ASKED = toy.ask(toy.clip((0.3, 0.7), (1.2, 1.6)))
SHORT = GenerationOptions(max_new_tokens=16)
HEARS_LOW, HEARS_HIGH = Head(0, 0), Head(0, 1)


@pytest.fixture(scope="module")
def loaded():
    return toy.build_toy("thought")


def test_without_the_head_that_hears_the_thought_and_the_answer_change(loaded):
    found = answer_scaled(loaded, ASKED, {HEARS_HIGH: 0.0}, SHORT)
    assert (found.before.strip(), found.after.strip()) == ("left", "right")
    assert found.steered.thought == " man. cat! purrs?" and found.turn.thought == " man. dog! barks?"
    changed = [step for step in found.diff if step.operation != "equal"]
    assert [tuple(step)[1:] for step in changed] == [(" dog", " cat"), (" barks", " purrs"), (" left", " right")]
    assert "[left → right]" in diff_text(found.diff)


def test_heads_go_one_by_one_or_as_a_layer(loaded):
    low = answer_scaled(loaded, ASKED, {HEARS_LOW: 0.0}, SHORT)
    assert low.steered.thought == " woman. dog! barks?"
    both = answer_scaled(loaded, ASKED, {HEARS_LOW: 0.0, HEARS_HIGH: 0.0}, SHORT)
    layer = answer_scaled(loaded, ASKED, {Head(0, None): 0.0}, SHORT)
    assert both.steered.thought == layer.steered.thought == " woman. cat! purrs?"


@pytest.mark.parametrize("factors", [{}, {HEARS_HIGH: 1.0}, {Head(0, 6): 0.0}, {HEARS_HIGH: 2.0}])
def test_other_heads_and_a_factor_of_one_change_nothing(loaded, factors):
    found = answer_scaled(loaded, ASKED, factors, SHORT)
    assert found.turn.ids == found.steered.ids and found.factors == factors


def test_the_model_is_as_it_was(loaded):
    inputs = dict(loaded.processor(ASKED))
    with torch.inference_mode():
        before = loaded.model(**inputs).logits
        answer_scaled(loaded, ASKED, {HEARS_HIGH: 0.0}, SHORT)
        assert torch.equal(before, loaded.model(**inputs).logits)


@pytest.mark.parametrize("head, factor", [(Head(2, 0), 0.0), (Head(0, 8), 0.0), (Head(0, 0), float("nan"))])
def test_heads_that_are_not_there_are_refused(loaded, head, factor):
    with pytest.raises(TraceError, match="2 layers with 8 heads"):
        head_taps(loaded, {head: factor})
