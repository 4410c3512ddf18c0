"""Speech codes of a turn become sound while the turn goes on; and the shortest such turn: reading a text aloud.

    backend ──TextDelta, AudioCodesDelta, ...──> voiced(events, speaker) ──the same events, AudioDelta between them──>
                          codes ──> CodeSpeaker ──> sound

Whoever runs a turn of several replies (tools between them) keeps one `CodeSpeaker` and feeds it by hand: `add` after
every `AudioCodesDelta`, `finish` at the end. `speak` needs only a text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from model.clock import Clock
from model.errors import ConversationError
from model.events import AudioCodesDelta, AudioDelta, Event, StageTiming, TurnDone, shifted
from model.options import GenerationOptions
from model.tasks.tts import TTS

if TYPE_CHECKING:
    from model.audio import Waveform
    from model.backends.base import Backend
    from model.token2wav.speech_stream import SpeechStream, SpeechTiming
    from model.token2wav.token2wav import Token2Wav
    from model.token2wav.voice import Voice

VOICE_STAGE, SOUND_STAGE = "voice", "sound"
"""Stages of speaking: reading the voice, and making one piece of sound (one timing for each piece)."""
MAX_CHARACTERS = 300
"""Longest text that is read: about a minute in Chinese, for which `TTS.options` leave room."""


class CodeSpeaker:
    """Turns the speech codes of one turn into sound, piece by piece; made anew for every turn.

        speaker = CodeSpeaker(loaded.token2wav, "Ana", seed=3, cancel=cancel)
        for event in backend.stream(conversation, options, cancel=cancel):
            yield event                                   # but TurnDone after the rest of the sound: see `voiced`
            if isinstance(event, AudioCodesDelta):
                yield from speaker.add(event.codes)       # StageTiming("sound") and AudioDelta; often nothing yet
        yield from speaker.finish()

    Nothing is computed before the first code (or `prepare`): a turn without speech costs nothing. Codes are taken in
    slices of one block, so that sound is handed on as soon as it is certain, and a cancel waits for one block at most.

    Args:
        token2wav: The networks, `LoadedModel.token2wav`.
        voice: A voice, or the name of one in `token2wav.voices`.
        seed: Which noise; the same codes, voice and seed give the same sound.
        clock: Seconds since the turn began, for the times of the events; without it they count from now on.
        cancel: Set by any thread to make no more sound; share it with the backend.
        first_chunk: Codes of the first block, see `Token2Wav.stream`.
        chunk: Codes of the later blocks.
        n_steps: Steps of the flow's solver.
    """

    def __init__(
        self,
        token2wav: Token2Wav,
        voice: Voice | str,
        *,
        seed: int = 0,
        clock: Callable[[], float] | None = None,
        cancel: threading.Event | None = None,
        first_chunk: int | None = None,
        chunk: int | None = None,
        n_steps: int = 10,
    ) -> None:
        self._token2wav, self._voice, self._seed = token2wav, voice, seed
        self._blocks = {"first_chunk": first_chunk, "chunk": chunk, "n_steps": n_steps}
        self._clock, self._cancel = clock or Clock(), cancel or threading.Event()
        self._stream: SpeechStream | None = None

    def prepare(self) -> Iterator[StageTiming]:
        """Read the voice, if that has not been done, and yield how long it took; `add` does it otherwise.

        Raises:
            AudioError: If there is no such voice, or it does not fit the checkpoint.
        """
        if self._stream is None:
            start_s = self._clock()
            self._stream = self._token2wav.stream(self._voice, self._seed, **self._blocks)
            end_s = self._clock()
            yield StageTiming(VOICE_STAGE, start_s, end_s, end_s)

    def add(self, codes: Sequence[int]) -> Iterator[Event]:
        """Take more codes and yield the sound that they complete.

        Raises:
            AudioError: If something is no code of the checkpoint, or the turn was finished.
        """
        if len(codes) and not self._cancel.is_set():
            yield from self.prepare()
        place = 0
        while place < len(codes) and not self._cancel.is_set():
            part = codes[place : place + max(1, self._stream.codes_needed)]
            yield from self._made(lambda part=part: self._stream.push(part))
            place += len(part)

    def finish(self) -> Iterator[Event]:
        """Yield the rest of the sound; nothing if there was no code or the turn was cancelled."""
        if self._stream is not None and not self._cancel.is_set():
            yield from self._made(self._stream.finish)

    @property
    def cancelled(self) -> bool:
        """Whether somebody has set `cancel`."""
        return self._cancel.is_set()

    @property
    def timing(self) -> SpeechTiming | None:
        """Where the time went so far; None before the first code."""
        return self._stream.timing if self._stream else None

    def _made(self, make: Callable[[], Waveform | None]) -> Iterator[Event]:
        start_s = self._clock()
        sound = make()
        if sound is not None:
            end_s = self._clock()
            yield StageTiming(SOUND_STAGE, start_s, end_s, end_s)
            yield AudioDelta(sound, end_s)


def voiced(events: Iterable[Event], speaker: CodeSpeaker) -> Iterator[Event]:
    """Add the sound to the events of one turn.

    Args:
        events: One turn, as a backend yields it.
        speaker: A fresh one, with the `cancel` of the backend.

    Yields:
        Every event as it came, each piece of sound right after the codes that complete it, and `TurnDone` after the
        last sound. A turn that is cancelled while the last sound is made counts as cancelled. If the sound fails,
        `TurnDone("error")` is followed by the exception itself, as in `model.generation.stream`.
    """
    ids: list[int] = []
    done, t_s = None, 0.0
    try:
        for event in events:
            if isinstance(event, TurnDone):
                for made in _rest(event, speaker):
                    t_s, done = made.t_s, made if isinstance(made, TurnDone) else None
                    yield made
                continue
            yield event
            t_s, ids = max(t_s, event.t_s), ids + list(getattr(event, "ids", ()))
            if isinstance(event, AudioCodesDelta):
                yield from speaker.add(event.codes)
    except Exception as error:
        if done is None:
            yield TurnDone("error", tuple(ids), 0, len(ids), t_s, str(error))
        raise


def _rest(done: TurnDone, speaker: CodeSpeaker) -> Iterator[Event]:
    """The sound that is still missing when a reply is over, and its end."""
    t_s, cut = done.t_s, done.reason in ("cancelled", "error")
    for made in () if cut else speaker.finish():
        t_s = max(t_s, made.t_s)
        yield made
    reason = "cancelled" if speaker.cancelled and not cut else done.reason
    yield replace(done, reason=reason, t_s=t_s)


def speak(
    backend: Backend,
    token2wav: Token2Wav,
    text: str,
    voice: Voice | str,
    options: GenerationOptions | None = None,
    *,
    cancel: threading.Event | None = None,
    **blocks: int,
) -> Iterator[Event]:
    """Read a text aloud.

    Args:
        backend: Writes the codes.
        token2wav: Turns them into sound.
        text: What to read, 1 to `MAX_CHARACTERS` characters.
        voice: A voice, or the name of one in `token2wav.voices`.
        options: How to write; `TTS.options` if None. Their seed is also that of the sound (0 if None).
        cancel: Ends the turn after the running step: one id, or one block of sound.
        **blocks: `first_chunk`, `chunk` and `n_steps` of `CodeSpeaker`.

    Yields:
        Events of one turn on one clock: `StageTiming("voice")`, what the backend yields, `AudioDelta` as soon as there
        is sound, `TurnDone` last. A model that writes no codes gives a turn without any `AudioDelta`.

    Raises:
        ConversationError: If there is nothing to read, or too much.
        AudioError: If the voice cannot be used.
    """
    text, options, cancel = check_text(text), options or TTS.options, cancel or threading.Event()
    clock = Clock()
    speaker = CodeSpeaker(token2wav, voice, seed=options.seed or 0, clock=clock, cancel=cancel, **blocks)
    yield from speaker.prepare()
    delay_s = clock()
    written = backend.stream(TTS.conversation(text), options, cancel=cancel)
    yield from voiced((shifted(event, delay_s) for event in written), speaker)


def check_text(text: str) -> str:
    """Return a text that can be read aloud, without the blanks around it.

    Raises:
        ConversationError: If there is nothing to read, or too much.
    """
    text = text.strip()
    if any(map(str.isalnum, text)) and len(text) <= MAX_CHARACTERS:
        return text
    raise ConversationError(
        "read a text aloud",
        found=f"{len(text)} characters" if any(map(str.isalnum, text)) else "no letter and no digit",
        expected=f"a text of 1 to {MAX_CHARACTERS} characters",
        todo="Write a sentence or two; longer texts can be read piece by piece.",
    )
