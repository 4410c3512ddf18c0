"""Readings of Mandarin: tone sandhi on worked examples."""

import pytest

from model.errors import StepAudioError
from model.training.pronunciation import as_pinyin, phrases, pronounce


def spoken(text: str) -> str:
    return " ".join(s.pinyin for phrase in phrases(text) for word in pronounce(phrase) for s in word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("你好", "ni2 hao3"),
        ("我很好", "wo2 hen2 hao3"),
        ("不是", "bu2 shi4"),
        ("不好", "bu4 hao3"),
        ("一个苹果", "yi2 ge4 ping2 guo3"),
        ("一杯茶", "yi4 bei1 cha2"),
        ("二十一", "er4 shi2 yi1"),
        ("星期一见", "xing1 qi1 yi1 jian4"),
        ("第一天", "di4 yi1 tian1"),
        ("绿色", "lv4 se4"),
        ("银行行长", "yin2 hang2 hang2 zhang3"),
    ],
)
def test_readings_and_sandhi(text, expected):
    assert spoken(text) == expected


def test_phrases_refuse_what_cannot_be_read():
    assert phrases("你好，再见。") == ["你好", "再见"]
    for text in ("我有3个", "hello", "，"):
        with pytest.raises(StepAudioError, match="Write numbers"):
            phrases(text)


def test_pinyin_keeps_the_pauses():
    assert as_pinyin("你好，再见。") == "ni2 hao3, zai4 jian4"


def test_every_character_keeps_its_place_and_its_reading_before_sandhi():
    syllables = [s for word in pronounce("你好") for s in word]
    assert [(s.character, s.lexical, s.pinyin) for s in syllables] == [("你", "ni3", "ni2"), ("好", "hao3", "hao3")]
