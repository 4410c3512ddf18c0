"""BLEU agrees with published values of the reference implementation, and with cases worked by hand."""

import math

import numpy as np
import pytest

from model.tasks import bleu as b
from model.tasks.metrics import bleu

DOGS = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]
SAID = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
SUGAR = "producţia de zahăr brut se exprimă în zahăr alb;"
SUGAR_SAID = "Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;"


def test_the_example_of_the_reference_implementation():
    score = bleu(DOGS, SAID, language="en")
    assert score.score == pytest.approx(48.530827, abs=1e-6)
    assert [round(p, 1) for p in score.precisions] == [82.4, 50.0, 45.5, 37.5]
    assert (round(score.brevity_penalty, 3), score.hypothesis_length, score.reference_length) == (0.943, 17, 18)
    assert score.signature == "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp"
    assert str(score).startswith("BLEU 48.53 (82.4/50.0/45.5/37.5, BP 0.943) nrefs:2|")


def test_its_sentences():
    assert bleu([SUGAR], [SUGAR_SAID], language="en", effective_order=True).score == pytest.approx(8.493, abs=1e-3)
    assert bleu(["okay thanks"], ["this is a cat"], language="en").score == 0.0
    assert bleu(DOGS, [""] * 3, language="en").score == 0.0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It wasn't $1,234.50, was it?", "It wasn't $ 1,234.50 , was it ?"),
        ("A 3-day trip (by bus) costs 5.", "A 3 - day trip ( by bus ) costs 5 ."),
        ("Tom &amp; Mary: &quot;hi&quot;", 'Tom & Mary : " hi "'),
        ("well-known, isn't it...", "well-known , isn't it . . ."),
    ],
)
def test_english_tokens(text, tokens):
    assert b.tokenize_13a(text) == tokens.split()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("我在北京，天气很好。", "我 在 北 京 ， 天 气 很 好 。"),
        ("我买了3.5公斤apples。", "我 买 了 3.5 公 斤 apples 。"),
        ("他说：“好”", "他 说 ： “ 好 ”"),
    ],
)
def test_chinese_tokens(text, tokens):
    assert b.tokenize_zh(text) == tokens.split()


def test_chinese_by_hand():
    # Of 今天天气真好, 5 of 6 characters stand in 今天天气很好, 3 of 5 pairs, 2 of 4 triples and 1 of 3 quadruples.
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert bleu(["今天天气很好"], ["今天天气真好"], language="zh").score == pytest.approx(expected)


def test_a_perfect_corpus_scores_100_and_a_short_one_is_punished():
    texts = ["Turn on the light in the kitchen.", "My phone number is two."]
    assert bleu(texts, texts, language="en").score == pytest.approx(100.0)
    half = bleu(["a b c d e f g h"], ["a b c d"], language="en")
    assert half.score == pytest.approx(100 * math.exp(1 - 2))


def test_normalisation_is_said_in_the_signature():
    pair = (["It is 7 o'clock, Tom."], ["it is seven o'clock tom"])
    assert bleu(*pair, language="en").score < 60
    score = bleu(*pair, language="en", normalize=True)
    assert score.score == pytest.approx(100.0) and score.signature.endswith(
        "case:lc|eff:no|tok:13a|smooth:exp|norm:english"
    )


def test_corpus_bleu_is_of_summed_counts_and_the_interval_holds_it():
    rows = b.bleu_counts(DOGS, SAID, language="en")
    assert rows.shape == (3, 10)
    assert (b.bleu_counts(DOGS[:1], SAID[:1], language="en") == rows[:1]).all()
    low, high = b.bleu_interval(np.repeat(rows, 20, axis=0), n_resamples=100)
    assert low < 48.53 < high
    assert b.bleu_interval(rows, n_resamples=20) == b.bleu_interval(rows, n_resamples=20)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="2 references, 1 hypotheses"):
        bleu(["a", "b"], ["a"], language="en")
    with pytest.raises(ValueError, match="'fr'"):
        bleu(["a"], ["a"], language="fr")
    with pytest.raises(ValueError, match="no sentence"):
        b.bleu_interval(np.zeros((0, 10)))
