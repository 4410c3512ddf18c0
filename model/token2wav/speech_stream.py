"""One utterance while it is being spoken: codes go in as they come, sound comes out as soon as it is certain.

    push(codes) --pad codes out, checked--> blocks --flow--> mel --vocoder--> Waveform, or None while it has to wait
    finish()                                                              --> the rest
    cancel()      from any thread; the running block is the last

A stream belongs to one user. What it remembers is a `SpeechState`, a value that goes into every step and comes out
changed; the networks keep nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.audio import Waveform
from model.errors import AudioError
from model.token2wav.config import FlowConfig
from model.token2wav.flow_checks import check_codes
from model.token2wav.flow_state import FlowState
from model.token2wav.hift import HiftState
from model.token2wav.hift_official import OfficialState

if TYPE_CHECKING:
    from model.token2wav.token2wav import Token2Wav

Codes = Sequence[int] | np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class SpeechState:
    """Where an utterance stands; a value, so it may be kept and continued twice."""

    flow: FlowState
    vocoder: HiftState | OfficialState

    @property
    def memory(self) -> StreamMemory:
        """What it takes."""
        vocoder = sum(tensor.untyped_storage().nbytes() for tensor in _tensors(self.vocoder))
        return StreamMemory(self.flow.stream_bytes + vocoder, self.flow.prompt_bytes)


@dataclass(frozen=True)
class StreamMemory:
    """What one stream takes besides the networks."""

    own_bytes: int
    """Belongs to this stream alone."""
    shared_bytes: int
    """What was read of the voice; all streams of one voice and seed share it."""


class Block(NamedTuple):
    """What one block of codes became."""

    samples: Tensor | None
    """The sound that is final by now, float32 [time] on the CPU; None if nothing was made."""
    state: SpeechState
    flow_s: float
    vocoder_s: float


@dataclass(frozen=True)
class SpeechTiming:
    """Where the time of an utterance went, in seconds."""

    voice_s: float = 0.0
    """Reading the voice; next to nothing when it was read before."""
    flow_s: float = 0.0
    """Codes to mel."""
    vocoder_s: float = 0.0
    """Mel to sound."""
    first_sound_s: float | None = None
    """From the first code that was pushed to the first sound that came back, waiting for codes included."""
    n_codes: int = 0
    """Codes received, without padding."""
    n_pads: int = 0
    """Pad codes that were left out."""
    sound_s: float = 0.0
    """Length of the sound made so far."""

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work for a second of sound, without the voice; None before there is any."""
        return (self.flow_s + self.vocoder_s) / self.sound_s if self.sound_s else None


