"""A trace names what is in the sound and nothing else, whatever the sound."""

import numpy as np
import pytest

from model.tasks import paralinguistics as p
from model.tasks.thinking import Thinking, claims, false_claims, length_reward, thought_units
from model.training.world import dialogue, facts, thoughts


def some_sound(rng):
    """Random labels of random dimensions."""
    return {d: str(rng.choice(list(p.labels(d)))) for d in p.DIMENSIONS if rng.random() < 0.6}


@pytest.mark.parametrize("language", ("en", "zh"))
def test_traces_name_only_what_is_there(language):
    rng = np.random.default_rng(0)
    exchange = facts.sample(rng, language)
    for _ in range(60):
        sound = some_sound(rng)
        trace = thoughts.think(exchange, sound, rng)
        example = Thinking.example("typed", trace.reply, id="x", language=language, sound=sound, key=exchange.key)
        assert {c.dimension for c in claims(trace.thought)} >= set(trace.named) <= set(sound)
        assert len(trace.named) <= thoughts.MAX_NAMED and false_claims(trace.thought, example) == ()
        assert trace.thought.endswith(exchange.why) and thought_units(trace.thought) <= 60


def test_a_label_that_is_not_there_is_a_false_claim():
    example = Thinking.example("x", "It is six.", id="x", language="en", sound={"gender": "male"}, key="six")
    assert false_claims("The speaker is a man.\nSo it is six.", example) == ()
    assert false_claims("The speaker is a woman. I hear a dog.\nSo.", example) == ("gender: female", "event: dog")
    assert false_claims("I am asked about a dog.", example) == ("event: dog",)
    assert false_claims("Nobody says anything.\nA dog eats.", example) == ()


@pytest.mark.parametrize("language", ("en", "zh"))
def test_the_emotion_that_decides_is_always_named(language):
    rng = np.random.default_rng(1)
    for emotion in dialogue.EMOTIONS:
        exchange = dialogue.sample_feeling(rng, language, emotion=emotion)
        trace = thoughts.think(exchange, {"emotion": emotion, "gender": "male"}, rng)
        assert "emotion" in trace.named
        with pytest.raises(ValueError, match="expected"):
            thoughts.think(exchange, {"gender": "male"}, rng)


def test_unknown_labels_are_refused_and_typed_text_is_not_heard():
    exchange = facts.sample(np.random.default_rng(2), "en")
    with pytest.raises(ValueError, match="event=unicorn"):
        thoughts.think(exchange, {"event": "unicorn"}, np.random.default_rng(0))
    trace = thoughts.think(exchange, {}, np.random.default_rng(0))
    assert trace.named == () and trace.thought.startswith("It is typed")


def test_the_task_scores_the_answer_and_rewards_a_grounded_thought():
    example = Thinking.example(
        "What is two plus four?", "It is six.", id="x", language="en", sound={"gender": "male"}, key="six"
    )
    assert example.conversation[-1].parts[0].text == "\n<think>\n" and not example.conversation[-1].closed
    good = "The speaker is a man.\nTwo plus four is six.</think>\n\nIt is six."
    assert Thinking.score(good, example).value == 1.0 and Thinking.reward(good, example) == 1.0
    false = good.replace("a man", "a woman")
    assert Thinking.score(false, example).value == 1.0 and Thinking.reward(false, example) == 0.8
    assert "gender: female" in Thinking.score(false, example).explanation
    wrong = good.replace("It is six", "It is five")
    assert Thinking.reward(wrong, example) == pytest.approx(0.2)
    assert Thinking.score("The speaker is a man.", example).value == 0.0
    assert [length_reward(text) for text in (good, "</think>\n\nIt is six.", "a " * 61 + "</think>", "a b")] == [
        1,
        0,
        0,
        0,
    ]
