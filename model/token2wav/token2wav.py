"""From speech codes to sound: one set of networks, any number of voices and streams.

    codes 25 Hz --pad codes out--> flow --mel 50 Hz--> vocoder --> 24 kHz
                                    ^                   |
             Voice ---read once-----'      state <------'     goes in and comes out, nothing stays in the networks

`speak` is a stream that gets all codes at once, so it gives, to the bit, what any slicing of the same codes gives.
Blocks begin small, so that the first sound comes soon, and double up to their full size: (8, 25) is made in blocks of
8, 16, 25, 25, ... codes. A block waits for three codes to look ahead at; the vocoder lags by `lookahead_frames`.

`parity=True` repeats the official code: in `speak` its offline call (every code sees every other), in `stream` its
client (blocks of 25, its cut of the memory, its cross-fade). For comparing only.

Source: Step-Audio 2 `token2wav.py` (behaviour to match under `parity`).
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.audio import Waveform
from model.audio_file import Source
from model.errors import AudioError, OptionsError
from model.token2wav.config import Token2WavConfig
from model.token2wav.flow import DEFAULT_GRID, DEFAULT_WINDOW, Flow
from model.token2wav.flow_grid import BlockGrid, Window
from model.token2wav.flow_state import FlowState
from model.token2wav.hift import HiFT
from model.token2wav.hift_source import SourceNoise
from model.token2wav.speech_stream import Block, Codes, SpeechState, SpeechStream, SpeechTiming, as_codes
from model.token2wav.voice import Voice, VoiceMaker, Voices

FIRST_CHUNK, CHUNK = 15, 25
"""Codes of the first block and of the later ones: 0.6 s and 1 s. The official vocoder needs 11 codes for a sound."""
KEEP_BYTES = 2**30
"""Voices that were read are remembered up to this size: all of nano's, one long voice of mini's."""


@dataclass(frozen=True)
class Token2WavInfo:
    """Where the networks come from and what they take."""

    path: Path | None
    """Folder that was read; None if they were made by hand."""
    device: str
    dtype: str
    """Of the flow; everything else is float32."""
    n_parameters: int
    memory_bytes: int
    """Bytes taken by the weights."""


class Token2Wav:
    """Speak. Several threads may use one, each with streams of its own.

    Args:
        config: Sizes of the three networks.
        flow: Codes to mel.
        vocoder: Mel to sound, on the same device.
        maker: Makes voices of recordings; without it only voices that were made before can be used.
        voices: Voices by name.
        info: Where all this comes from.
        keep_bytes: Memory for voices that were read.

    Raises:
        OptionsError: If the networks are not on one device.
    """

    def __init__(
        self,
        config: Token2WavConfig,
        flow: Flow,
        vocoder: HiFT,
        *,
        maker: VoiceMaker | None = None,
        voices: Voices | None = None,
        info: Token2WavInfo | None = None,
        keep_bytes: int = KEEP_BYTES,
    ):
        self.config, self.flow, self.vocoder = config, flow.eval(), vocoder.eval()
        self.maker, self.voices = maker, voices if voices is not None else Voices()
        self.info = info or _info(flow, vocoder)
        self.keep_bytes = keep_bytes
        self._starts: OrderedDict[tuple, FlowState] = OrderedDict()
        self._turn = threading.Lock()
        devices = flow.device, vocoder.conv_pre.bias.device
        if devices[0] != devices[1]:
            found, todo = f"the flow on {devices[0]} and the vocoder on {devices[1]}", "Move both to one device."
            raise OptionsError("speak", found=found, expected="both on one device", todo=todo)

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the sound."""
        return self.config.hift.sampling_rate

    @property
    def device(self) -> torch.device:
        """Where the networks are; sound and voices are always on the CPU."""
        return self.flow.device

    # --- speaking ---------------------------------------------------------------------------------------------------

    def speak(
        self,
        codes: Codes,
        voice: Voice | str,
        seed: int = 0,
        *,
        parity: bool = False,
        tell: Callable[[SpeechTiming], None] | None = None,
        **options,
    ) -> Waveform:
        """Turn all codes of an utterance into sound.

        Args:
            codes: Whole numbers; pad codes are left out.
            voice: A voice, or the name of one in `voices`.
            seed: Which noise; the same seed gives the same sound.
            parity: Make everything at once, each code seeing all others, as the official code does; at most 100 s
                with the voice.
            tell: Called with the times of the stages when all is done.
            **options: As in `stream`.

        Returns:
            960 samples for each code at 24 kHz; without a code (or with pad codes only) a sound of no length.

        Raises:
            AudioError: If something is no code of this checkpoint, or the voice does not fit it.
            OptionsError: If options are out of range or contradict each other.
        """
        if parity:
            sound, timing = self._speak_official(codes, voice, seed, **options)
        else:
            stream = self.stream(voice, seed, **options)
            pieces = [piece.samples for piece in (stream.push(codes), stream.finish()) if piece is not None]
            sound = Waveform(np.concatenate([np.zeros(0, np.float32), *pieces]), self.sample_rate_hz)
            timing = stream.timing
        if tell:
            tell(timing)
        return sound

    def stream(
        self,
        voice: Voice | str,
        seed: int = 0,
        *,
        first_chunk: int | None = None,
        chunk: int | None = None,
        n_steps: int = 10,
        window: Window = DEFAULT_WINDOW,
        parity: bool = False,
    ) -> SpeechStream:
        """Begin an utterance.

        Args:
            voice: A voice, or the name of one in `voices`.
            seed: Which noise; the same seed, chunks and steps give the same sound.
            first_chunk: Codes of the first block (15 if None); fewer speak sooner. It is part of what is said: the
                codes of a block see each other, so other blocks sound a little different.
            chunk: Codes of the later blocks (25 if None); blocks double from the first size to this one.
            n_steps: Steps of the flow's solver; fewer are faster and rougher.
            window: How far back a block looks; bounds memory.
            parity: Stream as the official client does; chunks and window are then the official ones.

        Raises:
            AudioError: If the voice does not fit this checkpoint.
            OptionsError: If options are out of range or contradict each other.
        """
        if parity and (first_chunk, chunk) != (None, None):
            raise _contradiction(f"parity with first_chunk={first_chunk} and chunk={chunk}")
        grid = DEFAULT_GRID if parity else blocks_of(first_chunk, chunk)
        began_s, vocoder = time.perf_counter(), self.vocoder.start(seed=seed, parity=parity)
        start = self.read_voice(voice, seed, n_steps=n_steps, window=window, parity=parity)
        state = SpeechState(replace(start, grid=grid), vocoder)
        return SpeechStream(self, state, voice_s=time.perf_counter() - began_s)

    def read_voice(
        self,
        voice: Voice | str,
        seed: int = 0,
        *,
        n_steps: int = 10,
        window: Window = DEFAULT_WINDOW,
        parity: bool = False,
    ) -> FlowState:
        """Return the state in which every utterance of a voice begins; remembered, so the next time costs nothing.

        Whoever knows the voice before the first code comes can call this ahead.
        """
        voice = self._fitting(voice)
        key = (voice.id, seed, n_steps, window, parity)
        with self._turn:
            if key in self._starts:
                self._starts.move_to_end(key)
                return self._starts[key]
        state = self.flow.start(**voice.prompt(), seed=seed, n_steps=n_steps, window=window, parity=parity)
        _settle(self.device)
        with self._turn:
            self._starts[key] = state
            sizes = {each: kept.prompt_bytes + kept.stream_bytes for each, kept in self._starts.items()}
            while sum(sizes.values()) > self.keep_bytes:
                oldest, _ = self._starts.popitem(last=False)
                del sizes[oldest]
        return state

    def blocks(self, codes: Tensor, state: SpeechState) -> Iterator[Block]:
        """Make the blocks that codes complete, one by one.

        Args:
            codes: int64 [1, n], checked, without pad codes.
            state: It stays valid; each block comes with the next one.

        Yields:
            A block for each piece of codes, the last one's state having taken all of them.
        """
        place = 0
        while place < codes.shape[1]:
            # Never more than one block at a time: the vocoder then gets the same pieces, however codes were sliced.
            size = self.flow.codes_needed(state.flow)
            block = self._block(codes[:, place : place + size], state, last=False)
            place, state = place + size, block.state
            yield block

    def last_block(self, state: SpeechState) -> Iterator[Block]:
        """Make what is left when no more codes will come; nothing if there never was a code."""
        if state.flow.n_blocks or state.flow.waiting.shape[1]:
            yield self._block(state.flow.waiting[:, :0], state, last=True)

    def _block(self, codes: Tensor, state: SpeechState, *, last: bool) -> Block:
        began_s = time.perf_counter()
        mel, flow = self.flow.step(codes, state.flow, last=last)
        _settle(self.device)
        made_s = time.perf_counter()
        if not mel.shape[-1] and not last:
            return Block(None, replace(state, flow=flow), made_s - began_s, 0.0)
        samples, vocoder = self.vocoder.step(mel, state.vocoder, last=last)
        samples = samples[0].float().cpu()
        return Block(samples, SpeechState(flow, vocoder), made_s - began_s, time.perf_counter() - made_s)

    def codes_to_first_sound(self, first_chunk: int | None = None, chunk: int | None = None) -> int:
        """Return how many codes must come before the first sound can: the latency of the blocks, told in codes."""
        grid, n_codes, block = blocks_of(first_chunk, chunk), 0, 0
        while n_codes * self.config.flow.frames_per_code <= self.vocoder.lookahead_frames:
            n_codes, block = n_codes + grid.size(block), block + 1
        return n_codes + self.config.flow.lookahead_codes

    @torch.no_grad()
    def _speak_official(
        self, codes: Codes, voice: Voice | str, seed: int, *, n_steps: int = 10, **others
    ) -> tuple[Waveform, SpeechTiming]:
        if others:
            raise _contradiction(f"parity with {', '.join(others)}")
        voice, given = self._fitting(voice), as_codes(codes, self.config.flow)
        kept = given[:, given[0] != self.config.flow.pad_code]
        timing = SpeechTiming(n_codes=kept.shape[1], n_pads=given.shape[1] - kept.shape[1])
        if not timing.n_codes:
            return Waveform(np.zeros(0, np.float32), self.sample_rate_hz), timing
        began_s = time.perf_counter()
        mel = self.flow.offline(kept, **voice.prompt(), seed=seed, n_steps=n_steps)
        _settle(self.device)
        made_s = time.perf_counter()
        samples = self.vocoder(mel, noise=SourceNoise(seed))[0].float().cpu()
        sound = Waveform(samples.numpy(), self.sample_rate_hz)
        times = {"flow_s": made_s - began_s, "vocoder_s": time.perf_counter() - made_s, "sound_s": sound.duration_s}
        return sound, replace(timing, **times, first_sound_s=time.perf_counter() - began_s)

    # --- voices -----------------------------------------------------------------------------------------------------

    def make_voice(self, source: Source | Waveform, *, name: str, parity: bool = False, **words: str) -> Voice:
        """Make a voice of a recording of 3 to 15 s; arguments as in `VoiceMaker.make`. It is not added to `voices`.

        Raises:
            AudioError: If the recording cannot be used, or this checkpoint has no networks for it.
        """
        if self.maker is None:
            raise AudioError(
                "make a voice of a recording",
                found="a checkpoint without speech tokenizer and speaker network",
                expected="both",
                todo="Use a voice that was made before, or a complete checkpoint.",
            )
        return self.maker.make(source, name=name, parity=parity, **words)

    def _fitting(self, voice: Voice | str) -> Voice:
        """Return a voice that this checkpoint can use, looked up by its name if need be."""
        voice = self.voices[voice] if isinstance(voice, str) else voice
        if not isinstance(voice, Voice):
            found, todo = f"an object of type {type(voice).__name__}", "Make one with `make_voice`."
            raise AudioError("speak", found=found, expected="a Voice or the name of one", todo=todo)
        ours = self.maker.fingerprint if self.maker else ""
        if voice.tokenizer and ours and voice.tokenizer != ours:
            found, expected = f"codes of another speech tokenizer ({voice.tokenizer})", f"codes of this one ({ours})"
            todo = "Make the voice again from its recording, with this checkpoint."
            raise AudioError(f"speak with the voice {voice.name!r}", found=found, expected=expected, todo=todo)
        return voice