class SpeechStream:
    """Speak one utterance; made by `Token2Wav.stream`.

    Args:
        token2wav: The networks.
        state: Where the utterance begins.
        voice_s: Seconds that it took to read the voice.
    """

    def __init__(self, token2wav: Token2Wav, state: SpeechState, *, voice_s: float = 0.0):
        self._token2wav, self._state = token2wav, state
        self._timing = SpeechTiming(voice_s=voice_s)
        self._cancelled, self._turn = threading.Event(), threading.Lock()
        self._began_s: float | None = None
        self._finished = False

    def push(self, codes: Codes) -> Waveform | None:
        """Take the next codes and return the sound that is now certain.

        Args:
            codes: Any number of them, each sent once; pad codes are left out. How they are sliced changes nothing.

        Returns:
            The next piece of sound, to be played right after the one before; None if there is nothing new yet, or
            the stream was cancelled.

        Raises:
            AudioError: If something is no code of this checkpoint (the stream stays as it was), or it was finished.
        """
        with self._turn:
            self._check_open()
            given = as_codes(codes, self._token2wav.config.flow)
            kept = given[:, given[0] != self._token2wav.config.flow.pad_code]
            n_pads = given.shape[1] - kept.shape[1]
            if self._began_s is None and kept.shape[1]:
                self._began_s = time.perf_counter()
            self._note(n_codes=kept.shape[1], n_pads=n_pads)
            return self._run(self._token2wav.blocks(kept, self._state))

    def finish(self) -> Waveform | None:
        """End the utterance and return the rest of its sound; None without codes, or after `cancel`.

        Raises:
            AudioError: If it was finished before.
        """
        with self._turn:
            self._check_open()
            self._finished = True
            sound = self._run(self._token2wav.last_block(self._state))
            self._state = None
            return sound

    def cancel(self) -> None:
        """Stop as soon as the running block is done, and forget everything; any thread may call it at any time."""
        self._cancelled.set()
        if self._turn.acquire(blocking=False):
            self._state = None
            self._turn.release()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    @property
    def finished(self) -> bool:
        """Whether `finish` was called."""
        return self._finished

    @property
    def timing(self) -> SpeechTiming:
        """Where the time went so far."""
        return self._timing

    @property
    def memory(self) -> StreamMemory:
        """What the stream takes now; nothing once it is over."""
        state = self._state
        return state.memory if state else StreamMemory(0, 0)

    @property
    def codes_needed(self) -> int:
        """How many more codes make the next block; 0 once the stream is over."""
        state = self._state
        return self._token2wav.flow.codes_needed(state.flow) if state else 0

    def _run(self, blocks: Iterator[Block]) -> Waveform | None:
        """Make blocks until there are no more, or the stream is cancelled; a stream that fails is over."""
        pieces = []
        try:
            while not self.cancelled and (block := next(blocks, None)):
                self._state = block.state
                self._note(flow_s=block.flow_s, vocoder_s=block.vocoder_s)
                if block.samples is not None and len(block.samples):
                    pieces.append(block.samples)
        except BaseException:
            self._state, self._finished = None, True
            raise
        if self.cancelled:
            self._state = None
            return None
        if not pieces:
            return None
        sound = Waveform(torch.cat(pieces).numpy(), self._token2wav.sample_rate_hz)
        if self._timing.first_sound_s is None:
            self._timing = replace(self._timing, first_sound_s=time.perf_counter() - self._began_s)
        self._note(sound_s=sound.duration_s)
        return sound

    def _note(self, **more: float) -> None:
        added = {name: getattr(self._timing, name) + value for name, value in more.items()}
        self._timing = replace(self._timing, **added)

    def _check_open(self) -> None:
        if self._finished:
            raise AudioError(
                "go on speaking",
                found="an utterance that is over",
                expected="one that was not finished",
                todo="Start the next utterance with `Token2Wav.stream`.",
            )


def as_codes(codes: Codes, config: FlowConfig) -> Tensor:
    """Return what was given as codes as int64 [1, n], pad codes among them, or refuse it.

    Raises:
        AudioError: If it is no row of whole numbers, or one of them is neither a code nor the pad code.
    """
    array = codes.detach().cpu().numpy() if isinstance(codes, Tensor) else np.asarray(codes)
    array = array[0] if array.ndim == 2 and len(array) == 1 else array
    if array.size == 0 and array.ndim == 1:
        return torch.zeros(1, 0, dtype=torch.long)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise AudioError(
            "turn speech codes into sound",
            found=f"{array.dtype} {list(array.shape)}",
            expected="whole numbers, one after the other",
            todo="Give the codes of one utterance as a list of int.",
        )
    wide = np.clip(array, -1, np.iinfo(np.int32).max).astype(np.int64)  # a number beyond int64 must not wrap around
    tensor = torch.from_numpy(wide)[None]
    check_codes(tensor.masked_fill(tensor == config.pad_code, 0), config)
    return tensor


def _tensors(record: object) -> Iterator[Tensor]:
    """Yield every tensor inside nested records."""
    if isinstance(record, Tensor):
        yield record
    elif isinstance(record, tuple | list):
        for each in record:
            yield from _tensors(each)
    elif is_dataclass(record):
        for each in fields(record):
            yield from _tensors(getattr(record, each.name))
