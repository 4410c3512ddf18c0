"""When a person begins to speak and when they are done: sound in, in any pieces, events out.

    probability      ____/‾‾‾\\_/‾‾‾‾‾‾‾‾‾‾\\______________________
                    ^    ^                 ^            ^
    pre-roll, kept -'    SpeechStart       end_s        SpeechEnd, once it was quiet for `end_silence_s`
                         (certain after `min_speech_s`)

Times are seconds of the stream, counted in samples, so they do not depend on when the pieces arrive: any cutting of
the same sound gives the same events. `SpeechEnd` carries the recording, which begins a little before the speech,
because the first consonant is often too soft to be noticed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.errors import AudioError, OptionsError
from model.voice_activity import FRAME_S, FRAME_SAMPLES, VoiceActivity, voice_activity


@dataclass(frozen=True)
class TurnSettings:
    """What counts as a turn. Times are rounded to frames of 32 ms."""

    start_probability: float = 0.5
    """From here on a frame may begin speech."""
    end_probability: float = 0.35
    """Below it a frame is quiet; lower than the start, so that a soft syllable does not end the turn."""
    min_speech_s: float = 0.25
    """Voiced frames that make sure it is speech: a click or a cough is shorter."""
    max_gap_s: float = 0.15
    """A longer gap within them, and they are forgotten."""
    end_silence_s: float = 0.8
    """Quiet that ends the turn."""
    pre_roll_s: float = 0.3
    """What is kept from before the speech."""
    post_roll_s: float = 0.2
    """What is kept from after it, at most `end_silence_s`."""
    max_speech_s: float = 30.0
    """A turn is ended after this time, and what follows is another one."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        checks = [
            (
                0 < self.end_probability <= self.start_probability < 1,
                f"end_probability={self.end_probability} and start_probability={self.start_probability}",
                "between 0 and 1, the end not above the start",
            ),
            (self.min_speech_s > 0, f"min_speech_s={self.min_speech_s}", "more than 0"),
            (self.end_silence_s > 0, f"end_silence_s={self.end_silence_s}", "more than 0"),
            (
                min(self.max_gap_s, self.pre_roll_s, self.post_roll_s) >= 0,
                f"max_gap_s={self.max_gap_s}, pre_roll_s={self.pre_roll_s}, post_roll_s={self.post_roll_s}",
                "0 or more",
            ),
            (
                self.max_speech_s > self.min_speech_s + self.end_silence_s,
                f"max_speech_s={self.max_speech_s}",
                "more than min_speech_s and end_silence_s together",
            ),
        ]
        for good, found, expected in checks:
            if not good:
                todo = "Correct the setting"
                raise OptionsError("use the settings of turn detection", found=found, expected=expected, todo=todo)


@dataclass(frozen=True)
class SpeechStart:
    """Somebody speaks."""

    start_s: float
    """When the speech began."""
    heard_s: float
    """When that was certain."""


@dataclass(frozen=True)
class SpeechEnd:
    """They are done."""

    start_s: float
    end_s: float
    """End of the last voiced frame."""
    heard_s: float
    """When it was certain that this was the end."""
    reason: Literal["silence", "length", "flush"]
    """"silence": they stopped; "length": the turn became too long; "flush": the stream ended."""
    waveform: Waveform
    """What they said, 16 kHz, with pre-roll and post-roll."""
    waveform_start_s: float
    """Where the recording begins in the stream."""


TurnEvent = SpeechStart | SpeechEnd


def _frames(seconds: float) -> int:
    return math.ceil(seconds / FRAME_S - 1e-6)


