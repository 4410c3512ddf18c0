"""A thought that was planted as the reason is told from one that was planted for show."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from analysis.capture import capture_trace
from analysis.faithfulness import (
    SHARES,
    changed_answers,
    early_answering,
    faithfulness,
    parts_of,
    says_the_same,
    with_thought,
    within_thought,
)
from analysis.figures.counterfactual import changes
from analysis.figures.curves import curves
from model.chat import THINK_PREFIX, THINK_SUFFIX, Text, Thought
from model.errors import TraceError
from model.generation import generate_batch
from tests.analysis import toy

SOUND = toy.clip((0.3, 0.7), (1.2, 1.6))
REPLY = toy.full_reply("man", "dog", "barks", "left")
SWAPPED = {" dog!": " cat!", " man.": " woman."}
"""Mistakes that a person would make up for the toy; there is none for its last step."""


def woman_for_man(thought: str) -> str:
    """Other words that the toy's answer does not depend on."""
    return thought.replace("man", "woman")


def measure(kind: str, **options):
    return faithfulness(
        toy.build_toy(kind), toy.ask(SOUND), REPLY, mistake=SWAPPED.get, paraphrase=woman_for_man, **options
    )


@pytest.fixture(scope="module")
def reason():
    return measure("thought")


@pytest.fixture(scope="module")
def show():
    return measure("sound")


# --- parts --------------------------------------------------------------------------------------------------------


def test_a_reply_is_taken_apart_exactly():
    loaded = toy.build_toy()
    parts = parts_of(loaded, toy.ask(SOUND), REPLY)
    assert parts.thought == " man. dog! barks?" and parts.answer == "left"
    assert list(parts.answer_ids) == REPLY[-2:]


def test_a_thought_that_the_reply_opened_itself_is_taken_apart_too():
    loaded = toy.build_toy()
    ids = loaded.processor.encode_text("<think>\n man. dog!\n</think>\n\n left")
    parts = parts_of(loaded, toy.ask(SOUND, think=False), ids)
    assert parts.thought == " man. dog!\n" and parts.answer == "left"


def test_putting_the_thought_back_gives_the_turn_as_it_was():
    """The baseline is the log-probability that the answer had when it was written."""
    loaded = toy.build_toy()
    trace = capture_trace(loaded, toy.ask(SOUND), REPLY)
    found = faithfulness(loaded, toy.ask(SOUND), REPLY, kinds=("none",), regenerate=False)
    assert found.baseline == pytest.approx(float(trace.tokens.logprob[-2:].sum()), abs=1e-4)
    ids = loaded.processor.encode(with_thought(toy.ask(SOUND), " man. dog! barks?")).ids
    prompt = loaded.processor.encode(toy.ask(SOUND)).ids
    assert ids == [*prompt, *REPLY[:-2]]


def test_a_thought_goes_where_the_turn_opened_one():
    asked = toy.ask(SOUND)
    assert with_thought(asked, "x")[-1].parts == (Thought("x"),)
    assert within_thought(asked, "x")[-1].parts == (Text(THINK_PREFIX + "x"),)
    assert with_thought(asked[:-1], "x")[-1].parts == (Thought("x"),)
    begun = (asked[0], replace(asked[1], parts=(Text("Well," + THINK_PREFIX),)))
    assert with_thought(begun, "x")[-1].parts == (Text("Well,"), Thought("x"))
    assert THINK_SUFFIX.startswith("</think>")


@pytest.mark.parametrize("words", [" left", " man. dog! barks?", " man.</think>\n\n"])
def test_replies_without_thought_or_answer_are_refused(words):
    loaded, think = toy.build_toy(), words != " left"
    ids = loaded.processor.encode_text(words)
    with pytest.raises(TraceError, match="change a thought"):
        faithfulness(loaded, toy.ask(SOUND, think=think), ids)


# --- one turn -----------------------------------------------------------------------------------------------------


def test_a_thought_that_is_the_reason_is_needed_to_its_end(reason):
    early = reason.of("early")
    assert [one.name for one in early] == [f"after {k} of 3 steps" for k in range(4)]
    assert [one.same for one in early] == [False, False, False, True] and early[0].answer == "right"
    lacking = reason.early()
    assert lacking.values[:3].min() > 3 and lacking.values[3] == pytest.approx(0, abs=1e-4)


def test_a_thought_for_show_is_not_needed_at_all(show):
    assert all(one.same for one in show.variants if one.kind != "mistake")
    assert np.abs(show.early().values).max() < 0.5


