"""Chat, translation and speech: the official prompts, scores by rule, rewards that follow them."""

import pytest

from model.chat import AudioPiece, ControlPiece, TextPiece, render
from model.tasks.base import Example
from model.tasks.chat import Chat, register_lines, register_of, wrong_about
from model.tasks.translation import Translation, corpus_bleu
from model.tasks.tts import TTS


def test_a_chat_of_two_turns(tone):
    talk = Chat.conversation("And Japan?", history=[(tone(1600), "It is Paris.")], speak=True)
    pieces = [piece for piece in render(talk) if not isinstance(piece, ControlPiece)]
    assert pieces[0] == TextPiece("system\nYou are a helpful assistant.") and isinstance(pieces[2], AudioPiece)
    assert pieces[3:] == [
        TextPiece("assistant\nIt is Paris."),
        TextPiece("human\nAnd Japan?"),
        TextPiece("assistant\n"),
    ]
    assert render(talk)[-1] == ControlPiece("<tts_start>") and not talk[-1].closed


@pytest.mark.parametrize(
    ("reply", "key", "others", "language", "right"),
    [
        ("It is 8.", "eight", ("seven",), "en", True),
        ("It is eighteen.", "eight", ("eighteen",), "en", False),
        ("Eight or seven.", "eight", ("seven",), "en", False),
        ("等于十八。", "八", ("十八", "十"), "zh", False),
        ("等于十八。", "十八", ("八", "十"), "zh", True),
        ("不对，在日本。", "对", ("不对",), "zh", False),
        ("One large latte, okay.", "large+latte/coffee", (), "en", True),
        ("One small latte, okay.", "large+latte", (), "en", False),
        ("It is 红色.", "红色", ("白色",), "en", True),
        ("是red。", "red", ("blue",), "zh", True),
    ],
)
def test_a_reply_names_the_answer(reply, key, others, language, right):
    assert (wrong_about(reply, key, others, language) == "") == right
    example = Chat.example("?", "-", id="x", language=language, key=key, others=others)
    assert Chat.score(reply, example).value == Chat.reward(reply, example) == float(right)


def test_the_tone_has_to_fit():
    example = Chat.example("I lost it.", "I am here for you.", id="x", language="en", register="sad")
    assert Chat.score("I am sorry to hear that. Rest well.", example).value == 1.0
    assert "tone happy, expected sad" in Chat.score("That is wonderful!", example).explanation
    assert Chat.score("", example).value == 0.0


def test_free_wording_is_compared_with_the_reference():
    example = Example("x", (), "You are very welcome, my friend!", {"language": "en"})
    assert Chat.score("You are very welcome my friend", example).value == 1.0
    assert Chat.score("No.", example).value == 0.0


def test_no_opening_is_in_two_tones():
    for language in ("en", "zh"):
        lines = [
            line for tone in ("happy", "sad", "angry", "neutral") for line in register_lines(tone, "open", language)
        ]
        assert len(lines) == len(set(lines)) >= 8 and all(register_of(line, language) for line in lines)


@pytest.mark.parametrize(
    ("target", "speak", "prompt"),
    [
        ("zh", False, "请仔细聆听这段语音，然后将其内容翻译成中文。"),
        ("zh", True, "请仔细聆听这段语音，然后将其内容翻译成中文并用语音播报。"),
        ("en", False, "请仔细聆听这段语音，然后将其内容翻译成英文。"),
        ("en", True, "请仔细聆听这段语音，然后将其内容翻译成英文并用语音播报。"),
    ],
)
def test_translation_asks_officially(tone, target, speak, prompt):
    talk = Translation.conversation(tone(1600), target=target, speak=speak)
    assert talk[0].parts[0].text == prompt and len(talk[-1].parts) == speak and not talk[-1].closed


def test_translation_is_scored_by_bleu(tone):
    one = Translation.example(tone(1600), "我在厨房。", id="a", target="zh")
    assert Translation.score("我在厨房。", one).value == pytest.approx(1.0)
    assert 0 < Translation.reward("我在卧室。", one) < 0.6
    spoken = Translation.example(tone(1600), "I am in the kitchen.", id="b", target="en", speak=True)
    assert Translation.score("i am in the kitchen", spoken).value == pytest.approx(1.0)
    score, (low, high) = corpus_bleu(["我在厨房。"], [one])
    assert score.score == pytest.approx(100.0) == low == high and "tok:zh" in score.signature
    with pytest.raises(ValueError, match="split them by direction"):
        corpus_bleu(["a", "b"], [one, spoken])
    with pytest.raises(ValueError, match="no tokenizer"):
        Translation.reward("x", Example("c", (), "x", {"language": "fr"}))


def test_speech_is_asked_for_as_the_base_model_is():
    example = TTS.example("你好。", id="x")
    assert render(example.conversation) == [
        TextPiece("以自然的语速读出下面的文字。\n你好。"),
        ControlPiece("<tts_start>"),
    ]
    assert TTS.score("你好", example).value == 0.0 and TTS.reward("你坏", example) == 0.5
