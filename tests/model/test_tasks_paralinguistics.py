"""The eleven dimensions: one rule each, worked by hand, and tables that agree with themselves."""

import numpy as np
import pytest

from model.audio import Waveform
from model.chat import Audio, Control, Text
from model.tasks import paralinguistics as p
from model.tasks.base import Example
from model.tasks.paralinguistics import Paralinguistics

SOUND = Waveform(np.zeros(1600, np.float32), 16_000)


def example(dimension, label):
    return Example("x", (), p.reply(dimension, label, "en"), {"dimension": dimension, "label": label})


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("dimension", p.DIMENSIONS)
def test_a_perfect_reply_names_its_label_and_passes(dimension, language):
    for label in p.labels(dimension):
        said = p.reply(dimension, label, language)
        assert p.passes(dimension, said, label) and p.exact(dimension, said, label), said
        assert Paralinguistics.reward(said, example(dimension, label)) == 1.0


@pytest.mark.parametrize("dimension", p.DIMENSIONS)
def test_no_word_names_two_labels(dimension):
    owners: dict[str, str] = {}
    for label in p.labels(dimension).values():
        for word in map(str.lower, label.words):
            assert owners.setdefault(word, label.name) == label.name, word


@pytest.mark.parametrize(
    ("dimension", "answer", "right", "expected"),
    [
        ("gender", "A female voice.", "male", False),
        ("gender", "It could be a man or a woman.", "male", False),
        ("gender", "", "male", False),
        ("speed", "The speed is medium.", "mid-fast", True),
        ("speed", "The speed is medium.", "fast", False),
        ("speed", "语速偏慢。", "slow", True),
        ("emotion", "说话人很伤心。", "angry", True),
        ("emotion", "He is furious.", "happy", False),
        ("pitch", "中高音", "high", True),
        ("pitch", "中低音", "middle", False),
        ("event", "a helicopter", "airplane", True),
        ("event", "a dog and a cat", "dog", False),
        ("scenario", "outdoors", "park", False),
        ("rhythm", "He makes many pauses.", "halting", True),
        ("vocal", "Somebody coughs.", "cough", True),
        ("age", "About 35 years old.", "middle-aged", True),
        ("age", "About 34 years old.", "middle-aged", False),
        ("age", "60-70岁", "elderly", True),
        ("age", "二十多岁", "young", True),
        ("age", "十岁左右", "child", True),
        ("age", "She is in her seventies.", "elderly", True),
        ("age", "I do not know.", "young", False),
    ],
)
def test_the_rules_on_cases_worked_by_hand(dimension, answer, right, expected):
    assert p.passes(dimension, answer, right) is expected


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("25", 25), ("20 to 30", 25), ("二十五岁", 25), ("八岁", 8), ("十二岁", 12), ("thirty five", 35),
        ("two men", None), ("老人", 70), ("七十岁", 70),
    ],
)  # fmt: skip
def test_years(text, age):
    assert p.years(text) == age


def test_asking_for_the_label_itself_is_stricter_than_the_rule():
    assert p.passes("emotion", "sad", "angry") and not p.exact("emotion", "sad", "angry")
    assert p.exact("age", "about sixty", "elderly") and not p.exact("age", "", "child")


def test_the_constant_answer_is_far_above_zero():
    ladder = ["slow", "mid-slow", "medium", "mid-fast", "fast"] * 10
    assert p.constant_baseline("speed", ladder).accuracy == pytest.approx(0.6)
    assert p.constant_baseline("gender", ["male", "male", "female"]) == p.Baseline("male", pytest.approx(2 / 3))
    with pytest.raises(ValueError, match="no example"):
        p.constant_baseline("gender", [])


def test_what_has_no_rule_is_not_scored():
    wrong = Example("x", (), "", {"dimension": "smell", "label": "sweet"})
    assert Paralinguistics.score("sweet", wrong).value is None
    with pytest.raises(ValueError, match="no rule"):
        Paralinguistics.reward("sweet", wrong)
    with pytest.raises(KeyError, match="gender"):
        p.labels("smell")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("dimension", p.DIMENSIONS)
def test_questions_for_training_and_for_testing_differ(dimension, language):
    train, held = (set(p.questions(dimension, language, held_out=held)) for held in (False, True))
    assert len(train) >= 3 and held and not train & held


def test_the_question_may_be_typed_spoken_or_inside_the_recording():
    inside = Paralinguistics.conversation(SOUND)
    typed = Paralinguistics.conversation(SOUND, question="How old?")
    spoken = Paralinguistics.conversation(SOUND, question=SOUND, question_first=True, speak=True)
    assert [type(part) for part in inside[1].parts] == [Audio]
    assert [type(part) for part in typed[1].parts] == [Audio, Text] and typed[2].parts == ()
    assert [part.name for part in spoken[1].parts] == ["question", ""]
    assert isinstance(spoken[2].parts[0], Control) and not spoken[2].closed
    assert spoken[0].parts == (Text(Paralinguistics.prompt),)
