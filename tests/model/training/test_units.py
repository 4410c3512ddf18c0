"""CTC symbols: spelling and unspelling."""

import pytest

from model.training.units import BLANK, english_units, greedy_symbols, mandarin_units, syllable_units, symbols, units
from model.training.voices import ESPEAK, engine_installed


def test_symbols_are_unique_and_blank_comes_first():
    assert len(set(symbols())) == len(symbols())
    assert symbols()[BLANK] == "<blank>"


def test_english_words_are_phonemes_whatever_case_and_punctuation():
    if not engine_installed(ESPEAK):
        pytest.skip("espeak-ng is not installed")
    assert greedy_symbols(english_units("I'd like two, please!")) == "aɪ d l aɪ k t uː p l iː z"
    assert english_units("right") == english_units("write") != english_units("ride")


@pytest.mark.parametrize(
    ("syllable", "names"),
    [("zhong1", ["zh-", "ong1"]), ("nü3", ["n-", "v3"]), ("er2", ["er2"]), ("de5", ["d-", "e5"]), ("?", [])],
)
def test_syllables_split_into_initial_and_toned_final(syllable, names):
    assert [symbols()[i] for i in syllable_units(syllable)] == names


def test_mandarin_goes_through_pinyin():
    pytest.importorskip("pypinyin")
    assert mandarin_units("中国。") == units("zhong1 guo2", "pinyin")
    assert mandarin_units("银行") == units("yin2 hang2", "pinyin")


def test_best_path_merges_repeats_but_keeps_doubles_across_a_blank():
    el, oh = (symbols().index(name) for name in ("l", "oʊ"))
    assert greedy_symbols([el, el, BLANK, el, oh, oh, BLANK]) == "l l oʊ"
