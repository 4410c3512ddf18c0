"""Embedding rows follow their tokens to a new vocabulary."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from model.training.carry import carried_rows

NANO = Path(__file__).parents[3] / "model" / "nano"


class Renumbered:
    """The same tokens with other ids, and one that the old vocabulary does not have."""

    def __init__(self, old):
        self.names = [*reversed(old.get_vocab()), "Ġzebrafish"]

    def get_vocab(self):
        return {name: i for i, name in enumerate(self.names)}

    def decode(self, ids):
        return "".join(self.names[i].replace("Ġ", " ") for i in ids)


def test_known_tokens_keep_their_row_and_new_ones_start_as_their_pieces():
    old = PreTrainedTokenizerFast.from_pretrained(NANO)
    new = Renumbered(old)
    rows = torch.randn(len(old), 4)
    carried, found = carried_rows(rows, old, new, torch.zeros(len(new.names), 4))
    assert found == len(old.get_vocab())
    names = new.get_vocab()
    for name, index in old.get_vocab().items():
        assert torch.equal(carried[names[name]], rows[index])
    pieces = old(" zebrafish", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    assert torch.allclose(carried[-1], rows[pieces].mean(0))
