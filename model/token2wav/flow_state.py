"""What a stream of speech remembers between two calls of the flow.

All records are frozen, and no tensor in them is ever written to: a state can be kept, copied for nothing, and continued
twice. What the prompt left behind is shared by every stream that was started from the same state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace

import torch
from torch import Tensor

from model.token2wav.flow_grid import OFFICIAL_RECENT_FRAMES, BlockGrid
from model.token2wav.flow_noise import Noise


@dataclass(frozen=True)
class AttentionMemory:
    """Keys and values that later blocks look at: those of the prompt, which stay, and the newest ones."""

    window: int | None = None
    """Most positions kept besides the prompt; None keeps all."""
    prompt: Tensor | None = None
    """[layer, batch, head, time, key and value]; what was remembered first."""
    recent: Tensor | None = None
    """The same for what came after, oldest first."""

    @property
    def n(self) -> int:
        """Positions remembered."""
        return 0 if self.prompt is None else self.prompt.shape[-2] + self.recent.shape[-2]

    def runs(self, start: int, n_new: int) -> list[tuple[int, int]]:
        """Return the (first position, length) of each unbroken run of keys, if `n_new` more begin at `start`."""
        if self.prompt is None:
            return [(start, n_new)]
        n_recent = self.recent.shape[-2]
        return [(0, self.prompt.shape[-2]), (start - n_recent, n_recent + n_new)]

    def join(self, layer: int, new: Tensor) -> Tensor:
        """Return everything that a block sees in one layer, [batch, head, time, key and value]."""
        return new if self.prompt is None else torch.cat([self.prompt[layer], self.recent[layer], new], dim=-2)

    def grow(self, new: Tensor) -> AttentionMemory:
        """Return the memory after one more block, [layer, batch, head, time, key and value]; forget what is too old."""
        if self.prompt is None:
            return replace(self, prompt=new, recent=new[..., :0, :].clone())
        recent = torch.cat([self.recent, new], dim=-2)
        n = recent.shape[-2]
        if self.window is not None and n > self.window:
            recent = recent[..., n - self.window :, :].clone()  # a view would keep the forgotten part alive
        return replace(self, recent=recent)


@dataclass(frozen=True)
class OfficialMemory:
    """The estimator's memory as the official client keeps it, for parity only.

    New keys are put in front. Once more than prompt + 100 positions are there, the first P (P = prompt frames) and the
    last 100 stay. As the newest come first, that keeps P frames of the newest block and the 100 oldest, and what lies
    between is lost; from then on the length stands still, and with it the place in the noise buffer.
    """

    kept: Tensor | None = None
    """[layer, batch, head, time, key and value], newest block first."""
    n_prompt: int = 0

    @property
    def n(self) -> int:
        """Positions remembered."""
        return 0 if self.kept is None else self.kept.shape[-2]

    def join(self, layer: int, new: Tensor) -> Tensor:
        """Return everything that a block sees in one layer, [batch, head, time, key and value]."""
        return new if self.kept is None else torch.cat([new, self.kept[layer]], dim=-2)

    def grow(self, new: Tensor) -> OfficialMemory:
        """Return the memory after one more block, cut as the official client does."""
        if self.kept is None:
            return OfficialMemory(new, new.shape[-2])
        kept = torch.cat([new, self.kept], dim=-2)
        if kept.shape[-2] > self.n_prompt + OFFICIAL_RECENT_FRAMES:
            kept = torch.cat([kept[..., : self.n_prompt, :], kept[..., -OFFICIAL_RECENT_FRAMES:, :]], dim=-2)
        return replace(self, kept=kept)


@dataclass(frozen=True)
class EncoderPast:
    """What the encoder remembers; the default is the state before anything was read."""

    codes: AttentionMemory = AttentionMemory()
    """Of the blocks at 25 Hz."""
    frames: AttentionMemory = AttentionMemory()
    """Of the blocks at 50 Hz."""
    ahead_tail: Tensor | None = None
    """Last two inputs of the second look-ahead convolution, [batch, width, 2]."""
    up_tail: Tensor | None = None
    """Last inputs of the up-sampling convolution, [batch, width, 4]."""
    position: int = 0
    """Codes read so far, the prompt included."""


@dataclass(frozen=True)
class EstimatorPast:
    """What the estimator remembers of one step of the solver; the default is the state before anything was read."""

    memory: AttentionMemory | OfficialMemory = AttentionMemory()
    tails: Tensor | None = None
    """Last two inputs of both convolutions of each layer, [layer, batch, 2, width, 2]."""


@dataclass(frozen=True)
class FlowState:
    """Where a stream stands: everything that the next call needs, and nothing that belongs to another stream."""

    encoder: EncoderPast
    estimator: tuple[EstimatorPast, ...]
    """One for each step of the solver."""
    speaker: Tensor
    """Speaker vector as the estimator reads it, [1, bins]."""
    noise: Noise
    grid: BlockGrid
    waiting: Tensor
    """Codes that have come but whose block or look-ahead is not complete, int64 [1, n]."""
    n_frames: int
    """Frames made so far, those of the prompt included."""
    n_blocks: int = 0
    """Blocks made so far."""
    finished: bool = False
    """The last codes have come; this state cannot go on."""

    @property
    def n_steps(self) -> int:
        """Steps of the solver."""
        return len(self.estimator)

    @property
    def noise_offset(self) -> int:
        """Frame of the noise at which the next block begins; in the official cut it is the length of what is left."""
        memory = self.estimator[0].memory
        return memory.n if isinstance(memory, OfficialMemory) else self.n_frames

    @property
    def prompt_bytes(self) -> int:
        """Memory of what the prompt left behind; shared by all streams that were started from the same state."""
        return sum(_bytes(memory.prompt) for memory in _memories(self) if isinstance(memory, AttentionMemory))

    @property
    def stream_bytes(self) -> int:
        """Memory that belongs to this stream alone."""
        return sum(map(_bytes, _tensors(self))) - self.prompt_bytes


def _memories(state: FlowState) -> list[AttentionMemory | OfficialMemory]:
    return [state.encoder.codes, state.encoder.frames, *(past.memory for past in state.estimator)]


def _tensors(record: object) -> Iterator[Tensor]:
    """Yield every tensor inside nested records."""
    if isinstance(record, Tensor):
        yield record
    elif isinstance(record, tuple):
        for each in record:
            yield from _tensors(each)
    elif is_dataclass(record):
        for each in fields(record):
            yield from _tensors(getattr(record, each.name))


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.untyped_storage().nbytes()
