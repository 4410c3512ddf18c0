"""A small byte-level tokenizer with the control tokens by name, and processors around it."""

import functools

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from model.audio import Waveform
from model.tokens import CONTROL_NAMES, IM_END, TOOL_CALL, TOOL_CALL_END, code_name

N_CODES = 8
CORPUS = [
    "system\nBe brief. Answer in one line.",
    "human\nName a river. What time is it? Another one.",
    "assistant\nhello hello world, good morning",
    "请记录下你所听到的语音内容。 今天天气很好。 你好",
]


@functools.cache
def build_tokenizer(n_codes: int = N_CODES, *, tools_first: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 400 entries; codes and controls are special, tool tags are added but not special.

    With `tools_first` they stand before the controls, as in the official vocabulary, and are text.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(CORPUS * 4, trainer)
    tags = [AddedToken(name, special=False, normalized=False) for name in (TOOL_CALL, TOOL_CALL_END)]
    if tools_first:
        core.add_tokens(tags)
    codes = [code_name(code) for code in range(n_codes + 1)]
    core.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (*CONTROL_NAMES, IM_END, *codes)]
    )
    if not tools_first:
        core.add_tokens(tags)
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Return the small tokenizer."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def tone():
    """Return a maker of test sounds: `tone(n_samples)` is a quiet 16 kHz sine of that many samples."""

    def make(n_samples: int, hz: float = 220.0, rate: int = 16_000) -> Waveform:
        time_s = np.arange(n_samples) / rate
        return Waveform((0.1 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32), rate)

    return make
