"""A model in this process as a backend. One reply at a time: whoever shares it keeps the lock."""

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.audio import Waveform
from model.backends.base import ACTIVATIONS, AUDIO_CODES, AUDIO_IN, LOGPROBS, TEXT
from model.events import Event
from model.generation import stream
from model.messages import Conversation
from model.options import GenerationOptions
from model.tokens import TokenIds

if TYPE_CHECKING:
    from model.checkpoint import LoadedModel


class LocalBackend:
    """Answers with a loaded model.

    Args:
        loaded: What `model.checkpoint.load_model` returned.
    """

    def __init__(self, loaded: "LoadedModel") -> None:
        self.loaded = loaded

    @property
    def info(self) -> Mapping[str, Any]:
        """Name and place of the model, and what it can do."""
        info = self.loaded.info
        return {
            "name": info.name,
            "capabilities": (TEXT, AUDIO_IN, AUDIO_CODES, LOGPROBS, ACTIVATIONS),
            "scripted": False,
            "revision": info.revision,
            "device": str(info.device),
            "dtype": str(info.dtype),
        }

    def stream(
        self, conversation: Conversation, options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """Answer once; see `model.generation.stream`."""
        return stream(self.loaded.model, self.loaded.processor, conversation, options, cancel=cancel)

    @property
    def token_ids(self) -> TokenIds:
        """Ids of the tokenizer in use."""
        return self.loaded.processor.ids

    def room(self, conversation: Conversation) -> int:
        """Count the ids that fit behind a conversation; nothing is computed of its sound."""
        limit = self.loaded.model.config.text_config.max_position_embeddings
        return limit - len(self.loaded.processor.encode(conversation, front_end=_no_mel).ids)


def _no_mel(waveform: Waveform) -> Tensor:
    """Stand for a log-mel where only its place counts."""
    return torch.zeros(1, 1)
