"""Rewriting by rule: what is said differently means the same, what is made false does not, and no rule means None."""

import pytest

from analysis.rewriting import filler, mistake, paraphrase
from model.tasks.paralinguistics import DIMENSIONS, labels, reply, same


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("Three plus five is eight.", "Three plus five is nine."),
        ("It costs 12 dollars.", "It costs 13 dollars."),
        ("Eight is right.", "Eight is left."),
        ("三加五是八。", "三加五是九。"),
        ("A dog barks at the woman there", "A dog barks at the man there"),
        ("Nothing to change.", None),
    ],
)
def test_the_last_word_that_can_be_wrong_is(text, wrong):
    assert mistake(text) == wrong


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_label_can_be_made_false(dimension, language):
    """What comes out names another label of the same dimension, or at least not this one any more."""
    for name in labels(dimension):
        text = reply(dimension, name, language)
        wrong = mistake(text)
        assert wrong is not None and wrong != text
        made = [other for other in labels(dimension) if reply(dimension, other, language) == wrong]
        assert not any(same(dimension, other, name) and other == name for other in made)


def test_phrases_go_both_ways_and_keep_what_was_heard():
    text = "The speaker is a woman. I hear a dog.\nThree plus five is eight."
    other = paraphrase(text)
    assert other == "Whoever is speaking is a woman. There is the sound of a dog.\nThree plus five is eight."
    assert paraphrase(other) == text
    assert paraphrase("说话人是女性。") == "说话的人是女性。" and paraphrase("Three plus five is eight.") is None


def test_filler_is_as_long_and_says_nothing():
    assert (
        filler("I hear a dog.") == "... ... ... ..." and filler("我听到了") == "... ... ... ..." and filler("") == "..."
    )
