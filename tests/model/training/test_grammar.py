"""The world's sentences: right in both languages, and split so that training never meets a test sentence."""

import re
from itertools import combinations

import pytest

from model.training.world import grammar, salad


def _words(sentence: grammar.Sentence) -> list[str]:
    return [word for _, word in sentence.values]


def test_training_sentences_hold_no_held_out_template_or_pair():
    table = grammar.templates()
    for sentence in grammar.sample_many(2000, seed=3):
        assert not table[sentence.template].held
        assert not any(grammar.is_held_pair(a, b) for a, b in combinations(_words(sentence), 2))


def test_held_out_sentences_are_not_in_training():
    train = {s.english for s in grammar.sample_many(4000, seed=1)}
    held = grammar.sample_many(300, seed=2, held_out=True)
    assert not train & {s.english for s in held}
    assert all(s.held_out for s in held)


def test_every_word_of_the_held_out_side_is_heard_in_training():
    def english(sentences):
        return set(re.sub(r"[^a-z' ]", " ", " ".join(s.english for s in sentences).lower()).split())

    train, held = grammar.sample_many(8000, seed=1), grammar.sample_many(500, seed=2, held_out=True)
    assert english(held) <= english(train)
    assert set("".join(s.chinese for s in held)) <= set("".join(s.chinese for s in train))


def test_sampling_repeats_with_its_seed():
    assert grammar.sample_many(50, seed=9) == grammar.sample_many(50, seed=9)
    assert grammar.sample_many(50, seed=9) != grammar.sample_many(50, seed=10)


def test_asking_for_more_sentences_than_there_are_fails_with_a_sentence(monkeypatch):
    few = grammar.Template(0, False, "word", "{word}.", "{word}。")
    monkeypatch.setattr(grammar, "templates", lambda: (few,))
    with pytest.raises(RuntimeError, match="different sentences"):
        grammar.sample_many(500, seed=1)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("book", "books"), ("watch", "watches"), ("box", "boxes"), ("potato", "potatoes"), ("sandwich", "sandwiches")],
)
def test_plural(noun, expected):
    assert grammar.plural(noun) == expected


def test_articles_and_measure_words():
    template = next(t for t in grammar.templates() if t.chinese == "我要{number}{size}{drink}。")
    values = {
        "number": grammar.SlotValue("two", "两"),
        "size": grammar.SlotValue("small", "小杯"),
        "drink": grammar.SlotValue("tea", "茶"),
    }
    assert grammar.fill(template, values).chinese == "我要两小杯茶。"
    order = grammar.Template(0, False, "coffee", "{start} a {cup} {coffee}.", "{start}一杯{cup}{coffee}。")
    values = {
        "start": grammar.SlotValue("get me", "给我来"),
        "cup": grammar.SlotValue("eight ounce", "八盎司"),
        "coffee": grammar.SlotValue("mocha", "摩卡"),
    }
    assert grammar.fill(order, values).english == "Get me an eight ounce mocha."


def test_every_slot_of_every_template_exists_and_both_languages_use_the_same():
    for template in grammar.templates():
        for field in template.fields:
            assert field.rstrip("0123456789") in grammar.slots(), template
        used = [set(re.findall(r"\{([a-z]+\d?)", text)) for text in (template.english, template.chinese)]
        assert used[0] == used[1], template


def test_salad_is_for_training_only_and_never_looks_held():
    mixed = grammar.sample_many(1500, seed=5, salad_share=0.3)
    salads = [s for s in mixed if s.template == salad.TEMPLATE]
    assert 0.2 < len(salads) / len(mixed) < 0.4
    assert not any(salad.looks_held(text) for s in salads for text in (s.english, s.chinese))
    with pytest.raises(ValueError, match="for training"):
        grammar.sample_many(5, seed=5, held_out=True, salad_share=0.3)


def test_held_templates_are_recognised_whatever_fills_them():
    held = [s for s in grammar.sample_many(200, seed=6, held_out=True) if grammar.templates()[s.template].held]
    assert held and all(salad.looks_held(s.english) and salad.looks_held(s.chinese) for s in held)
    assert not salad.looks_held("Turn on the light in the kitchen.")
