"""How reading aloud looks while it happens: events in, one picture out, as `demo/transcript.py` for listening.

StageTiming("voice")        the voice is read
TextDelta, AudioCodesDelta  the model writes       -> words, codes
AudioDelta                  sound is certain       -> feed of the player
TurnDone                    all is there           -> mel
"""

import base64
import html
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from analysis.view.spoken import mel_payload, spoken_payload
from demo.errors import Problem, problem_html
from demo.player import Feed
from demo.texts import Texts
from demo.transcript import ENDINGS, FINISHED, UNDER_WAY, Phase, head_html, seconds, timings_html, words_html
from model.audio import Waveform
from model.events import AudioCodesDelta, AudioDelta, Event, StageTiming, TextDelta, TurnDone
from model.speaking import SOUND_STAGE, VOICE_STAGE


@dataclass(frozen=True)
class Spoken:
    """One picture of a text being read aloud."""

    phase: Phase = "empty"
    text: str = ""
    """The words that the model has written beside its codes."""
    words: tuple[tuple[str, int], ...] = ()
    """The same in pieces, each with the number of codes before it."""
    codes: tuple[int, ...] = ()
    n_codes: int = 6561
    """Size of the codebook."""
    feed: Feed | None = None
    """The sound so far; None clears the player."""
    mel: dict[str, Any] | None = None
    """What the spoken view draws as mel, once all sound is there."""
    first_s: float | None = None
    """From the start of the turn to the first sound."""
    made_s: float = 0.0
    """Time spent on turning codes into sound."""
    total_s: float | None = None
    waited_s: float = 0.0
    """How long the present phase has lasted, for phases that show it."""
    problem: Problem | None = None

    @property
    def is_under_way(self) -> bool:
        """True until the turn has come to an end."""
        return self.phase in UNDER_WAY

    @property
    def sound_s(self) -> float:
        """Length of the sound so far."""
        return self.feed.duration_s if self.feed else 0.0

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of the whole turn for a second of sound; None before it is over."""
        return self.total_s / self.sound_s if self.total_s is not None and self.sound_s else None

    @property
    def value(self) -> dict[str, Any]:
        """What player and spoken view are given; `{}` empties them."""
        if self.feed is None:
            return {}
        return {**self.feed.value, **spoken_payload(self.codes, self.words, self.n_codes), "mel": self.mel}

    @classmethod
    def at(cls, phase: Phase) -> Self:
        """Return a picture without sound."""
        return cls(phase)

    def stopped(self) -> Self:
        """Return how this looks once it was stopped; what was said stays."""
        return replace(self, phase="stopped", feed=self.feed and self.feed.finish()) if self.is_under_way else self

    def failed(self, problem: Problem) -> Self:
        """Return how this looks when something went wrong; what was said stays."""
        return replace(self, phase="failed", problem=problem, feed=self.feed and self.feed.finish())


def advance(seen: Spoken, event: Event) -> Spoken:
    """Return the picture after one more event of the turn."""
    match event:
        case StageTiming(stage=stage) if stage == VOICE_STAGE:
            return replace(seen, phase="writing")
        case StageTiming(stage=stage) if stage == SOUND_STAGE:
            return replace(seen, made_s=seen.made_s + event.end_s - event.start_s)
        case TextDelta():
            return replace(seen, text=seen.text + event.text, words=(*seen.words, (event.text, len(seen.codes))))
        case AudioCodesDelta():
            return replace(seen, codes=seen.codes + event.codes)
        case AudioDelta():
            first_s = event.t_s if seen.first_s is None else seen.first_s
            feed = (seen.feed or Feed()).add(event.waveform)
            return replace(seen, phase="speaking", feed=feed, first_s=first_s)
        case TurnDone():
            return replace(seen, phase=ENDINGS[event.reason], total_s=event.t_s, feed=seen.feed and seen.feed.finish())
    return seen


def with_mel(seen: Spoken) -> Spoken:
    """Return the finished picture with the mel of its sound; as it is where there is none."""
    if seen.feed is None or not seen.feed.pieces:
        return seen
    pcm = b"".join(base64.b64decode(piece) for piece in seen.feed.pieces)
    sound = Waveform(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768, seen.feed.rate_hz)
    return replace(seen, mel=mel_payload(sound))


def spoken_html(seen: Spoken, texts: Texts) -> str:
    """Draw the panel of a picture; every word of it that came from elsewhere is escaped."""
    if seen.phase == "empty":
        return _empty_html(texts)
    parts = [head_html(seen, texts)]
    if seen.problem is not None:
        parts.append(problem_html(seen.problem))
    if seen.text or (seen.is_under_way and seen.problem is None):
        parts.append(words_html(seen, texts))
    if seen.phase in FINISHED and not seen.sound_s:
        parts.append(f'<p class="note">{html.escape(texts("speech_no_sound"))}</p>')
    parts.append(_timings_html(seen, texts))
    busy = str(seen.is_under_way).lower()
    return f'<div class="panel transcript" data-phase="{seen.phase}" aria-busy="{busy}">{"".join(parts)}</div>'


def _empty_html(texts: Texts) -> str:
    steps = "".join(f"<li>{html.escape(texts(f'speech_empty_{i}'))}</li>" for i in (1, 2, 3))
    title = html.escape(texts("speech_empty_title"))
    return f'<div class="panel transcript empty" data-phase="empty"><h2>{title}</h2><ol>{steps}</ol></div>'


def _timings_html(seen: Spoken, texts: Texts) -> str:
    factor = seen.real_time_factor
    cells = (
        ("time_first_sound", seconds(seen.first_s, texts)),
        ("time_spoken", seconds(seen.sound_s or None, texts)),
        ("time_codes", f"{len(seen.codes)}" if seen.codes else None),
        ("time_sound_made", seconds(seen.made_s or None, texts)),
        ("time_real_time", None if factor is None else f"{factor:.2f}"),
        ("time_total", seconds(seen.total_s, texts)),
    )
    return timings_html(cells, texts)
