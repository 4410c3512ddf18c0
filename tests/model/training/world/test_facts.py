"""Questions of the world: right answers in both languages, and two sides that never meet."""

import re

import numpy as np
import pytest

from model.tasks.normalize import english
from model.training.world import facts

VALUES = {facts.number(n).english: n for n in range(401)}
VALUES_ZH = {facts.number(n).chinese: n for n in range(401)}


def draw(language, count, *, held_out=False, seed=0, topics=()):
    rng = np.random.default_rng(seed)
    return [facts.sample(rng, language, held_out=held_out, topics=topics) for _ in range(count)]


@pytest.mark.parametrize(
    ("n", "english_words", "chinese"),
    [
        (0, "zero", "零"),
        (10, "ten", "十"),
        (14, "fourteen", "十四"),
        (20, "twenty", "二十"),
        (100, "one hundred", "一百"),
        (105, "one hundred five", "一百零五"),
        (115, "one hundred fifteen", "一百一十五"),
        (210, "two hundred ten", "二百一十"),
    ],
)
def test_numbers_are_read(n, english_words, chinese):
    assert facts.number(n) == facts.grammar.SlotValue(english_words, chinese)


@pytest.mark.parametrize(
    ("topic", "sign", "rule"),
    [("plus", r" plus ", int.__add__), ("minus", r" minus ", int.__sub__), ("times", r" times ", int.__mul__)],
)
def test_sums_are_right(topic, sign, rule):
    for exchange in draw("en", 25, topics=(topic,)):
        a, b = (VALUES[word] for _, word in exchange.values)
        assert VALUES[exchange.key] == rule(a, b)
        assert exchange.key in english(exchange.reply) and re.search(sign, exchange.human)
    for exchange in draw("zh", 15, topics=(topic,)):
        a, b = (VALUES[word] for _, word in exchange.values)
        assert VALUES_ZH[exchange.key] == rule(a, b) and exchange.key in exchange.reply


def test_comparisons_are_right():
    for exchange in draw("en", 25, topics=("more",)):
        a, b = (VALUES[word] for _, word in exchange.values)
        assert exchange.key == ("yes" if a > b else "no") and exchange.others == ("no" if a > b else "yes",)
    sizes = {subject.english: int(rank.english) for subject, rank in facts.relation("size")}
    for exchange in draw("en", 25, topics=("size", "is bigger")):
        a, b = (word for _, word in exchange.values)
        right = max(a, b, key=sizes.get)
        assert exchange.key == (right if exchange.topic == "size" else "yes" if right == a else "no")


@pytest.mark.parametrize("language", facts.LANGUAGES)
def test_a_reply_names_the_answer_and_no_other(language):
    for exchange in draw(language, 60) + draw(language, 20, held_out=True):
        said = f" {english(exchange.reply)} " if language == "en" else exchange.reply
        assert english(exchange.key) in said if language == "en" else exchange.key in said
        wrong = [f" {english(other)} " if language == "en" else other for other in exchange.others]
        key = f" {english(exchange.key)} " if language == "en" else exchange.key
        assert [other for other in wrong if other in said and other not in key] == [], exchange


@pytest.mark.parametrize("language", facts.LANGUAGES)
def test_the_sides_never_meet(language):
    train = {e.human for e in draw(language, 150, seed=1)}
    held = draw(language, 50, seed=2, held_out=True)
    assert not train & {e.human for e in held}
    table = facts.questions()
    for exchange in draw(language, 40, seed=3):
        assert not table[int(exchange.template.split(":")[1])].held
        assert not facts.sides.has_held_pair(word for _, word in exchange.values)
        assert not any(map(facts.sides.gives_away, (exchange.human, exchange.reply, exchange.why)))


def test_every_topic_can_be_asked_and_draws_repeat():
    assert {q.topic for q in facts.questions()} == set(facts.SOLVERS)
    assert draw("en", 10, seed=4) == draw("en", 10, seed=4) != draw("en", 10, seed=5)


def test_a_damaged_table_is_refused():
    with pytest.raises(ValueError, match="line 2 of facts.tsv: found 5 cells, expected 4"):
        facts.read_rows("facts.tsv", 4)


@pytest.mark.parametrize("language", facts.LANGUAGES)
def test_a_follow_up_is_about_the_same_and_on_one_side(language):
    rng = np.random.default_rng(6)
    pairs = {held: [facts.sample_follow_up(rng, language, held_out=held) for _ in range(40)] for held in (False, True)}
    for first, second in pairs[False] + pairs[True]:
        assert first.topic == second.topic and first.values != second.values
        subject = dict(second.values)["a"]
        known = {a.english: answer for a, answer in facts.relation(second.topic)}
        assert second.key == (known[subject].english if language == "en" else known[subject].chinese)
    told = {held: {(a.human, b.human) for a, b in each} for held, each in pairs.items()}
    assert not told[False] & told[True]