def blocks_of(first: int | None = None, size: int | None = None) -> BlockGrid:
    """Return blocks that double from `first` codes (15, or less where blocks are smaller) to `size` (25).

    Raises:
        OptionsError: If they are no whole numbers above 0, or the first is the larger one.
    """
    size = CHUNK if size is None else size
    first = min(FIRST_CHUNK, size) if first is None else first
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in (first, size)) or not 1 <= first <= size:
        found, expected = f"first_chunk={first!r} and chunk={size!r}", "whole numbers above 0, the first not larger"
        raise OptionsError("begin to speak", found=found, expected=expected, todo=f"Use {FIRST_CHUNK} and {CHUNK}.")
    sizes = []
    while first < size:
        sizes.append(first)
        first *= 2
    return BlockGrid((*sizes, size))


def _contradiction(found: str) -> OptionsError:
    todo = "Leave one of them out."
    return OptionsError("begin to speak", found=found, expected="parity alone, which has official settings", todo=todo)


def _settle(device: torch.device) -> None:
    """Wait for a device that works behind our back, so that times are told for the right stage."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _info(*modules: torch.nn.Module) -> Token2WavInfo:
    """Describe networks that were made by hand."""
    weights = [weight for module in modules for weight in module.parameters()]
    n_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    first = weights[0]
    dtype = str(first.dtype).removeprefix("torch.")
    return Token2WavInfo(None, str(first.device), dtype, sum(weight.numel() for weight in weights), n_bytes)
