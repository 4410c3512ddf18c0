"""The grid of blocks that makes streaming exact: who may see whom, whatever the slices the codes come in.

    codes     p p p p | 0 0 0 0 0 | 1 1 1 1 1 | 2 2 2       prompt, then blocks counted from the start of the speech
    sees      <------- a block sees itself, every block before it and the prompt; never what comes later
    window    p p p p   . . . . .   1 1 1 1 1 | 2 2 2       with a window, old blocks are forgotten, the prompt never

Codes wait until their block and its look-ahead are complete. So each block is computed from the same numbers, and any
slicing gives the same mel. The same rule as masks over a whole utterance serves training and proofs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.errors import OptionsError

OFFICIAL_RECENT_FRAMES = 100
"""Frames besides the prompt that the official client keeps: two seconds."""


@dataclass(frozen=True)
class BlockGrid:
    """How many codes are turned into mel together; a block waits for all its codes and a look-ahead of three."""

    sizes: tuple[int, ...] = (25,)
    """Codes of the first block, the second, ...; the last size goes on. (10, 25) speaks sooner, at a little quality."""

    def __post_init__(self) -> None:
        """Refuse blocks of nothing."""
        if not self.sizes or any(not isinstance(n, int) or n < 1 for n in self.sizes):
            found, expected = f"blocks of {self.sizes} codes", "one or more whole numbers above 0"
            raise OptionsError("lay out the blocks of a stream", found=found, expected=expected, todo="Use (25,).")

    def size(self, block: int) -> int:
        """Return the codes of block number `block`."""
        return self.sizes[min(block, len(self.sizes) - 1)]

    def next_size(self, block: int, n_waiting: int, n_ahead: int, last: bool) -> int:
        """Return how many of the waiting codes make the next block; 0 while it has to wait.

        Args:
            block: Its number.
            n_waiting: Codes that have come and are not used yet.
            n_ahead: Codes that must follow the block.
            last: No more codes will come; what remains is one block, up to `n_ahead - 1` codes larger than usual.
        """
        size = self.size(block)
        if n_waiting >= size + n_ahead:
            return size
        return n_waiting if last else 0

    def split(self, n_codes: int, n_ahead: int) -> list[int]:
        """Return the blocks that a whole utterance of `n_codes` is made in."""
        blocks: list[int] = []
        while n_codes > 0:
            blocks.append(self.next_size(len(blocks), n_codes, n_ahead, last=True))
            n_codes -= blocks[-1]
        return blocks


@dataclass(frozen=True)
class Window:
    """How far back a block looks, besides the prompt, which it always sees; bounds the memory of a stream."""

    frames: int | None = OFFICIAL_RECENT_FRAMES
    """Mel frames before the block that the estimator sees; None is all. At mini's size and ten steps a frame costs
    1.3 MB in float32, for the official two seconds and the prompt alike."""
    codes: int | None = 750
    """Codes before the block that the encoder sees (30 s); None is all. A code costs 57 kB at mini's size."""

    def __post_init__(self) -> None:
        """Refuse negative windows."""
        if any(n is not None and n < 0 for n in (self.frames, self.codes)):
            found, expected = f"{self}", "0 or more, or None for no limit"
            raise OptionsError("bound the memory of a stream", found=found, expected=expected, todo="Correct it.")


class Masks(NamedTuple):
    """Which key each query may see, True where it may, for a whole utterance at once; None where it sees everything."""

    codes: Tensor | None
    """For the encoder, [batch or 1, query code, key code]."""
    frames: Tensor | None
    """For the estimator, [batch or 1, query frame, key frame]."""


def attention_masks(
    n_codes: int,
    *,
    n_ahead: int,
    frames_per_code: int = 2,
    n_prompt: int = 0,
    grid: BlockGrid | None = None,
    window: Window = Window(),
    lens: Tensor | None = None,
) -> Masks:
    """Describe the attention of a stream, or of a padded batch, in one piece: for training and for proofs.

    Args:
        n_codes: Codes of prompt and speech together, padding included.
        n_ahead: Look-ahead of the encoder in codes.
        frames_per_code: Mel frames that a code becomes.
        n_prompt: How many of the codes are the prompt.
        grid: Blocks of the speech; None lets everything see everything, and `window` means nothing.
        window: How far back a block looks.
        lens: Valid codes of each row of a batch, [batch]; None if nothing is padded.
    """
    if grid is None and lens is None:
        return Masks(None, None)
    device = None if lens is None else lens.device
    masks = []
    for rate, reach in ((1, window.codes), (frames_per_code, window.frames)):
        seen = torch.ones(1, n_codes * rate, n_codes * rate, dtype=torch.bool, device=device)
        if grid is not None:
            sizes = [n_prompt, *grid.split(n_codes - n_prompt, n_ahead)]
            seen = _seen_in_blocks([n * rate for n in sizes], reach).to(seen)[None]
        if lens is not None:
            seen = seen & (torch.arange(n_codes * rate, device=device) < (lens * rate)[:, None])[:, None, :]
        masks.append(seen)
    return Masks(*masks)


def _seen_in_blocks(sizes: list[int], reach: int | None) -> Tensor:
    """Return who sees whom, [query, key]: the prompt (block 0), and from `reach` before the own block to its end."""
    start = torch.tensor([0, *sizes]).cumsum(0)
    block = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    key = torch.arange(int(start[-1]))[None, :]
    first = 0 if reach is None else (start[block] - reach)[:, None]
    return (key < start[block + 1][:, None]) & ((key < sizes[0]) | (key >= first))
