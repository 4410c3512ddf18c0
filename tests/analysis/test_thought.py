"""The evidence map finds what was planted in the toy: which tone, and which earlier step, each step rests on."""

import threading

import numpy as np
import pytest

from analysis.capture import capture_trace
from analysis.thought import Evidence, attention_by_step, evidence_map, sentences, steps_of, thought_steps
from model.errors import TraceError
from tests.analysis import toy

LOW, HIGH = (0.3, 0.7), (1.2, 1.6)
"""When the two tones sound."""
MAN, DOG, BARKS, LEFT = range(4)


@pytest.fixture(scope="module")
def loaded():
    return toy.build_toy("thought")


@pytest.fixture(scope="module")
def found(loaded) -> Evidence:
    reply = toy.full_reply("man", "dog", "barks", "left")
    return evidence_map(loaded, toy.ask(toy.clip(LOW, HIGH)), reply, window_s=0.6, hop_s=0.2)


# --- steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thought, pieces",
    [
        ("The pitch is 3.5. I hear a dog!\nSo: yes", ["The pitch is 3.5.", " I hear a dog!\n", "So: yes"]),
        ("说话人是女性。我听到了狗叫声。\n三加五是八。", ["说话人是女性。", "我听到了狗叫声。\n", "三加五是八。"]),
        ("\n\nOne.\n\n\nTwo", ["\n\nOne.\n\n\n", "Two"]),
        ("", []),
        ("  ", ["  "]),
    ],
)
def test_a_thought_is_cut_at_sentences_and_lines(thought, pieces):
    assert list(sentences(thought)) == pieces and "".join(pieces) == thought


def test_steps_own_the_tokens_that_say_them(loaded):
    conversation, reply = toy.ask(toy.clip(LOW, HIGH)), toy.full_reply("man", "dog", "barks", "left")
    steps = steps_of(loaded, conversation, reply)
    assert [(step.text, step.part) for step in steps] == [
        ("man.", "thought"), ("dog!", "thought"), ("barks?", "thought"), ("left", "answer"),
    ]  # fmt: skip
    for step in steps:
        assert loaded.processor.decode([reply[query] for query in step.queries]).strip() == step.text
    assert thought_steps(capture_trace(loaded, conversation, reply)) == steps


def test_a_reply_that_opens_its_own_thought_is_read_too(loaded):
    text = "<think>\n man. dog!\n</think>\n\n left"
    reply = loaded.processor.encode_text(text)
    steps = steps_of(loaded, toy.ask(toy.clip(LOW, HIGH), think=False), reply)
    assert [step.text for step in steps] == ["man.", "dog!", "left"]


def test_a_thought_that_never_ended_has_no_answer(loaded):
    steps = steps_of(loaded, toy.ask(toy.clip(LOW, HIGH)), loaded.processor.encode_text(" man. dog"))
    assert [step.text for step in steps] == ["man.", "dog"]


# --- evidence -----------------------------------------------------------------------------------------------------


def test_each_step_is_traced_to_its_tone(found):
    drops, time = found.sound().values, found.sound().axis("time").values
    for step, span in ((MAN, LOW), (DOG, HIGH)):
        assert span[0] <= time[drops[step].argmax()] <= span[1] and drops[step].max() > 3
    assert np.abs(drops[[BARKS, LEFT]]).max() < 0.5


def test_each_step_is_traced_to_the_earlier_one(found):
    raised = found.earlier().values
    assert raised[BARKS, DOG] > 3 and raised[LEFT, BARKS] > 3
    assert np.isnan(raised[np.triu_indices(4)]).all()
    others = [raised[DOG, MAN], raised[BARKS, MAN], raised[LEFT, MAN], raised[LEFT, DOG]]
    assert np.abs(others).max() < 1


def test_steps_are_heard_or_follow(found):
    assert found.verdicts == ("heard", "heard", "follows", "follows") and found.unsupported == ()
    support = found.support()
    assert support.values[[MAN, DOG]].min() > 3 and np.abs(support.values[[BARKS, LEFT]]).max() < 0.5
    assert support.notes["instead"] == ["silence", "noise 0", "noise 1"]


def test_a_made_up_step_is_flagged_and_so_is_what_follows_from_it(loaded):
    """No high tone, yet the thought says dog: neither the dog nor what follows from it has acoustic support."""
    reply = toy.full_reply("man", "dog", "barks", "left")
    found = evidence_map(loaded, toy.ask(toy.clip(LOW, None)), reply, window_s=0.6, hop_s=0.4)
    assert found.verdicts == ("heard", "unsupported", "unsupported", "unsupported")
    assert [step.text for step in found.unsupported] == ["dog!", "barks?", "left"]


def test_a_sound_that_says_the_same_takes_support_away(loaded, found):
    """Against a recording with the same tones nothing speaks for this one; the mean over the sounds says so."""
    reply = toy.full_reply("man", "dog", "barks", "left")
    twin = toy.clip((0.1, 0.5), (0.6, 1.0))
    again = evidence_map(loaded, toy.ask(toy.clip(LOW, HIGH)), reply, window_s=0.6, hop_s=0.6, others=[twin] * 9)
    assert again.sounds[-1] == "other 8" and again.support().values[DOG] < 0.5 < found.support().values[DOG]


def test_an_answer_taken_from_the_sound_is_heard():
    shown = toy.build_toy("sound")
    reply = toy.full_reply("man", "dog", "barks", "left")
    found = evidence_map(shown, toy.ask(toy.clip(LOW, HIGH)), reply, window_s=0.6, hop_s=0.6)
    assert found.verdicts[LEFT] == "heard" and found.earlier().values[LEFT, BARKS] < 0.5


def test_a_cancelled_map_is_not_a_number(loaded):
    cancel = threading.Event()
    cancel.set()
    reply = toy.full_reply("man", "dog", "barks", "left")
    found = evidence_map(loaded, toy.ask(toy.clip(LOW, HIGH)), reply, cancel=cancel)
    assert np.isnan(found.support().values).all() and np.isnan(found.earlier().values).all()


def test_a_reply_without_thought_is_refused(loaded):
    with pytest.raises(TraceError, match="without a thought"):
        evidence_map(loaded, toy.ask(toy.clip(LOW, HIGH), think=False), loaded.processor.encode_text(" left"))


# --- attention ----------------------------------------------------------------------------------------------------


def test_attention_by_step_is_that_of_its_tokens(loaded):
    trace = capture_trace(loaded, toy.ask(toy.clip(LOW, HIGH)), toy.full_reply("man", "dog", "barks", "left"))
    found = attention_by_step(trace)
    rows = trace.tensors["attention.segments"].astype(float)[..., trace.meta.segments.index("audio")].mean(axis=(0, 1))
    np.testing.assert_allclose(found.values[DOG], rows[list(thought_steps(trace)[DOG].queries)].mean())
    assert len(found.axes[0]) == 4 and found.unit == "share"
    with pytest.raises(TraceError, match="a segment 'input'"):
        attention_by_step(trace, segment="input")
