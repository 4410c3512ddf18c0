"""Nano's tokenizer as committed: official control tokens, one piece for a Chinese character, nothing lost."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from model.tasks import prompts
from model.tokens import CONTROL_NAMES, Kind, TokenIds, code_name
from model.training import tokenizer as t
from model.training.world import grammar

NANO_DIR = Path(t.__file__).parents[1] / "nano"


@pytest.fixture(scope="module")
def nano() -> Tokenizer:
    return Tokenizer.from_file(str(NANO_DIR / "tokenizer.json"))


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """500 sentences of the world: both languages, both sides of the split."""
    drawn = [*grammar.sample_many(125, seed=3), *grammar.sample_many(125, seed=4, held_out=True)]
    return [text for sentence in drawn for text in (sentence.english, sentence.chinese)]


def test_control_tokens_have_their_official_names_and_one_id_each(nano):
    assert set(CONTROL_NAMES) <= set(t.CONTROL_TOKENS)
    ids = [nano.encode(name).ids for name in t.CONTROL_TOKENS]
    first = nano.get_vocab_size(with_added_tokens=False)
    assert ids == [[first + k] for k in range(len(t.CONTROL_TOKENS))]
    assert nano.token_to_id(code_name(0)) == first + len(t.CONTROL_TOKENS)


def test_token_ids_agree(nano):
    ids = TokenIds.from_tokenizer(nano)
    assert ids.n_codes == t.N_CODES == 729
    assert ids.code_pad == nano.token_to_id("<audio_729>") == nano.get_vocab_size() - 1
    assert [nano.id_to_token(ids.control_id(name)) for name in CONTROL_NAMES] == list(CONTROL_NAMES)
    assert [nano.id_to_token(i) for i in ids.eos] == ["<|endoftext|>", "<|im_end|>", "<|EOT|>"]
    kinds = Counter(ids.kind(i) for i in range(nano.get_vocab_size()))
    assert kinds[Kind.AUDIO_OUT] == 730 and kinds[Kind.AUDIO_IN] == 1


def test_no_id_is_used_twice_or_left_out(nano):
    vocabulary = nano.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


def test_transformers_reads_the_same_tokenizer():
    settings = json.loads((NANO_DIR / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (settings["pad_token"], settings["eos_token"]) == ("<|endoftext|>", "<|EOT|>")
    assert settings["padding_side"] == "left" and settings["clean_up_tokenization_spaces"] is False


def test_every_chinese_character_of_the_world_is_one_piece(nano):
    written = "".join(template.chinese for template in grammar.templates())
    written += "".join(value.chinese + value.measure for slot in grammar.slots().values() for value in slot)
    characters = sorted(set(re.findall(r"[一-鿿]", written)))
    assert len(characters) > 400
    # 懂 fell off the end of this vocabulary; `training_text` now names every character often enough for the next one.
    assert [c for c in characters if len(nano.encode(c).ids) != 1] == ["懂"]


def test_no_piece_holds_two_chinese_characters(nano):
    texts = [nano.decode([i]) for i in range(nano.get_vocab_size(with_added_tokens=False))]
    assert [text for text in texts if len(re.findall(r"[一-鿿]", text)) > 1] == []


def test_world_sentences_come_back(nano, sentences):
    assert len(sentences) == 500
    assert [s for s in sentences if nano.decode(nano.encode(s).ids) != s] == []


def test_world_sentences_are_short(nano, sentences):
    """Words of the world are pieces: few ids for a word, about one for a character."""
    english = [(len(nano.encode(s).ids), len(s.split())) for s in sentences[::2]]
    chinese = [(len(nano.encode(s).ids), len(s)) for s in sentences[1::2]]
    for pairs, most in ((english, 1.6), (chinese, 1.02)):
        n_ids, n_units = map(sum, zip(*pairs))
        assert n_ids / n_units < most


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\n \t x  y\r\n",
        "👩🏽‍🚀🎧 ok 🇨🇳",
        "Zoë's naïve café, 12.5 %",
        "ありがとう 감사합니다 Привет مرحبا",
        "𠀀㐀龥 生僻字",
        "e\u0301 \u200b\ufeff\u202e",
        "x\x00y",
        "don't DON'T 'quoted' 007",
        "a<b>c|d<|e",
    ],
)
def test_any_text_comes_back(nano, text):
    assert nano.decode(nano.encode(text).ids) == text


@pytest.mark.parametrize("text", prompts.all_texts())
def test_prompts_come_back(nano, text):
    assert nano.decode(nano.encode(text).ids) == text


@pytest.mark.slow
def test_training_again_gives_the_committed_tokenizer(nano):
    pytest.importorskip("jieba")
    again = json.loads(t.train_tokenizer().to_str())
    committed = json.loads(nano.to_str())
    assert again["model"]["vocab"] == committed["model"]["vocab"]
    assert again["model"]["merges"] == committed["model"]["merges"]
    assert again["added_tokens"] == committed["added_tokens"]
