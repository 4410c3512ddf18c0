"""Questions about made clips: only what holds is asked, and the given answer is right by the task's own score."""

from collections import Counter

import numpy as np
import pytest

from model.audio import Waveform
from model.chat import Audio, Text
from model.tasks import paralinguistics
from model.tasks.audio_questions import AudioQuestions
from model.tasks.paralinguistics import Paralinguistics
from model.training import task_questions as t
from model.training.corpus import Clip, Row

TASKS = {task.name: task for task in (Paralinguistics, AudioQuestions)}
SOUND = Waveform(np.zeros(1600, np.float32), 16_000)


def row(labels, text="Please open the kitchen window.", language="en", voice="flite-slt", id="c1"):
    return Row(Clip(id, "task", language, text, voice=voice, labels=labels), 0, 0, 10, 1600)


EVERY = row(
    {"gender": "male", "age": "young", "emotion": "sad", "speed": "slow", "pitch": "high", "rhythm": "halting",
     "timbre": "dark", "style": "news", "scenario": "park", "event": "dog", "vocal": "cough",
     "speech_start_s": 1.0, "speech_end_s": 2.0, "event_start_s": 0.0, "event_end_s": 0.8}
)  # fmt: skip
TUNE = row({"instrument": "bell", "direction": "rising", "tempo": "fast", "notes": "4", "event": "music"}, "", "")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("made", [EVERY, TUNE])
def test_the_given_answer_is_right_by_the_task(made, held_out):
    asked = t.paralinguistic_questions(made, rng(), held_out=held_out) + t.choice_questions(
        made, rng(), held_out=held_out
    )
    assert len({q.id for q in asked}) == len(asked)
    for question in asked:
        example = t.example(question, lambda name: SOUND)
        assert TASKS[question.task].reward(question.answer, example) == 1.0
        assert TASKS[question.task].reward("I do not know.", example) == 0.0


def test_only_what_holds_is_asked():
    assert [q.dimension for q in t.paralinguistic_questions(EVERY, rng(), held_out=False)] == list(
        paralinguistics.DIMENSIONS
    )
    assert {q.dimension for q in t.choice_questions(TUNE, rng(), held_out=False)} == set(t._MUSIC)
    assert not t.paralinguistic_questions(row({}), rng(), held_out=False)
    chosen = {q.dimension: q.label for q in t.choice_questions(row({}), rng(), held_out=False)}
    assert chosen.keys() == {"word"} and chosen["word"] in ("open", "kitchen", "window", "please")


def test_what_is_first_follows_the_times():
    def first(**times):
        base = {"event": "dog", "speech_start_s": 1.0, "speech_end_s": 2.0, "event_start_s": 0.0, "event_end_s": 0.8}
        asked = t.choice_questions(row(base | times), rng(), held_out=False)
        return next((q.label for q in asked if q.dimension == "order"), None)

    assert first() == "a dog"
    assert first(event_start_s=2.2, event_end_s=3.0) == "the voice"
    assert first(event_start_s=1.2, event_end_s=1.8) is None


def test_wrong_options_are_really_wrong():
    for seed in range(30):
        for question in t.choice_questions(EVERY, rng(seed), held_out=False):
            options = question.choices.options
            wrong = [text for text in options if text != question.choices.answer]
            if question.dimension in paralinguistics.DIMENSIONS:
                assert not any(paralinguistics.passes(question.dimension, w, EVERY.clip.labels[question.dimension])
                               for w in wrong)  # fmt: skip
            if question.dimension == "word":
                assert not any(w in EVERY.clip.text.lower() for w in wrong)


def test_the_right_option_stands_anywhere():
    asked = [q for seed in range(300) for q in t.choice_questions(TUNE, rng(seed), held_out=False)]
    places = Counter(q.choices.right for q in asked if q.dimension == "instrument")
    assert set(places) == {0, 1, 2, 3} and min(places.values()) > 45


def test_tests_ask_in_words_that_training_never_hears():
    def texts(held_out):
        made = [t.paralinguistic_questions(EVERY, rng(s), held_out=held_out) for s in range(20)]
        made += [t.choice_questions(r, rng(s), held_out=held_out) for r in (EVERY, TUNE) for s in range(20)]
        return {q.text.split(" Please choose")[0] for questions in made for q in questions}

    assert not texts(True) & texts(False)


def test_spoken_questions_come_from_the_voice_that_was_heard():
    bank_rows = [
        row({"dimension": d}, f"{d}?", voice=voice, id=f"{d}-{voice}")
        for d in paralinguistics.DIMENSIONS
        for voice in ("flite-slt", "flite-awb")
    ]
    bank = t.QuestionBank(bank_rows)
    asked = [q for s in range(20) for q in t.paralinguistic_questions(EVERY, rng(s), held_out=False, bank=bank)]
    spoken = [q for q in asked if q.spoken]
    assert 0.3 < len(spoken) / len(asked) < 0.7 and all(q.spoken == f"{q.dimension}-flite-slt" for q in spoken)
    assert any(q.question_first for q in spoken) and not any(q.question_first for q in asked if not q.spoken)
    human = t.example(spoken[0], lambda name: SOUND).conversation[1]
    assert [type(part) for part in human.parts] == [Audio, Audio]
    typed = next(q for q in asked if not q.spoken)
    assert isinstance(t.example(typed, lambda name: SOUND).conversation[1].parts[1], Text)
    assert bank.draw("age", "zh", "flite-slt", rng()) is None
