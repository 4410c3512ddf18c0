"""The ASR task asks with the official prompt and scores a transcript in words or characters."""

import inspect

import pytest

from model.chat import AudioPiece, ControlPiece, TextPiece, render
from model.tasks import prompts
from model.tasks.asr import ASR
from model.tasks.base import Example, Score


def example(reference, **metadata):
    return Example("x", (), reference, metadata)


def test_the_question_is_the_official_one(tone):
    pieces = render(ASR.conversation(tone(1600), name="a.wav"))
    bot, eot = ControlPiece("<|BOT|>"), ControlPiece("<|EOT|>")
    system = TextPiece("system\n请记录下你所听到的语音内容。")
    assert pieces[:5] == [bot, system, eot, bot, TextPiece("human\n")]
    assert isinstance(pieces[5], AudioPiece) and pieces[6:] == [eot, bot, TextPiece("assistant\n")]
    assert ASR.options.max_new_tokens == 256 and ASR.options.temperature == 0
    assert ASR().conversation(tone(1600)) == ASR.conversation(tone(1600))


def test_english_is_scored_in_words():
    score = ASR.score("The hat sat down, please.", example("the cat sat down"))
    assert score == Score(0.5, "the hat sat down please", "2 errors in 4 words: cat→hat, +please", weight=4.0)


def test_mandarin_is_scored_in_characters():
    score = ASR.score("今天天气好", example("今天天气很好。"))
    assert (score.value, score.weight) == (1 / 6, 6.0)
    assert score.explanation == "1 error in 6 characters: −很"


def test_the_language_can_be_told():
    assert ASR.score("ABC", example("abc", language="zh")).weight == 3.0
    assert ASR.score("abc", example("abc", language="fr")).value is None


def test_silence_is_scored():
    assert ASR.score("", example("")).value == 0.0
    assert ASR.score("hello there", example("")).value == 2.0


def test_the_reward_is_higher_for_fewer_errors():
    rewards = [ASR.reward(text, example("a b c d")) for text in ("a b c d", "a b c", "x", "x y z u v w")]
    assert rewards == [1.0, 0.75, 0.0, 0.0]
    with pytest.raises(ValueError, match="no normaliser"):
        ASR.reward("abc", example("abc", language="fr"))


def test_prompts_are_all_listed_and_distinct():
    texts = prompts.all_texts()
    names = [name for name, value in inspect.getmembers(prompts) if name.isupper()]
    assert len(texts) == len(set(texts)) == len(names) and ASR.prompt in texts
