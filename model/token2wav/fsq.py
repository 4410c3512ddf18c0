"""Finite scalar quantisation: a code is a few rounded numbers, read as the digits of one whole number.

    hidden --project_down--> 8 numbers --tanh--> -1..1 --round--> -1, 0 or 1 each --+1, base 3--> code 0..6560

There is no codebook to learn and none that can collapse: all codes exist from the start. Rounding has no gradient, so
training pretends it was not there (straight-through): what goes on is the rounded value, what comes back is the
gradient at the value before rounding.

Source: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (2023); CosyVoice 2 (Du et al., 2024) for its
use on speech; the official tokenizer scales by 0.999 and counts the first digit as the least significant.
"""

import torch
from torch import Tensor, nn

from model.errors import OptionsError

SHRINK = 0.9990000128746033
"""Keeps the bounded value off the outermost rounding edge, as in the official code."""


class FSQCodebook(nn.Module):
    """The projection to a few numbers; only there because official weights call it `quantizer._codebook`."""

    def __init__(self, width: int, n_digits: int):
        super().__init__()
        self.project_down = nn.Linear(width, n_digits)


class FSQ(nn.Module):
    """Quantise hidden vectors to codes, with a straight-through gradient.

    Args:
        width: Size of a hidden vector.
        n_digits: Numbers that make a code.
        n_levels: Values that each of them can take; odd, so that zero is one of them. There are
            `n_levels ** n_digits` codes: 3 ** 8 = 6561 officially, 3 ** 6 = 729 for nano.
    """

    def __init__(self, width: int, n_digits: int = 8, n_levels: int = 3):
        super().__init__()
        if n_digits < 1 or n_levels < 3 or n_levels % 2 == 0:
            found = f"{n_digits} digits with {n_levels} levels"
            expected, todo = "at least one digit and an odd number of levels from 3 on", "Use 3 levels."
            raise OptionsError("build a quantiser", found=found, expected=expected, todo=todo)
        self.n_digits, self.n_levels = n_digits, n_levels
        self._codebook = FSQCodebook(width, n_digits)

    @property
    def n_codes(self) -> int:
        """How many different codes there are."""
        return self.n_levels**self.n_digits

    @property
    def _half(self) -> int:
        return self.n_levels // 2

    def bound(self, hidden: Tensor) -> Tensor:
        """Return the numbers before rounding, float32 [..., digit] between -(levels // 2) and levels // 2.

        Always in single precision: a code must not depend on whether training ran in bfloat16.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = self._codebook.project_down.weight, self._codebook.project_down.bias
            projected = nn.functional.linear(hidden.float(), weight.float(), bias.float())
            return projected.tanh() * SHRINK * self._half

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise.

        Args:
            hidden: [..., width].

        Returns:
            The rounded values, float32 [..., digit] in -1..1, through which gradients pass as if they had not been
            rounded; and the codes, int64 [...].
        """
        bounded = self.bound(hidden)
        rounded = bounded.detach().round()
        return (rounded + (bounded - bounded.detach())) / self._half, self.codes_of(rounded / self._half)

    def codes_of(self, values: Tensor) -> Tensor:
        """Return the codes, int64 [...], of values on the grid, [..., digit] in -1..1."""
        digits = (values.detach() * self._half).round().long() + self._half
        return (digits * self._place_values(values.device)).sum(-1)

    def values_of(self, codes: Tensor) -> Tensor:
        """Return the values, float32 [..., digit] in -1..1, of codes, [...]; the inverse of `codes_of`.

        Raises:
            OptionsError: If a code is out of range.
        """
        if codes.numel() and not (0 <= int(codes.min()) and int(codes.max()) < self.n_codes):
            found = f"codes from {int(codes.min())} to {int(codes.max())}"
            todo = "Drop padding codes first."
            raise OptionsError("look up codes", found=found, expected=f"0 to {self.n_codes - 1}", todo=todo)
        digits = codes.long()[..., None] // self._place_values(codes.device) % self.n_levels
        return (digits - self._half) / self._half

    def _place_values(self, device: torch.device) -> Tensor:
        return self.n_levels ** torch.arange(self.n_digits, device=device)
