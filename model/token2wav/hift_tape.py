"""Convolve a signal that arrives in pieces exactly as if it had arrived whole.

A layer that looks around needs samples of the last piece again, and cannot finish the newest ones before the next
piece is there. So each layer keeps what it will need, and gives out what is final:

    piece 1   |=========|          given: |=======         kept:        ##|
    piece 2             |=====|    given:         |=====   kept:              ##|
    last                      |=|  given:               |===|

Paths of different reach give different amounts; `add` waits for the slowest. A network written with these operations
runs whole signals and streams with the same lines: a whole signal is a stream whose first piece is its last. All
memory of a step is on one `Tape`, in the order of the calls, so nothing is kept on modules and no layer needs a name.

The first piece must be long enough for every layer to give something; the caller waits until it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Memory = tuple[Tensor | int, ...]
"""What the layers of one stream remember, in the order in which they run."""


class Tape:
    """Memory of one step: read from the step before, written for the step after; used once.

    Args:
        memory: What the step before left; None starts a stream.
        last: Whether the signal ends with this piece.
    """

    def __init__(self, memory: Memory | None = None, *, last: bool = True):
        self.first, self.last = memory is None, last
        self._memory = iter(memory or ())
        self._written: list[Tensor | int] = []

    @property
    def whole(self) -> bool:
        """Whether this piece is the whole signal."""
        return self.first and self.last

    @property
    def memory(self) -> Memory:
        """What this step leaves to the next one."""
        return tuple(self._written)

    def recall(self, at_first: Tensor | int) -> Tensor | int:
        """Return what was kept at this place of the step before, or at the first piece what is given here."""
        return at_first if self.first else next(self._memory)

    def keep(self, value: Tensor | int) -> None:
        """Remember something for this place of the next step; tensors are copied out of what they are a view of."""
        if not self.last:
            self._written.append(value.clone() if isinstance(value, Tensor) else value)

    def conv(self, layer: nn.Conv1d, x: Tensor, *, causal: bool = False) -> Tensor:
        """Run a convolution over the next piece.

        Args:
            layer: Its `padding` zeros lie on either side of the signal.
            x: [batch, channel, time].
            causal: Put all zeros on the left, so that nothing to come is looked at.

        Returns:
            What is final of the result, in the precision of `x`.
        """
        (pad,), (stride,), (dilation,) = layer.padding, layer.stride, layer.dilation
        weight, bias = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
        if self.whole and not causal:
            return F.conv1d(x, weight, bias, stride, pad, dilation)
        left, right = (2 * pad, 0) if causal else (pad, pad)
        x = _join(self.recall(x.new_zeros(*x.shape[:2], left)), x)
        x = F.pad(x, (0, right)) if self.last and right else x
        n_out = max(0, (x.shape[-1] - dilation * (layer.kernel_size[0] - 1) - 1) // stride + 1)
        self.keep(x[..., n_out * stride :])
        return F.conv1d(x, weight, bias, stride, 0, dilation) if n_out else x.new_zeros(len(x), len(weight), 0)

    def conv_transposed(self, layer: nn.ConvTranspose1d, x: Tensor) -> Tensor:
        """Run a transposed convolution over the next piece, [batch, channel, time]."""
        if self.whole:
            return layer(x)
        (pad,), (stride,), (kernel,) = layer.padding, layer.stride, layer.kernel_size
        if x.shape[-1]:
            spread = F.conv_transpose1d(x, layer.weight, None, stride)
        else:
            spread = x.new_zeros(x.shape[0], layer.out_channels, kernel - stride)
        return self.overlap(spread, stride=stride, tail=kernel - stride, crop=pad) + layer.bias[:, None]

    def overlap(self, spread: Tensor, *, stride: int, tail: int, crop: int) -> Tensor:
        """Join pieces that run over their end into the next piece.

        Args:
            spread: [batch, channel, positions * stride + tail].
            stride: Samples by which each position moves on.
            tail: Samples at the end to which the next piece will add.
            crop: Samples to drop at either end of the whole signal.
        """
        n_done = spread.shape[-1] - tail
        if not self.first:
            before = self.recall(0)
            spread = torch.cat([spread[..., :tail] + before, spread[..., tail:]], dim=-1)
        self.keep(spread[..., n_done:])
        return spread[..., crop if self.first else 0 : spread.shape[-1] - crop if self.last else n_done]

    def windows(self, x: Tensor, size: int, hop: int) -> Tensor:
        """Cut windows out of the next piece, [..., time] -> [..., window, size]."""
        x = _join(self.recall(x[..., :0]), x)
        n_windows = max(0, (x.shape[-1] - size) // hop + 1)
        self.keep(x[..., n_windows * hop :])
        return x.unfold(-1, size, hop) if n_windows else x.new_zeros(*x.shape[:-1], 0, size)

    def mirror(self, x: Tensor, before: int, after: int) -> Tensor:
        """Continue the signal beyond its two ends by its mirror image, [batch, channel, time]."""
        tail = self.recall(x[..., :0])
        n_tail = tail.shape[-1]
        x = F.pad(x, (before, 0), mode="reflect") if self.first and before else x
        joined = _join(tail, x)
        self.keep(joined[..., max(0, joined.shape[-1] - after - 1) :])
        return F.pad(joined, (0, after), mode="reflect")[..., n_tail:] if self.last and after else x

    def add(self, *paths: Tensor) -> Tensor:
        """Add paths position by position; what the slowest has not reached is kept. [batch, channel, time] each."""
        if self.whole:
            return sum(paths[1:], paths[0])
        paths = [_join(self.recall(path[..., :0]), path) for path in paths]
        n_ready = min(path.shape[-1] for path in paths)
        for path in paths:
            self.keep(path[..., n_ready:])
        return sum((path[..., :n_ready] for path in paths[1:]), paths[0][..., :n_ready])


def _join(kept: Tensor, x: Tensor) -> Tensor:
    return torch.cat([kept, x], dim=-1) if kept.shape[-1] else x
