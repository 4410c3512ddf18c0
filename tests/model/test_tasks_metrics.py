"""Error rates agree with cases worked by hand and with another implementation; intervals cover what they claim."""

import numpy as np
import pytest

from model.tasks.metrics import (
    Edit,
    EditCounts,
    align,
    bootstrap_interval,
    cer,
    character_edits,
    count_edits,
    wer,
    word_edits,
)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("", "", (0, 0, 0, 0)),
        ("a b c", "a b c", (3, 0, 0, 0)),
        ("a b c", "", (0, 0, 3, 0)),
        ("", "a b", (0, 0, 0, 2)),
        ("a b c", "a x c", (2, 1, 0, 0)),
        ("a b c", "a c", (2, 0, 1, 0)),
        ("a c", "a b c", (2, 0, 0, 1)),
        ("the cat sat down", "the hat sat oh down now", (3, 1, 0, 2)),
        ("a b c d", "b c d e", (3, 0, 1, 1)),
        ("a b", "c d e", (0, 2, 0, 1)),
    ],
)
def test_counts_worked_by_hand(reference, hypothesis, counts):
    assert count_edits(reference.split(), hypothesis.split()) == EditCounts(*counts)


def test_the_alignment_says_what_became_what():
    assert align("the cat sat".split(), "the hat sat down".split()) == [
        Edit("equal", "the", "the"),
        Edit("substitute", "cat", "hat"),
        Edit("equal", "sat", "sat"),
        Edit("insert", "", "down"),
    ]


def test_an_alignment_spells_both_sides():
    rng = np.random.default_rng(0)
    for _ in range(100):
        said, heard = (rng.choice(list("abcd"), size=rng.integers(0, 12)).tolist() for _ in range(2))
        edits = align(said, heard)
        assert [e.reference for e in edits if e.operation != "insert"] == said
        assert [e.hypothesis for e in edits if e.operation != "delete"] == heard


def test_equal_to_jiwer():
    jiwer = pytest.importorskip("jiwer")
    rng = np.random.default_rng(1)
    vocabulary = "ape bee cat dog eel fox".split()
    pairs = [[" ".join(rng.choice(vocabulary, size=rng.integers(1, 15))) for _ in range(2)] for _ in range(100)]
    said, heard = map(list, zip(*pairs, strict=True))
    assert wer(said, heard) == pytest.approx(jiwer.wer(said, heard))
    assert cer(said, heard, normalize=str) == pytest.approx(jiwer.cer(said, heard))
    for one, other in pairs:
        theirs = jiwer.process_words(one, other)
        ours = word_edits(one, other)
        assert ours.errors == theirs.substitutions + theirs.deletions + theirs.insertions


def test_the_rate_of_many_is_over_all_words():
    assert wer(["a b c d", "e"], ["a b c d", "x"]) == pytest.approx(1 / 5)
    assert wer("a b", "a b c d e") == 1.5


def test_normalisation_comes_first():
    assert wer("It’s 7 o'clock!", "it's seven O'CLOCK") == 0.0
    assert cer("你好，世界！", "你 好 世 界") == 0.0
    assert character_edits("你好", "你坏").substitutions == 1
    assert wer("A", "a", normalize=str) == 1.0


def test_unpaired_texts_are_refused():
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        wer(["a", "b"], ["a"])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(100):
        low, high = bootstrap_interval(rng.normal(3.0, 1.0, size=40), n_resamples=200, seed=trial)
        covered += low <= 3.0 <= high
    assert 86 <= covered <= 100


def test_the_interval_weighs_utterances():
    values, weights = [0.0] * 50 + [1.0] * 50, [9.0] * 50 + [1.0] * 50
    low, high = bootstrap_interval(values, weights)
    assert low < 0.1 < high < 0.5
    assert bootstrap_interval([0.2, 0.2]) == pytest.approx((0.2, 0.2))
    assert bootstrap_interval(values, weights) == (low, high)


@pytest.mark.parametrize(
    ("values", "weights"), [([], None), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([1.0, 2.0], [-1.0, 2.0])]
)
def test_intervals_of_nothing_are_refused(values, weights):
    with pytest.raises(ValueError, match="Could not compute an interval"):
        bootstrap_interval(values, weights)
