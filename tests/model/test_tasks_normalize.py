"""Normalisers, as tables of one-line examples."""

import pytest

from model.tasks.normalize import english, is_chinese, mandarin, number_in_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,   World!", "hello world"),
        ("It’s John's dog’s", "it's john's dog's"),
        ("'quoted' words' end", "quoted words end"),
        ("twenty-one", "twenty one"),
        ("21", "twenty one"),
        ("0 and 100", "zero and one hundred"),
        ("1,250 people", "one thousand two hundred fifty people"),
        ("1, 250", "one two hundred fifty"),
        ("3.14", "three point one four"),
        ("at 7:30", "at seven thirty"),
        ("at 7:00", "at seven"),
        ("at 7:05", "at seven oh five"),
        ("the 1st, 2nd and 20th of May", "the first second and twentieth of may"),
        ("100%", "one hundred percent"),
        ("007", "zero zero seven"),
        ("R&B", "r and b"),
        ("ＦＵＬＬ width", "full width"),
        ("snake_case", "snake case"),
        ("Café naïve", "café naïve"),
        ("", ""),
        ("...", ""),
    ],
)
def test_english(text, expected):
    assert english(text) == expected
    assert english(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("你好，世界！", "你好世界"),
        ("今天 天气 很好。", "今天天气很好"),
        ("ＡＢＣ１２３", "abc123"),
        ("用APP打车", "用app打车"),
        ("“引号”——破折号…", "引号破折号"),
        ("　全角空格　", "全角空格"),
        ("", ""),
    ],
)
def test_mandarin(text, expected):
    assert mandarin(text) == expected
    assert mandarin(expected) == expected


@pytest.mark.parametrize(("text", "chinese"), [("hello", False), ("hello 你", True), ("。！", False), ("𠮷", True)])
def test_is_chinese(text, chinese):
    assert is_chinese(text) is chinese


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (101, "one hundred one"),
        (2024, "two thousand twenty four"),
        (10**6, "one million"),
        (5 * 10**11 + 7, "five hundred billion seven"),
    ],
)
def test_numbers(number, words):
    assert number_in_words(number) == words
