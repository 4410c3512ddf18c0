"""How likely a reply is when some of its positions may not look at some others: attention knockout.

                key  0 1 2 3 4 5                 Knockout(hidden=(2, 3), start=3)
      query 3        * * x *                     from query 3 on, positions 2 and 3 are out of sight;
            4        * * x x *                   each position still sees itself
            5        * * x x * *

Nothing is taken out of the sequence: every token keeps its place and its own identity, only what later positions read
from the hidden ones is gone, in all layers. So no sentence is torn from its neighbours, as it would be by deletion.
Hide all placeholders of a clip and the reply goes on without the sound from there.

Source: Geva et al. 2023 (attention knockout); Bogdan et al. 2025 (hiding single sentences of a thought).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.capture import evaluating, surprise
from analysis.hooks import decoder_of
from analysis.scoring import MAX_LOGITS, MAX_POSITIONS, Progress
from model.chat import Conversation, with_reply
from model.errors import TraceError
from model.generation import encode_sound


class Knockout(NamedTuple):
    """What is hidden, and from whom."""

    hidden: tuple[int, ...]
    """Positions in prompt + reply that cannot be seen."""
    start: int = 0
    """First position that cannot see them; each still sees itself."""


def score_knockouts(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int],
    knockouts: Sequence[Knockout],
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """Score one reply under each of several knockouts, teacher-forced.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given; an assistant turn is opened where none is.
        reply_ids: What it answered (`Turn.ids`).
        knockouts: What to hide; positions count from the beginning of the prompt.
        progress: Told after each batch.
        cancel: Looked at between batches.

    Returns:
        Natural log-probability of each reply id, float64 [knockout, token]; NaN where it was cancelled.

    Raises:
        TraceError: If the reply is empty, or a position is not there.
    """
    model, prompt = loaded.model, loaded.processor.encode(with_reply(conversation))
    ids = torch.as_tensor([*prompt.ids, *map(int, reply_ids)], device=model.device)
    n = len(ids)
    wrong = sorted({place for one in knockouts for place in (*one.hidden, one.start) if not 0 <= place < n})
    if wrong or not len(reply_ids):
        raise _refusal(f"the positions {wrong[:5]} of {n} with {len(reply_ids)} of them reply")
    size = max(1, min(MAX_POSITIONS // n, MAX_LOGITS // (len(reply_ids) * model.config.text_config.vocab_size)))
    tell, found = progress or (lambda step, fraction: None), np.full((len(knockouts), len(reply_ids)), np.nan)
    with evaluating(model), torch.inference_mode():
        features = encode_sound(model, prompt)
        for first in range(0, len(knockouts), size):
            if cancel is not None and cancel.is_set():
                break
            batch = knockouts[first : first + size]
            found[first : first + len(batch)] = _score(model, ids, features, batch, len(prompt.ids))
            tell("hide", (first + len(batch)) / len(knockouts))
    return found


def _score(model: Any, ids: Tensor, features: list[Tensor], batch: Sequence[Knockout], n_prompt: int) -> np.ndarray:
    """Return float64 [knockout, token] for one pass."""
    rows, places = ids.expand(len(batch), -1), torch.arange(len(ids), device=ids.device)
    logits = model(
        input_ids=rows,
        audio_features=features * len(batch) or None,
        attention_mask=_masks(model, batch, places),
        position_ids=places.expand(len(batch), -1),
        use_cache=False,
        logits_to_keep=places[n_prompt - 1 : -1],
    ).logits
    logprob, _ = surprise(logits.flatten(0, 1), rows[:, n_prompt:].flatten())
    return logprob.astype(np.float64).reshape(len(batch), -1)


def _masks(model: Any, batch: Sequence[Knockout], places: Tensor) -> dict[str, Tensor]:
    """Return what is added to the scores, by kind of layer, [knockout, 1, query, key]."""
    seen = (places[None, :] <= places[:, None]).repeat(len(batch), 1, 1)
    for row, one in zip(seen, batch):
        row[one.start :, list(one.hidden)] = False
    seen |= torch.eye(len(places), dtype=torch.bool, device=places.device)
    masks, window = {"full_attention": seen}, getattr(decoder_of(model).config, "sliding_window", None)
    if window is not None:
        masks["sliding_attention"] = seen & (places[None, :] > places[:, None] - window)
    dtype = next(model.parameters()).dtype
    return {
        kind: torch.zeros(one.shape, dtype=dtype, device=one.device).masked_fill_(~one, torch.finfo(dtype).min)[:, None]
        for kind, one in masks.items()
    }


def _refusal(found: str) -> TraceError:
    return TraceError(
        "hide positions from a reply",
        found=found,
        expected="positions of prompt + reply, and a reply with at least one token",
        todo="Count positions from the beginning of the prompt.",
    )
