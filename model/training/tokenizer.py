"""Nano's tokenizer: byte-level BPE over the world's text, with every Step-Audio 2 control token by its official name.

Run `python -m model.training.tokenizer --out model/nano` to make it again; the result depends on nothing but this
repository and the word frequencies of the package jieba. A Chinese character is always a piece of its own, so that the
time of every character can be shown.

    0 .. n-1      byte-level BPE           n .. n+12     control tokens
    n+13 ..       <audio_0> .. <audio_728>, then <audio_729>, the filler of an empty speech slot
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from model.tasks import prompts
from model.training.world import grammar, talk

BPE_SIZE = 4608
N_CODES = 3**6
COMMON_CHARACTERS = 1500
CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<|EOT|>", "<|BOT|>",
    "<audio_start>", "<audio_end>", "<audio_patch>", "<tts_start>", "<tts_end>", "<tts_pad>",
)  # fmt: skip
_HANZI = re.compile(r"[一-鿿]")
_SPLIT = r"[一-鿿]| ?[A-Za-z']+| ?\d| ?[^\sA-Za-z\d一-鿿]+|\s+"


def common_characters(count: int) -> list[str]:
    """The `count` most frequent Chinese characters by jieba's word frequencies."""
    import jieba

    jieba.setLogLevel(60)
    jieba.initialize()
    totals: Counter[str] = Counter()
    for word, frequency in jieba.dt.FREQ.items():
        for character in _HANZI.findall(word):
            totals[character] += frequency
    return [character for character, _ in totals.most_common(count)]


def training_text() -> Iterator[str]:
    """Sentences and talk of the world in both languages, prompts, tags and common characters, a few times each."""
    for sentence in grammar.sample_many(20_000, seed=0):
        yield sentence.english
        yield sentence.chinese
    yield from talk.texts(4_000, seed=0)
    for slot in grammar.slots().values():
        for value in slot:
            yield from (f" {value.english}", value.english.capitalize(), value.chinese) * 8
    for text in (*prompts.all_texts(), *talk.fixed_texts()):
        yield from [text] * 20
    for tag in (
        "system\n",
        "human\n",
        "assistant\n",
        "input\n",
        "tool_json_schemas\n",
        "\n<think>\n",
        "</think>\n\n",
        "function\n",
    ):
        yield from [tag] * 50
    world = "".join(template.chinese for template in grammar.templates())
    for character in sorted(set(_HANZI.findall(world))):
        yield from [character] * 40
    for character in common_characters(COMMON_CHARACTERS):
        yield from [character] * 4


def train_tokenizer():
    """Train the BPE and add the control tokens. Returns a `tokenizers.Tokenizer`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE,
        min_frequency=3,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    names = [*CONTROL_TOKENS, *(f"<audio_{code}>" for code in range(N_CODES + 1))]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def save_tokenizer(folder: Path) -> int:
    """Train and write the tokenizer into `folder` in the transformers layout; returns its size."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(),
        pad_token="<|endoftext|>",
        eos_token="<|EOT|>",
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    return len(fast)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("model/nano"), help="checkpoint folder to write into")
    folder = parser.parse_args().out
    print(f"{save_tokenizer(folder)} tokens written to {folder}")


if __name__ == "__main__":
    main()
