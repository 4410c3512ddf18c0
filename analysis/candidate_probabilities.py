"""How likely each of several whole replies is to one prompt: the model's own probabilities of candidate answers.

    prompt --read once--> keys and values --shared by every candidate--+
    candidates, each with the end of the turn --one batch, padded behind--+--> log-prob of each whole reply

A reply counts with the token that ends the turn, so no candidate is the beginning of another and their probabilities
add up to at most one. What they add up to is the coverage: how much of everything the model could say lies on the
candidates at all. Shares are the same numbers divided by it: "if it were one of these". With little coverage shares
compare sentences that the model would hardly say, and prove little.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from analysis.capture import evaluating, surprise
from analysis.scoring import MAX_LOGITS
from model.chat import Conversation
from model.errors import TraceError
from model.generation import encode_sound


@dataclass(frozen=True, eq=False)
class CandidateProbabilities:
    """Whole replies and how likely each is."""

    replies: tuple[str, ...]
    logprob: np.ndarray
    """Natural log-probability of each reply, end of turn included, float64 [candidate]."""
    after: np.ndarray
    """The same without the tokens that all candidates begin with: given that the reply begins so."""

    def __post_init__(self) -> None:
        if not len(self.replies) == len(self.logprob) == len(self.after) or len(self.replies) < 2:
            found = f"{len(self.replies)} replies, {len(self.logprob)} and {len(self.after)} scores"
            raise _refusal(found, "two replies or more, one score each")

    @property
    def shares(self) -> np.ndarray:
        """Probability of each candidate if the reply is one of them; they add up to 1. float64 [candidate]."""
        relative = np.exp(self.logprob - self.logprob.max())
        return relative / relative.sum()

    @property
    def coverage(self) -> float:
        """Probability that the reply is one of the candidates, word for word."""
        return float(min(1.0, np.exp(self.logprob).sum()))

    @property
    def coverage_after(self) -> float:
        """The same, given that the reply begins as all candidates do."""
        return float(min(1.0, np.exp(self.after).sum()))


def candidate_probabilities(
    loaded: Any,
    conversation: Conversation,
    replies: Sequence[str],
    *,
    cancel: threading.Event | None = None,
) -> CandidateProbabilities | None:
    """Score every candidate reply to a prompt, teacher-forced.

        found = candidate_probabilities(loaded, conversation, ["The speaker sounds happy.", "The speaker sounds sad."])
        found.shares, found.coverage

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: The prompt; its last turn is open.
        replies: Different texts, each a whole reply.
        cancel: Looked at between the prompt and the batches of candidates.

    Returns:
        None if it was cancelled.

    Raises:
        TraceError: If there are fewer than two candidates, or two are the same.
    """
    if len(replies) < 2 or len(set(replies)) != len(replies) or not all(replies):
        raise _refusal(f"{list(replies)[:6]}", "two or more different texts, none empty")
    model, processor = loaded.model, loaded.processor
    prompt, eot = processor.encode(conversation), processor.ids.eot
    ids = [[*processor.encode_text(reply), eot] for reply in replies]
    cancel = cancel or threading.Event()
    with evaluating(model), torch.inference_mode():
        features = encode_sound(model, prompt, cancel)
        if cancel.is_set():
            return None
        rows = _scored(model, torch.tensor(prompt.ids, device=model.device), features, ids, cancel)
    if rows is None:
        return None
    start = _n_common(ids)
    return CandidateProbabilities(
        tuple(replies), np.array([row.sum() for row in rows]), np.array([row[start:].sum() for row in rows])
    )


def _scored(
    model: Any, prompt: Tensor, features: list[Tensor], ids: list[list[int]], cancel: threading.Event
) -> list[np.ndarray] | None:
    """Return the log-prob of each token of each candidate, float64 [token]; None if cancelled."""
    first, cache = _read(model, prompt, features)
    longest = max(map(len, ids))
    most = max(1, MAX_LOGITS // (longest * model.config.text_config.vocab_size))
    rows: list[np.ndarray] = []
    for k in range(0, len(ids), most):
        if cancel.is_set():
            return None
        some = ids[k : k + most]
        # Padding stands behind: nothing of a row can see it, so any id will do.
        batch = torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in some], device=prompt.device)
        if cache is None:
            logits = _read_whole(model, prompt, features, batch)
        else:
            copies = _copies(model, cache, len(prompt), len(some))
            rest = model(input_ids=batch[:, :-1], past_key_values=copies, use_cache=True).logits
            logits = torch.cat([first.expand(len(some), -1, -1), rest], dim=1)
        logprob, _ = surprise(logits.flatten(0, 1), batch.flatten())
        rows += [row[: len(own)] for row, own in zip(logprob.astype(np.float64).reshape(len(some), -1), some)]
    return rows


def _read(model: Any, prompt: Tensor, features: list[Tensor]) -> tuple[Tensor | None, DynamicCache | None]:
    """Read the prompt; return the logits after it and its keys and values, or nothing where they cannot be shared."""
    cache = DynamicCache(config=model.config)
    if _is_sliding(cache):
        return None, None
    logits = model(
        input_ids=prompt[None], audio_features=features or None, past_key_values=cache, use_cache=True, logits_to_keep=1
    ).logits
    return logits, cache


def _is_sliding(cache: DynamicCache) -> bool:
    """Whether a window keeps too few keys to be shared; then every candidate is read with the prompt."""
    return any(cache.is_sliding)


def _read_whole(model: Any, prompt: Tensor, features: list[Tensor], batch: Tensor) -> Tensor:
    """Return the logits that predict each token of a batch of candidates, the prompt read with every row."""
    ids = torch.cat([prompt.expand(len(batch), -1), batch[:, :-1]], dim=1)
    own = [clip for _ in range(len(batch)) for clip in features]
    return model(input_ids=ids, audio_features=own or None, use_cache=False, logits_to_keep=batch.shape[1]).logits


def _copies(model: Any, cache: DynamicCache, n: int, rows: int) -> DynamicCache:
    """Return the first n keys and values for each row of a batch; the cache itself stays as it is."""
    copies = DynamicCache(config=model.config)
    for layer, kept in enumerate(cache.layers):
        copies.update(*(part[..., :n, :].expand(rows, -1, -1, -1) for part in (kept.keys, kept.values)), layer)
    return copies


def _n_common(ids: list[list[int]]) -> int:
    """Count the leading tokens that all candidates have."""
    alike = [len(set(column)) == 1 for column in zip(*ids)]
    return alike.index(False) if False in alike else len(alike)


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("score candidate replies", found=found, expected=expected, todo="Give other candidates.")
