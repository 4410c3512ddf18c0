"""Go on from earlier weights with another tokenizer: tokens are matched by their text, not by their id."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor

EMBEDDING = "model.embed_tokens.weight"
_TIED = "lm_head.weight"


@torch.no_grad()
def carried_rows(old: Tensor, old_tokenizer, new_tokenizer, fresh: Tensor) -> tuple[Tensor, int]:
    """Embedding rows for a new vocabulary.

    Args:
        old: Trained rows [old token, width].
        old_tokenizer: The tokenizer they belong to.
        new_tokenizer: The tokenizer that the result is for.
        fresh: Untrained rows [new token, width]; kept where neither the token nor its pieces were known.

    Returns:
        Rows [new token, width], and how many tokens were found by name. A token that is new but whose text the old
        tokenizer could spell starts as the mean of those pieces.
    """
    rows, known, found = fresh.clone(), old_tokenizer.get_vocab(), 0
    for token, index in new_tokenizer.get_vocab().items():
        if token in known:
            rows[index] = old[known[token]]
            found += 1
        elif pieces := old_tokenizer(new_tokenizer.decode([index]), add_special_tokens=False)["input_ids"]:
            rows[index] = old[pieces].mean(0)
    return rows, found


def carry_over(model: StepAudio2ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> int:
    """Load the weights of the checkpoint `folder` into `model`, whose tokenizer is `tokenizer`.

    Returns the number of tokens found by name. Raises RuntimeError (torch) when any other shape differs.
    """
    state = StepAudio2ForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    before = StepAudio2Processor.from_pretrained(folder).tokenizer
    rows, found = carried_rows(state[EMBEDDING], before, tokenizer, model.state_dict()[EMBEDDING])
    state[EMBEDDING] = state[_TIED] = rows
    model.load_state_dict(state)
    return found
