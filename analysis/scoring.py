"""How likely one and the same reply is under many versions of its prompt, token by token, teacher-forced.

    prompts --(1) compare with the first one--> same chunks of sound, same leading positions
            --(2) encode the chunks that are new
            --(3) prompts of equal length in one batch, behind the shared keys and values --> log-prob of each reply id

Only what must come out the same is used again: the features of a 25 s chunk whose mel and padding are the same bit for
bit, and the keys and values of the positions before the first difference (a causal decoder cannot know what follows).
No prompt is padded to the length of another. So a score is that of the prompt alone, up to the rounding of another
batch size.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from transformers import DynamicCache

from analysis.capture import evaluating, surprise
from model.chat import Conversation
from model.errors import TraceError
from model.processing_step_audio_2 import EncodedPrompt, pad_mels

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is done, 0 to 1."""
MAX_POSITIONS = 8192
"""Positions read in one pass, over all prompts of the batch."""
MAX_LOGITS = 2**27
"""Logits in one pass, half a gigabyte in float32."""
MIN_SHARED = 64
"""Leading positions that are worth keeping; below that, copying them costs more than reading them again."""


class ReplyScorer:
    """Scores one reply under versions of one prompt.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: The prompt as it was; `baseline` is its score.
        reply_ids: The reply, exactly as generated (`Turn.ids`).

    Raises:
        TraceError: If the reply is empty.
    """

    def __init__(self, loaded: Any, conversation: Conversation, reply_ids: Sequence[int]) -> None:
        if not len(reply_ids):
            raise TraceError(
                "score a reply",
                found="a reply without tokens",
                expected="the ids of a finished turn",
                todo="Pass `Turn.ids`.",
            )
        self.model, self.processor = loaded.model, loaded.processor
        self.reply_ids = tuple(int(i) for i in reply_ids)
        self._base = self._prompt(conversation)
        self._features: dict[str, Tensor] = {}
        self._shared = None
        with evaluating(self.model), torch.inference_mode():
            self._features = self._encoded([self._base])
            self._shared = self._read_base()
        self.baseline: np.ndarray = self.score([self._base.prompt])[0]
        """Natural log-probability of each reply id under the prompt as it was, float64 [token]."""

    def score(
        self,
        prompts: Iterable[EncodedPrompt | Conversation],
        *,
        n: int | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> np.ndarray:
        """Score the reply under each prompt.

        Args:
            prompts: Conversations or encoded prompts; made one at a time if this is a generator.
            n: How many there are, for progress and for the shape of a cancelled result.
            progress: Told after each batch.
            cancel: Looked at between batches.

        Returns:
            float64 [prompt, token]; rows that were not reached are NaN.
        """
        tell = progress or (lambda step, fraction: None)
        rows: list[np.ndarray] = []
        tell("score", 0.0)
        with evaluating(self.model), torch.inference_mode():
            for batch in self._batches(prompts):
                if cancel is not None and cancel.is_set():
                    break
                rows.extend(self._score_batch(batch))
                tell("score", min(1.0, len(rows) / max(n or len(rows), 1)))
        out = np.full((len(rows) if n is None else n, len(self.reply_ids)), np.nan)
        out[: len(rows)] = np.reshape(rows, (len(rows), len(self.reply_ids)))
        return out

    # -- batches -------------------------------------------------------------------------------

    def _batches(self, prompts: Iterable[EncodedPrompt | Conversation]) -> Iterator[list[_Prompt]]:
        """Yield neighbours of equal length that share equally much, as many as fit into one pass."""
        batch: list[_Prompt] = []
        for given in prompts:
            prompt = self._prompt(given)
            prompt.n_shared = self._n_shared(prompt)
            full = len(batch) >= self._most(prompt)
            if batch and (full or batch[0].shape != prompt.shape):
                yield batch
                batch = []
            batch.append(prompt)
        if batch:
            yield batch

    def _prompt(self, given: EncodedPrompt | Conversation) -> _Prompt:
        encoded = given if isinstance(given, EncodedPrompt) else self.processor.encode(given)
        return _Prompt(encoded, self.processor.ids.audio_start, self.processor.ids.audio_patch)

    def _most(self, prompt: _Prompt) -> int:
        positions = len(prompt.prompt.ids) - prompt.n_shared + len(self.reply_ids)
        logits = len(self.reply_ids) * self.model.config.text_config.vocab_size
        return max(1, min(MAX_POSITIONS // positions, MAX_LOGITS // logits))

    def _n_shared(self, prompt: _Prompt) -> int:
        """Count the leading positions that are those of the first prompt; blocks of sound are whole or not in it."""
        if self._shared is None:
            return 0
        n = min(len(prompt.ids), len(self._base.ids)) - 1
        different = np.flatnonzero(prompt.ids[:n] != self._base.ids[:n])
        n = int(different[0]) if len(different) else n
        for key, mine, (start, end) in zip(prompt.keys, self._base.keys, prompt.blocks):
            if start < n and (key != mine or n < end):
                n = start
        return n if n >= MIN_SHARED else 0

    # -- network -------------------------------------------------------------------------------

    def _score_batch(self, batch: Sequence[_Prompt]) -> np.ndarray:
        """Return float64 [prompt, token] for prompts of one shape."""
        features, n = self._encoded(batch), batch[0].n_shared
        ids = torch.as_tensor(np.stack([[*p.ids, *self.reply_ids[:-1]] for p in batch]), device=self.model.device)
        own = [features[key] for p in batch for key, (start, _) in zip(p.keys, p.blocks) if start >= n]
        answers = torch.arange(len(batch[0].ids) - 1, ids.shape[1], device=ids.device) - n
        logits = self.model(
            input_ids=ids[:, n:],
            audio_features=own or None,
            past_key_values=self._prefix(n, len(batch)) if n else None,
            use_cache=bool(n),
            logits_to_keep=answers,
        ).logits
        wanted = torch.tensor(self.reply_ids).repeat(len(batch))
        logprob, _ = surprise(logits.flatten(0, 1), wanted)
        return logprob.astype(np.float64).reshape(len(batch), -1)

    def _encoded(self, batch: Sequence[_Prompt]) -> dict[str, Tensor]:
        """Return the features of every chunk in a batch by key, those of the first prompt among them."""
        known = dict(self._features)
        new = {key: sound for prompt in batch for key, sound in prompt.sounds().items() if key not in known}
        by_length: dict[int, list[str]] = {}
        for key, (mel, _) in new.items():
            by_length.setdefault(mel.shape[-1], []).append(key)
        for keys in by_length.values():
            mels = torch.stack([new[key][0] for key in keys])
            lens = torch.tensor([new[key][1] for key in keys], dtype=torch.int32)
            known.update(zip(keys, self.model.get_audio_features(mels, lens)))
        return known

    def _read_base(self) -> DynamicCache | None:
        """Return keys and values of the first prompt, where enough of them could be shared."""
        ids, cache = self._base.ids, DynamicCache(config=self.model.config)
        if len(ids) <= MIN_SHARED or any(cache.is_sliding):
            return None
        features = [self._features[key] for key in self._base.keys]
        self.model(
            input_ids=torch.as_tensor(ids, device=self.model.device)[None],
            audio_features=features or None,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache

    def _prefix(self, n: int, rows: int) -> DynamicCache:
        """Return the first n keys and values for each row of a batch."""
        cache = DynamicCache(config=self.model.config)
        for layer, kept in enumerate(self._shared.layers):
            cache.update(*(part[..., :n, :].expand(rows, -1, -1, -1) for part in (kept.keys, kept.values)), layer)
        return cache


class _Prompt:
    """An encoded prompt, what tells its chunks of sound apart, and where they lie."""

    def __init__(self, prompt: EncodedPrompt, audio_start: int, audio_patch: int) -> None:
        self.prompt = prompt
        self.ids = np.asarray(prompt.ids)
        # As when the prompt was read for the first time: the chunks of a prompt are padded to its longest one.
        self.mels = pad_mels(prompt.mels) if prompt.mels else ()
        self.keys = [_key(mel, length) for mel, length in zip(self.mels, prompt.wav_lens)]
        starts = np.flatnonzero(self.ids == audio_start)
        behind = np.flatnonzero(np.append(self.ids, -1) != audio_patch)
        self.blocks = [(int(start), int(behind[behind > start][0])) for start in starts]
        """From the audio_start to behind the last placeholder of each chunk."""
        self.n_shared = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """What prompts of one batch have in common."""
        return len(self.ids), self.n_shared

    def sounds(self) -> dict[str, tuple[Tensor, int]]:
        """Return mel, padded, and usable frames of each chunk by its key."""
        return {key: (mel, int(n)) for key, mel, n in zip(self.keys, self.mels, self.prompt.wav_lens)}


def _key(mel: Tensor, length: int) -> str:
    return f"{mel.shape[-1]}:{length}:{hashlib.sha1(mel.numpy().tobytes()).hexdigest()}"


def repeat_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return mean and 95 % interval (Student's t) over the first axis; no interval from a single repeat."""
    mean, n = values.mean(axis=0), len(values)
    if n < 2:
        return mean, None, None
    half = student.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half
