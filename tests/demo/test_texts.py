import re
import string
from pathlib import Path

import pytest

from demo.texts import VIEW_WORDS_ZH, WORDS, Texts, columns, language_of


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_fill_in_the_same_values(key):
    names = [sorted(name for _, name, _, _ in string.Formatter().parse(words) if name) for words in WORDS[key]]
    assert names[0] == names[1]
    assert all(WORDS[key]), "no empty words"


def test_chinese_is_chinese():
    same = {key for key, (en, zh) in WORDS.items() if not re.search(r"[\u4e00-\u9fff]", zh)}
    assert same == {"title"}


def test_words_are_filled_in():
    assert Texts("en")("tokens_per_s", n=41) == "41 tokens/s"
    assert Texts("zh")("stop") == "停止"
    with pytest.raises(KeyError):
        Texts()("no such words")


@pytest.mark.parametrize(
    ("setting", "header", "language"),
    [
        ("auto", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("auto", "fr-FR,fr;q=0.9,zh;q=0.5,en;q=0.4", "zh"),
        ("auto", "de", "en"),
        ("auto", None, "en"),
        ("en", "zh-CN", "en"),
        ("zh", "en-US", "zh"),
    ],
)
def test_the_visitor_or_the_flag_chooses(setting, header, language):
    assert language_of(setting, header) == language


def test_the_browser_gets_every_word():
    words = columns()
    assert set(words["en"]) == set(words["zh"]) == set(WORDS)


def test_the_views_words_are_known_and_complete():
    source = (Path(__file__).parents[2] / "analysis" / "view" / "data.js").read_text(encoding="utf-8")
    table = re.search(r"const LABELS = \{(.*?)\n\};", source, re.DOTALL)[1]
    english = dict(re.findall(r"^  (\w+): \"(.*)\",$", table, re.MULTILINE))
    same_in_both = {"headNumber", "nat"}
    assert set(VIEW_WORDS_ZH) == set(english) - same_in_both
    for key, words in VIEW_WORDS_ZH.items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", english[key])), key
