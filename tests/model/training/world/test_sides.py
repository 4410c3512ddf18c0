"""The split of the talk: the grammar's test sentences are recognised in any text, whatever stands around them."""

import pytest

from model.training.world import grammar, sides


def test_test_sentences_of_the_grammar_are_recognised():
    held = grammar.sample_many(60, seed=11, held_out=True)
    for language in ("en", "zh"):
        missed = [s.text(language) for s in held if not sides.gives_away(s.text(language))]
        assert not missed
        assert sides.gives_away("Okay! " + held[0].text(language))


def test_training_sentences_are_let_through():
    train = grammar.sample_many(60, seed=12)
    assert not [s for s in train if sides.gives_away(s.english) or sides.gives_away(s.chinese)]
    assert not sides.gives_away("It is five.") and not sides.gives_away("")


def test_articles_and_plurals_follow_the_words():
    words = {"a": grammar.SlotValue("elephant", "大象"), "b": grammar.SlotValue("box", "盒子", "个")}
    assert sides.fill(("A {a} in {b:s}.", "{b:m}{a}。"), words) == ("An elephant in boxes.", "个大象。")


def test_a_side_that_never_comes_is_an_error():
    with pytest.raises(RuntimeError, match="a riddle"):
        sides.draw_on_side(lambda: (1, False), True, "a riddle")
