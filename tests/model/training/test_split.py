"""The model never learned the test: nothing that is trained on gives a held-out sentence, template or voice away."""

import numpy as np
import pytest

from model.training import talk_corpus, voices
from model.training.corpus import SALAD_SHARE
from model.training.world import grammar, salad, sides, talk
from model.training.world.tool_scripts import ToolScript


@pytest.fixture(scope="module")
def stream():
    """Sentences as the corpus plans them, salad included."""
    return grammar.sample_many(1500, seed=11, salad_share=SALAD_SHARE)


def test_no_training_sentence_is_one_of_the_test(stream):
    assert not [s for s in stream if sides.gives_away(s.english) or sides.gives_away(s.chinese)]


def test_no_training_sentence_holds_a_held_out_pair_even_by_its_fixed_words(stream):
    assert not [s.english for s in stream if grammar.holds_held_pair(s.english)]
    assert not [s.chinese for s in stream if s.template == salad.TEMPLATE and grammar.holds_held_pair(s.chinese)]


def test_the_watch_itself_sees_what_is_held():
    held = grammar.sample_many(150, seed=12, held_out=True)
    pairs = [s for s in held if not grammar.templates()[s.template].held]
    assert pairs and all(grammar.holds_held_pair(s.english) for s in pairs)
    assert all(sides.gives_away(s.english) and sides.gives_away(s.chinese) for s in held)


def test_no_talk_of_training_gives_a_test_sentence_away():
    assert not [text for text in talk.texts(60, seed=13) if sides.gives_away(text)]


def said_all(one):
    """Everything that the person says; a last "Yes please." alone is no test sentence."""
    return (one.human,) if isinstance(one, ToolScript) else tuple(exchange.human for exchange in one.exchanges)


def test_talk_of_both_sides_is_never_the_same():
    rng = np.random.default_rng(14)
    for kind in talk_corpus.SHARES:
        for language in ("en", "zh"):
            drawn = [
                {said_all(talk_corpus.draw(kind, language, rng, held_out=held)) for _ in range(60)}
                for held in (False, True)
            ]
            assert drawn[0].isdisjoint(drawn[1]), (kind, drawn[0] & drawn[1])


def test_salad_breaks_sentences_of_both_languages():
    rng = np.random.default_rng(15)
    salads = [salad.sample(rng) for _ in range(60)]
    straight = {s.english for s in grammar.sample_many(2000, seed=1)}
    assert sum(s.english in straight for s in salads) < 10
    assert len({s.chinese for s in salads}) > 50 and all(s.chinese.endswith("。") for s in salads)


def test_voices_of_training_and_test_are_other_ones():
    for language in ("en", "zh"):
        trained = {voice.name for voice in voices.available_voices(language, voices.TRAIN)}
        tested = {
            voice.name
            for split in (voices.HELD_OUT_VOICE, voices.HELD_OUT_ENGINE)
            for voice in voices.available_voices(language, split)
        }
        assert trained.isdisjoint(tested)
