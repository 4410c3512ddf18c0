"""Known word times as a hint to attention: which positions of sound each transcript token was spoken at.

A decoder that starts from nothing needs long to find out that it must look at the sound in order (guided attention,
Tachibana et al. 2018, makes that quick for TTS). For synthetic clips the word times are known, so a few heads of one
layer are told where to look while training begins; all other heads are free, and the hint fades out. The card says so:
what those heads show is partly taught, what the others show is found.

    target token j of a word spoken in [start, end]   ->   row of the position before it, frames start-0.1 .. end+0.1 s
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.audio import TOKEN_RATE_HZ
from model.training.corpus import Row

LAYER, HEADS = 3, 2
"""The first `HEADS` heads of this decoder layer are guided."""
SLACK_S = 0.1


class Look(NamedTuple):
    """One thing to look at: token `token` of the transcript comes from audio positions `first` .. `last` inclusive."""

    token: int
    first: int
    last: int


def looks(row: Row, text: str, offsets: Sequence[tuple[int, int]], n_frames: int) -> list[Look]:
    """Pair the tokens of a transcript with the sound of their words.

    Args:
        row: The clip, with its word times; words are found in `text` one after the other.
        text: The transcript.
        offsets: Characters [start, end) of each token.
        n_frames: Audio positions of the clip.
    """
    found: list[Look] = []
    at, lower = 0, text.lower()
    for word, start_s, end_s in row.words:
        place = lower.find(word.lower(), at)
        if place < 0:
            continue
        at = place + len(word)
        first = max(0, int((start_s - SLACK_S) * TOKEN_RATE_HZ))
        last = min(n_frames - 1, int((end_s + SLACK_S) * TOKEN_RATE_HZ))
        tokens = [k for k, (a, b) in enumerate(offsets) if a < at and b > place and text[a:b].strip()]
        found += [Look(token, first, last) for token in tokens if last >= first]
    return found


def guide_loss(weights: Tensor, wanted: Sequence[tuple[int, int, int, int]]) -> Tensor:
    """Mean -log of the attention that the guided heads give to the wanted sound.

    Args:
        weights: Attention of the guided layer, [clip, head, query, key].
        wanted: (clip, query, first key, last key) of each look.
    """
    if not wanted:
        return weights.new_zeros(())
    clip, query, first, last = torch.tensor(wanted, device=weights.device).T
    rows = weights[clip, :HEADS, query].float()
    key = torch.arange(weights.shape[-1], device=weights.device)
    inside = (key >= first[:, None]) & (key <= last[:, None])
    mass = (rows * inside[:, None]).sum(-1)
    return -(mass + 1e-4).log().mean()