class TurnDetector:
    """Finds turns in one stream. Not for several threads at once.

    Args:
        settings: What counts as a turn.
        activity: Judges frames; a fresh one for each stream. None takes the best that is at hand.
    """

    def __init__(self, settings: TurnSettings | None = None, activity: VoiceActivity | None = None) -> None:
        self.settings, self.activity = settings or TurnSettings(), activity or voice_activity()
        self.speaking = False
        """Whether a turn has begun and not ended."""
        self._rate_hz: int | None = None
        self._resampler: Any = None
        self._rest = np.zeros(0, np.float32)
        self._n_frames = 0
        self._kept: list[np.ndarray] = []
        self._first_voiced: int | None = None
        self._last_voiced = self._n_voiced = 0
        self._not_before = 0

    @property
    def time_s(self) -> float:
        """How much of the stream has been judged, in seconds."""
        return self._n_frames * FRAME_S

    def push(self, waveform: Waveform) -> list[TurnEvent]:
        """Take the next piece of the stream, of any length, and return the events in it.

        Raises:
            AudioError: If the rate is not that of the pieces before.
        """
        return [event for frame in self._cut(waveform) for event in self._judge(frame)]

    def flush(self) -> list[TurnEvent]:
        """End the stream: a turn that is under way ends here. Less than a frame at its end is left out."""
        last = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True) if self._resampler else self._rest[:0]
        events = [event for frame in self._framed(last) for event in self._judge(frame)]
        if self.speaking:
            events.append(self._end("flush"))
        self._resampler, self._rate_hz, self._rest = None, None, np.zeros(0, np.float32)
        return events

    def heard(self, most_s: float = 30.0) -> Waveform:
        """What has been said of the turn under way, pre-roll included, or at most the last seconds of it."""
        frames = self._kept[-_frames(most_s) :] if self.speaking else []
        return Waveform(np.concatenate([np.zeros(0, np.float32), *frames]), INPUT_SAMPLE_RATE_HZ)

    # -- sound -> frames -------------------------------------------------------------------------

    def _cut(self, waveform: Waveform) -> list[np.ndarray]:
        if self._rate_hz not in (None, waveform.sample_rate_hz):
            raise AudioError(
                "listen to a stream",
                found=f"a piece at {waveform.sample_rate_hz} Hz after others at {self._rate_hz} Hz",
                expected="one sample rate",
                todo="Start a new detector when the microphone changes",
            )
        if self._rate_hz is None:
            self._rate_hz = waveform.sample_rate_hz
            if self._rate_hz != INPUT_SAMPLE_RATE_HZ:
                import soxr

                self._resampler = soxr.ResampleStream(self._rate_hz, INPUT_SAMPLE_RATE_HZ, 1, dtype="float32")
        samples = waveform.samples
        return self._framed(self._resampler.resample_chunk(samples) if self._resampler else samples)

    def _framed(self, samples: np.ndarray) -> list[np.ndarray]:
        """Whole frames; the rest waits."""
        samples = np.concatenate([self._rest, samples])
        n_whole = len(samples) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = samples[n_whole:]
        return list(samples[:n_whole].reshape(-1, FRAME_SAMPLES))

    # -- frames -> events ------------------------------------------------------------------------

    def _judge(self, frame: np.ndarray) -> Iterator[TurnEvent]:
        probability = self.activity(frame)
        self._kept.append(frame.copy())
        self._n_frames += 1
        if self.speaking:
            yield from self._go_on(probability)
        else:
            yield from self._wait(probability)

    def _wait(self, probability: float) -> Iterator[TurnEvent]:
        """Before a turn: count voiced frames, and forget them after a gap."""
        settings, here = self.settings, self._n_frames - 1
        if self._first_voiced is not None and here - self._last_voiced > _frames(settings.max_gap_s):
            self._first_voiced, self._n_voiced = None, 0
        began = self._first_voiced is not None
        if probability >= (settings.end_probability if began else settings.start_probability):
            self._first_voiced = self._first_voiced if began else here
            self._last_voiced, self._n_voiced = here, self._n_voiced + 1
        if self._n_voiced >= _frames(settings.min_speech_s):
            self.speaking = True
            yield SpeechStart(self._first_voiced * FRAME_S, self.time_s)
        else:
            self._forget(here if self._first_voiced is None else self._first_voiced)

    def _go_on(self, probability: float) -> Iterator[TurnEvent]:
        """Inside a turn: wait for its end."""
        here = self._n_frames - 1
        if probability >= self.settings.end_probability:
            self._last_voiced = here
        if here - self._last_voiced >= _frames(self.settings.end_silence_s):
            yield self._end("silence")
        elif self._n_frames - self._first_voiced >= _frames(self.settings.max_speech_s):
            yield self._end("length")

    def _end(self, reason: Literal["silence", "length", "flush"]) -> SpeechEnd:
        first_kept = self._n_frames - len(self._kept)
        until = min(self._last_voiced + 1 + _frames(self.settings.post_roll_s), self._n_frames)
        said = np.concatenate(self._kept[: until - first_kept])
        event = SpeechEnd(
            self._first_voiced * FRAME_S,
            (self._last_voiced + 1) * FRAME_S,
            self.time_s,
            reason,
            Waveform(said, INPUT_SAMPLE_RATE_HZ),
            first_kept * FRAME_S,
        )
        self.speaking, self._first_voiced, self._n_voiced = False, None, 0
        self._not_before = until
        self._forget(self._n_frames)
        return event

    def _forget(self, frame: int) -> None:
        """Drop what no turn that begins at `frame` or later needs: before its pre-roll, or in the last turn."""
        first_kept = self._n_frames - len(self._kept)
        first_wanted = max(frame - _frames(self.settings.pre_roll_s), self._not_before)
        del self._kept[: max(0, first_wanted - first_kept)]
