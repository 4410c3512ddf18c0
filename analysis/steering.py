"""What does the model say with some heads muted or boosted? The slider behind a head map.

    z of head h in layer k, at every position     x 0 mutes     x 1 changes nothing     x 2 boosts

`patching.scale_heads` measures what each head on its own is worth to a given answer; here several are changed at once
and the model answers anew, token by token, with the change in place from the first position of the prompt on.

    found = answer_scaled(loaded, conversation, {Head(3, 1): 0.0})
    found.before, found.after, found.diff         # figures.counterfactual.diff_text

A model with a head taken out is a model it never was in training: compare with as many random heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.attention import Head
from analysis.capture import token_texts
from analysis.hooks import Site, Tap, decoder_of, n_layers, taps
from model.chat import Conversation
from model.errors import TraceError
from model.events import Turn
from model.generation import generate_batch
from model.options import GenerationOptions
from model.tasks.metrics import Edit, align


@dataclass(frozen=True, eq=False)
class Steered:
    """Two answers to one conversation: of the model as it is, and of the model with some heads changed."""

    factors: Mapping[Head, float]
    """What each changed head was multiplied by."""
    turn: Turn
    """Of the model as it is."""
    steered: Turn
    tokens: tuple[tuple[str, ...], tuple[str, ...]]
    """Texts of the tokens of both."""

    @property
    def before(self) -> str:
        """What the model says."""
        return self.turn.text

    @property
    def after(self) -> str:
        """What it says with the heads changed."""
        return self.steered.text

    @property
    def diff(self) -> tuple[Edit, ...]:
        """Fewest token edits from one to the other."""
        return tuple(align(*self.tokens))


def answer_scaled(
    loaded: Any,
    conversation: Conversation,
    factors: Mapping[Head, float],
    options: GenerationOptions | None = None,
) -> Steered:
    """Let the model answer twice, the second time with some heads multiplied.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model is given.
        factors: Head -> 0 to mute, 2 to boost; a head of None is all heads of its layer.
        options: How to write answers; greedy by default. Give a seed where something is drawn.

    Raises:
        TraceError: If there is no such head.
    """
    model, processor = loaded.model, loaded.processor
    at = head_taps(loaded, factors)
    [turn] = generate_batch(model, processor, [conversation], options)
    with taps(model, at):
        [steered] = generate_batch(model, processor, [conversation], options)
    tokens = tuple(token_texts(processor, each.ids) for each in (turn, steered))
    return Steered({Head(*head): float(factor) for head, factor in factors.items()}, turn, steered, tokens)


def head_taps(loaded: Any, factors: Mapping[Head, float]) -> dict[Site, Tap]:
    """Return taps that multiply what heads write, for `analysis.hooks.taps`; arguments as for `answer_scaled`."""
    layers, heads = n_layers(loaded.model), decoder_of(loaded.model).config.num_attention_heads
    scales: dict[int, np.ndarray] = {}
    for (layer, head), factor in factors.items():
        if not 0 <= layer < layers or not (head is None or 0 <= head < heads) or not np.isfinite(factor):
            raise TraceError(
                f"multiply head {head} of layer {layer} by {factor}",
                found=f"{layers} layers with {heads} heads each",
                expected="a head that is there, counted from 0, and a finite factor",
                todo="Correct `factors`.",
            )
        row = scales.setdefault(layer, np.ones(heads))
        row[slice(None) if head is None else head] *= factor
    return {Site("z", layer): _scaling(row) for layer, row in scales.items()}


def _scaling(row: Sequence[float]) -> Tap:
    factors = torch.as_tensor(np.asarray(row, dtype=np.float32))[:, None]

    def tap(z: Tensor) -> Tensor:
        return z * factors.to(z)

    return tap
