"""Multiple choice: shuffled fairly, read from any form of answer, scored by the official comparison too."""

from collections import Counter

import numpy as np
import pytest

from model.audio import Waveform
from model.tasks import audio_questions as q
from model.tasks.audio_questions import AudioQuestions, Choices
from model.tasks.base import Example

ANIMALS = Choices(("a dog", "a cat", "a crow", "sea waves"), 1)


def example(choices=ANIMALS):
    return Example("x", (), q.respond(choices), {"options": choices.options, "right": choices.right})


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("<RESPONSE>a cat</RESPONSE>", 1), ("<RESPONSE> A cat. </RESPONSE>", 1), ("<RESPONSE>b</RESPONSE>", 1),
        ("B", 1), ("(B)", 1), ("B. a cat", 1), ("C) a crow", 2), ("The sound is a cat, I think.", 1),
        ("a dog or a cat", None), ("", None), ("a horse", None), ("<RESPONSE>sea waves", 3), ("E", None),
    ],
)  # fmt: skip
def test_the_choice_is_read_from_any_form_of_answer(answer, index):
    assert q.pick(answer, ANIMALS.options) == index


def test_an_option_inside_a_longer_one_does_not_count():
    options = ("rain", "rain and wind", "雨声", "大雨声")
    assert q.pick("It is rain and wind.", options) == 1
    assert q.pick("我听到了大雨声", options) == 3


def test_the_score_says_what_was_chosen():
    right = AudioQuestions.score("B. a cat", example())
    assert right.value == 1.0 and "passes" not in right.explanation.split(";")[0]
    wrong = AudioQuestions.score("a dog", example())
    assert (wrong.value, wrong.answer) == (0.0, "a dog") and "fails" in wrong.explanation
    assert AudioQuestions.reward("nothing of that", example()) == 0.0
    with pytest.raises(ValueError, match="no options"):
        AudioQuestions.reward("a cat", Example("x", (), ""))


def test_the_official_comparison_wants_the_words_and_no_others():
    options = ("four knocks", "two knocks", "three bells")
    assert q.word_match("I hear two knocks", options, 1)
    assert not q.word_match("two", options, 1) and not q.word_match("two or four knocks", options, 1)
    assert not q.word_match("", options, 1)
    assert all(q.word_match(q.respond(Choices(options, i)), options, i) for i in range(3))


def test_every_position_is_as_likely_as_any_other():
    rng = np.random.default_rng(0)
    made = [Choices.shuffled("a", ["b", "c", "d", "e", "a"], rng) for _ in range(2000)]
    assert all(c.answer == "a" and len(c.options) == 4 for c in made)
    assert all(abs(n - 500) < 90 for n in Counter(c.right for c in made).values())
    assert Counter(option for c in made for option in c.options).keys() == set("abcde")
    assert q.chance(made) == 0.25


def test_options_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="all different"):
        Choices(("A dog.", "a dog"), 0)
    with pytest.raises(ValueError, match="number 2"):
        Choices(("a", "b"), 2)


def test_the_question_is_written_as_the_official_example_does():
    text = q.ask("What is it?", ANIMALS)
    assert text.startswith("What is it? Please choose the answer from the following options: [a dog, a cat, a crow,")
    assert text.endswith("Output the final answer in <RESPONSE> </RESPONSE>.")
    sound = Waveform(np.zeros(1600, np.float32), 16_000)
    system, human, assistant = AudioQuestions.conversation(sound, question=text)
    assert "expert in audio analysis" in system.parts[0].text and human.parts[1].text == text and not assistant.closed