def test_a_mistake_is_thought_on_from(reason):
    """Step 2 made false: the model purrs where it barked, and answers accordingly; step 1 matters to nothing."""
    man, dog = reason.of("mistake")
    assert (man.name, man.thought, man.same) == ("mistake in step 1", " woman. dog! barks?", True)
    assert (dog.name, dog.thought, dog.same) == ("mistake in step 2", " man. cat! purrs?", False)
    assert dog.logprob < reason.baseline - 3 < man.logprob


def test_without_new_answers_the_rest_of_the_thought_stays(reason):
    found = measure("thought", regenerate=False)
    assert found.of("mistake")[1].thought == " man. cat! barks?" and found.of("mistake")[1].same is None
    np.testing.assert_allclose(found.early().values, reason.early().values, atol=1e-4)


def test_other_words_keep_the_answer_and_filler_and_silence_do_not(reason):
    [paraphrased], [filled], [silent] = (reason.of(kind) for kind in ("paraphrase", "filler", "none"))
    assert paraphrased.same and not filled.same and not silent.same
    assert filled.thought == "... ... ..." and silent.thought == ""
    change = reason.change()
    assert change.axes[0].labels[-3:] == ("in other words", "filler", "no thought")
    assert change.values[-3] == pytest.approx(0, abs=0.1) and change.values[-2:].max() < -3


def test_cut_thoughts_end_as_the_whole_one_did():
    loaded = toy.build_toy()
    ids = [*loaded.processor.encode_text(" man. dog!\n</think>\n\n"), *loaded.processor.encode_text(" left")]
    found = faithfulness(loaded, toy.ask(SOUND), ids, kinds=("early", "filler"), regenerate=False)
    assert [one.thought for one in found.variants] == ["", " man.\n", " man. dog!\n", "... ...\n"]


def test_what_no_rule_can_make_is_named(reason):
    found = faithfulness(toy.build_toy(), toy.ask(SOUND), REPLY, kinds=("paraphrase", "none"), regenerate=False)
    assert found.left_out == ("paraphrase",) and reason.left_out == ()
    with pytest.raises(TraceError, match="the kinds"):
        faithfulness(toy.build_toy(), toy.ask(SOUND), REPLY, kinds=("better",))


def test_answers_are_what_the_model_says_to_the_changed_thought(reason):
    loaded, variant = toy.build_toy(), reason.of("early")[1]
    [turn] = generate_batch(loaded.model, loaded.processor, [with_thought(toy.ask(SOUND), variant.thought)])
    assert turn.text.strip() == variant.answer


def test_cancelled_variants_have_no_number_and_no_answer():
    cancel = threading.Event()
    cancel.set()
    found = measure("thought", cancel=cancel)
    assert all(np.isnan(one.logprob) and one.answer is None and one.same is None for one in found.variants)
    assert found.to_dict()["variants"][0]["kind"] == "early"


def test_answers_are_compared_as_a_person_would():
    assert says_the_same("It is Eight!", "it is eight") and says_the_same("是八。", "是 八")
    assert not says_the_same("eight", "nine")


# --- many turns ---------------------------------------------------------------------------------------------------


def test_many_turns_tell_reason_from_show(reason, show):
    needed = [early_answering([one] * 3) for one in (reason, show)]
    assert needed[0].notes["needed"] > 0.9 and needed[1].notes["needed"] == 0
    np.testing.assert_array_equal(needed[0].axes[0].values, SHARES)
    np.testing.assert_array_equal(early_answering([reason, show]).values, [0.5] * 10 + [1])
    changed = changed_answers([reason, show])
    assert changed.axes[0].labels == ("early", "mistake", "paraphrase", "filler", "none")
    np.testing.assert_allclose(changed.values, [0.5, 0.25, 0, 0.5, 0.5])
    assert changed.notes["cases"]["mistake"] == 4 and changed.low is not None and changed.n == 2


def test_one_turn_and_many_can_be_drawn(reason, show):
    bars = changes(reason.change())
    assert bars.layout.yaxis.ticktext[-1] == "no thought"
    np.testing.assert_allclose(bars.data[0].x, reason.change().values)
    needed = early_answering([reason, show])
    curve = [line for line in curves(needed).data if line.name][-1]
    np.testing.assert_allclose(curve.y, needed.values)
    assert changes(changed_answers([reason, show])).data[0].error_x.array is not None


def test_nothing_to_put_together_is_refused():
    found = measure("thought", regenerate=False)
    for together in (early_answering, changed_answers):
        with pytest.raises(TraceError):
            together([found])
        with pytest.raises(TraceError):
            together([])
