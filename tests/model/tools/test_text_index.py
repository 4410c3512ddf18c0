"""Words and characters are found, operators are not obeyed."""

import sqlite3

import pytest

from model.errors import ToolError
from model.tools.text_index import TextIndex, terms

TEXTS = [
    "The capital of Japan is Tokyo. 日本的首都是东京。",
    "The capital of France is Paris. 法国的首都是巴黎。",
    "Pandas eat bamboo. 熊猫吃竹子。",
    "Cats eat fish. 猫吃鱼。",
    "Autumn comes after summer. 夏天以后是秋天。",
    "Summer comes after spring. 春天以后是夏天。",
]


@pytest.fixture
def index():
    index = TextIndex(sqlite3.connect(":memory:"))
    for key, text in enumerate(TEXTS):
        index.add(key, text, ("even" if key % 2 == 0 else "odd", f"n{key}"))
    return index


def keys(matches):
    return [match.key for match in matches]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What are the colours of pandas?", ("colour", "panda")),
        ("熊猫吃什么？", ("熊", "猫", "吃", "熊猫", "猫吃")),
        ("日本的首都是东京。", ("日", "本", "日本", "首", "都", "首都", "东", "京", "东京")),
        ("Café ZÜRICH 24°", ("cafe", "zurich", "24")),
        ("ＡＢＣ１２", ("abc12",)),
        ("它的猫", ("猫",)),
        ("cities boxes glass bus", ("city", "box", "glass", "bus")),
        ("と東京タワー", ("と", "東", "京", "タ", "ワ", "ー", "と東", "東京", "京タ", "タワ", "ワー")),
        ("the of 是的吗 ?! \ud800", ()),
    ],
)
def test_terms(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("capital of Japan", 0),
        ("JAPAN", 0),
        ("日本的首都是哪里？", 0),
        ("东京", 0),
        ("法国首都", 1),
        ("what does a panda eat", 2),
        ("熊猫喜欢吃什么", 2),
        ("cat", 3),
        ("猫吃什么", 3),
        ("what comes after summer?", 4),
        ("夏天以后是什么", 4),
        ("what comes after spring?", 5),
        ("春天以后是什么", 5),
    ],
)
def test_the_best_match_comes_first(index, question, best):
    assert keys(index.search(question))[0] == best


@pytest.mark.parametrize("question", ["", "who won the match?", "的", "?!", "量子物理", "zzz"])
def test_nothing_is_found_when_nothing_fits(index, question):
    assert index.search(question) == []


@pytest.mark.parametrize(
    "question",
    ['"', 'x" OR body:*', "capital AND", "NEAR(capital japan)", "-capital", "a*b^c:d(e)", "tags : tageven", "';--"],
)
def test_operators_mean_nothing(index, question):
    assert all(0 <= match.coverage <= 1 for match in index.search(question, min_coverage=0.0))
    assert len(index) == len(TEXTS)


def test_a_tag_is_no_word(index):
    assert index.search("tageven even n0") == []


def test_tags_are_insisted_on(index):
    assert keys(index.search("capital", tags=("odd",))) == [1]
    assert keys(index.search("capital", tags=("even", "n0"))) == [0]
    assert index.search("capital", tags=("n2",)) == [] and index.search("capital", tags=("nowhere",)) == []
    assert sorted(keys(index.search("", tags=("odd",)))) == [1, 3, 5]


def test_coverage_tells_how_much_fits(index):
    whole = index.search("capital Japan")[0].coverage
    half = index.search("capital Japan Mars", min_coverage=0.1)[0].coverage
    assert whole == 1.0 and 0.1 < half < 1.0


def test_replaced_and_removed(index):
    index.add(0, "The largest city in Japan.", ("new",))
    assert index.search("Tokyo") == [] and keys(index.search("largest city")) == [0] and len(index) == len(TEXTS)
    index.remove(0)
    index.remove(99)
    assert index.search("largest city") == [] and len(index) == len(TEXTS) - 1


def test_limits(index):
    assert len(index.search("capital eat comes", limit=2, min_coverage=0.0)) == 2
    assert keys(index.search("capital " + "中" * 5000 + " x" * 5000, min_coverage=0.0))[:1] in ([0], [1])


def test_an_index_on_disk_is_found_again(tmp_path):
    first = sqlite3.connect(tmp_path / "a.db")
    TextIndex(first).add(7, "green tea 绿茶")
    first.commit()
    first.close()
    assert keys(TextIndex(sqlite3.connect(tmp_path / "a.db")).search("绿茶")) == [7]


def test_an_sqlite_without_full_text_search_is_named():
    class Bare:
        def execute(self, *_):
            raise sqlite3.OperationalError("no such module: fts5")

    with pytest.raises(ToolError, match="no such module: fts5"):
        TextIndex(Bare())
    with pytest.raises(ValueError):
        TextIndex(sqlite3.connect(":memory:"), "a; DROP TABLE b")
