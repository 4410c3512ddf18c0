"""The noise that the flow starts from: told by a seed and the number of the frame, or given as a buffer.

The official code draws one buffer for 600 s when the process starts, without a seed and without saving it, so its
output differs from process to process. Here a frame's noise depends on seed and position only.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.errors import AudioError, OptionsError

NOISE_PAGE = 256
"""Frames of noise drawn together; part of what a seed means, so it never changes."""


class Noise(Protocol):
    """Where the flow starts from, for each frame of prompt and speech."""

    def frames(self, start: int, stop: int) -> Tensor:
        """Return standard normal noise for frames start..stop-1, counted from the start of the prompt, [1, bins, n]."""
        ...


@dataclass(frozen=True)
class SeededNoise:
    """Noise without end that depends on the seed and on the frame only: not on slicing, device or what was drawn."""

    seed: int = 0
    n_mels: int = 80

    def __post_init__(self) -> None:
        """Refuse what is no seed."""
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            found, expected = f"seed={self.seed!r}", "a whole number, 0 or more"
            raise OptionsError("draw the noise of a stream", found=found, expected=expected, todo="Use 0, for example.")

    def frames(self, start: int, stop: int) -> Tensor:
        """Return the noise of frames start..stop-1, float32 [1, n_mels, n]."""
        first, last = start // NOISE_PAGE, max(stop - 1, start) // NOISE_PAGE
        pages = np.concatenate([self._page(page) for page in range(first, last + 1)], axis=1)
        return torch.from_numpy(pages[None, :, start - first * NOISE_PAGE : stop - first * NOISE_PAGE].copy())

    def _page(self, page: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, page])
        return rng.standard_normal((self.n_mels, NOISE_PAGE), dtype=np.float32)


@dataclass(frozen=True)
class GivenNoise:
    """Noise from a buffer, as in the official code."""

    buffer: Tensor
    """[1, bins, frames]."""

    def frames(self, start: int, stop: int) -> Tensor:
        """Return the noise of frames start..stop-1, [1, bins, n].

        Raises:
            AudioError: If the buffer ends before.
        """
        if stop > self.buffer.shape[-1]:
            raise AudioError(
                "turn the speech codes into a mel",
                found=f"noise for {self.buffer.shape[-1]} frames",
                expected=f"at least {stop} frames, prompt and speech together",
                todo="Give a longer buffer, or a seed instead, which never ends.",
            )
        return self.buffer[..., start:stop]
