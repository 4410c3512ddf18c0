"""Change one span of a sound and nothing else: what a question of the form "and if that had not been said?" needs.

Every edit is a pure function Waveform -> Waveform of known length. A changed span is cross-faded into its neighbours,
so that no click becomes evidence of its own, and the fades lie inside the span: samples outside are the same bits.

    before    x x x x x|a a a a a a|y y y y        span from start_s to end_s
    after     x x x x x|a\\0 0 0 0/a|y y y y        mute, noise, pitch, swap (same lengths): n samples
              x x x x x|b b b|y y y y              replace, stretch: n - span + piece
              x x x x x|y y y y                    cut: n - span; the first FADE_S of y fade in over what was cut

`Edit` is the same as a record: a name with its settings, callable, for tables, files and figures. A span never reaches
beyond the sound: the end is cut to it, and a span without samples is refused.

Source: Verhelst and Roelands 1993 (WSOLA) for `stretch`, and through it for `pitch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from model.audio import Waveform
from model.errors import AudioError

FADE_S = 0.005
"""Length of every cross-fade, raised cosine; half of the piece where that is shorter."""
Colour = Literal["speech", "white"]


# --- same length --------------------------------------------------------------------------------------------------


def mute(sound: Waveform, start_s: float = 0.0, end_s: float | None = None, *, fade_s: float = FADE_S) -> Waveform:
    """Put digital silence in place of a span; same length."""
    start, stop = _span("mute", sound, start_s, end_s)
    return _replaced(sound, start, stop, np.zeros(stop - start, np.float32), fade_s)


def noise(
    sound: Waveform,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    seed: int = 0,
    snr_db: float | None = None,
    colour: Colour = "speech",
    fade_s: float = FADE_S,
) -> Waveform:
    """Put noise in place of a span, or over it; same length.

    Args:
        sound: What to change.
        start_s: Start of the span, seconds.
        end_s: End of the span, seconds; None is the end of the sound.
        seed: The same seed gives the same noise.
        snr_db: None replaces the span by noise as loud as the span was (RMS). A number keeps the span and adds noise
            that many decibels below it.
        colour: "speech" has the spectrum of the whole sound, "white" an even one.
        fade_s: Length of the cross-fades, seconds.
    """
    start, stop = _span("add noise to", sound, start_s, end_s)
    span = sound.samples[start:stop]
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal(len(sound.samples)) if colour == "white" else _like(sound.samples, rng)
    piece = drawn[: stop - start] * (_rms(span) / max(_rms(drawn[: stop - start]), 1e-12))
    if snr_db is not None:
        piece = span + piece * 10 ** (-snr_db / 20)
    return _replaced(sound, start, stop, piece.astype(np.float32), fade_s)


def pitch(
    sound: Waveform,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    semitones: float = 4.0,
    fade_s: float = FADE_S,
) -> Waveform:
    """Shift a span up or down; same length.

    Pitch and formants move together, as with another size of speaker: the span is read out faster or slower and its
    duration given back by WSOLA.
    """
    start, stop = _span("shift the pitch of", sound, start_s, end_s)
    ratio = _checked("shift the pitch of a sound", "semitones", semitones, -24, 24)
    # Rates in steps of 10 Hz keep the resampling filters short; the error is under one hundredth of a semitone.
    rate = 10 * round(sound.sample_rate_hz * 2 ** (-ratio / 12) / 10)
    moved = Waveform(sound.samples[start:stop], sound.sample_rate_hz).resample(rate).samples
    return _replaced(sound, start, stop, _wsola(moved, stop - start, sound.sample_rate_hz), fade_s)


def exchange(
    sound: Waveform, first: tuple[float, float], second: tuple[float, float], *, fade_s: float = FADE_S
) -> Waveform:
    """Let two spans of a sound change places; same length, and what lies between them moves if theirs differ.

    Args:
        sound: What to change.
        first: Start and end of a span, seconds.
        second: Start and end of another one, which may not overlap it.
        fade_s: Length of the cross-fades, seconds.
    """
    (a, b), (c, d) = sorted(_span("exchange spans of", sound, *span) for span in (first, second))
    if b > c:
        raise _refusal("exchange two spans", f"{first} and {second} s, which overlap", "spans apart from each other")
    x = sound.samples
    pieces = [_Piece(x, 0, a), _Piece(x, c, d, new=True), _Piece(x, b, c), _Piece(x, a, b, new=True)]
    return _joined(sound, [*pieces, _Piece(x, d, len(x))], fade_s)


# --- other lengths ------------------------------------------------------------------------------------------------


def cut(sound: Waveform, start_s: float = 0.0, end_s: float | None = None, *, fade_s: float = FADE_S) -> Waveform:
    """Take a span out; shorter by exactly the span. What follows fades in over the beginning of what was cut.

    Where the cut makes a new beginning or end of the sound, that fades from or to silence.

    Raises:
        AudioError: If nothing would be left.
    """
    start, stop = _span("cut a span out of", sound, start_s, end_s)
    x = sound.samples
    if stop - start == len(x):
        raise _refusal("cut a span out of a sound", "a span that is all of it", "one that leaves something over")
    return _joined(sound, [_Piece(x, 0, start), _Piece(x, stop, len(x))], fade_s)


def replace(
    sound: Waveform,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    other: Waveform,
    other_start_s: float = 0.0,
    other_end_s: float | None = None,
    match_level: bool = True,
    fade_s: float = FADE_S,
) -> Waveform:
    """Put a span of another sound in place of a span; n - span + other span samples.

    Args:
        sound: What to change.
        start_s: Start of the span, seconds.
        end_s: End of the span, seconds; None is the end of the sound.
        other: Where the new piece comes from; it may be `sound` itself, and is resampled to its rate.
        other_start_s: Start of the piece in `other`.
        other_end_s: End of the piece in `other`; None takes as much as the span is long, or all that is there.
        match_level: Make the piece as loud (RMS) as the span was, without exceeding full scale.
        fade_s: Length of the cross-fades, seconds.
    """
    start, stop = _span("replace a span of", sound, start_s, end_s)
    other = other.resample(sound.sample_rate_hz)
    if other_end_s is None:
        other_end_s = other_start_s + (stop - start) / sound.sample_rate_hz
    begin, end = _span("take a piece of", other, other_start_s, other_end_s)
    gain = 1.0
    if match_level:
        peak = max(float(np.abs(other.samples[begin:end]).max()), 1e-9)
        gain = min(_rms(sound.samples[start:stop]) / max(_rms(other.samples[begin:end]), 1e-9), 1 / peak)
    x, y = sound.samples, other.samples * np.float32(gain)
    return _joined(sound, [_Piece(x, 0, start), _Piece(y, begin, end, new=True), _Piece(x, stop, len(x))], fade_s)


def stretch(
    sound: Waveform, start_s: float = 0.0, end_s: float | None = None, *, factor: float = 1.5, fade_s: float = FADE_S
) -> Waveform:
    """Make a span last `factor` times as long at the same pitch; n - span + round(factor x span) samples."""
    start, stop = _span("stretch a span of", sound, start_s, end_s)
    factor = _checked("stretch a sound", "factor", factor, 0.25, 4.0)
    length = max(1, round(factor * (stop - start)))
    return _replaced(sound, start, stop, _wsola(sound.samples[start:stop], length, sound.sample_rate_hz), fade_s)


# --- the record ---------------------------------------------------------------------------------------------------

KINDS: Mapping[str, Callable[..., Waveform]] = MappingProxyType(
    {"mute": mute, "noise": noise, "cut": cut, "replace": replace, "pitch": pitch, "stretch": stretch}
)
"""Edits of one span, by name; `exchange` needs two and stands for itself."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit as a record: what to do and where; call it on a sound to do it.

    >>> Edit("mute", 0.8, 1.2)(sound)
    >>> Edit("noise", seed=3)(sound)                      # the whole clip
    >>> Edit("replace", 0.8, 1.2, settings={"other": another})(sound)
    """

    kind: str
    """One of KINDS."""
    start_s: float = 0.0
    end_s: float | None = None
    """Seconds; None is the end of the sound."""
    seed: int | None = None
    """Seed of edits that draw; None elsewhere."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the function."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _refusal("make an Edit", f"the kind {self.kind!r}", f"one of {', '.join(KINDS)}")
        if self.kind == "noise" and self.seed is None:
            object.__setattr__(self, "seed", 0)
        if self.kind == "replace" and not isinstance(self.settings.get("other"), Waveform):
            raise _refusal("make an Edit that replaces", "no other sound", 'settings={"other": a Waveform}')
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __call__(self, sound: Waveform) -> Waveform:
        """Return the changed sound."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return KINDS[self.kind](sound, self.start_s, self.end_s, **seed, **self.settings)

    @property
    def label(self) -> str:
        """What to call it on an axis: `mute 0.80-1.20 s`."""
        if self.end_s is None and self.start_s == 0:
            return f"{self.kind} all"
        end = "end" if self.end_s is None else f"{self.end_s:.2f} s"
        return f"{self.kind} {self.start_s:.2f}-{end}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form; sounds become the hash of their samples."""
        plain = {name: _fingerprint(v) if isinstance(v, Waveform) else v for name, v in self.settings.items()}
        where = {"start_s": self.start_s, "end_s": self.end_s, "seed": self.seed}
        return {"kind": self.kind, **where, "settings": plain}


def _fingerprint(sound: Waveform) -> str:
    return f"sha256:{hashlib.sha256(sound.samples.tobytes()).hexdigest()} at {sound.sample_rate_hz} Hz"


# --- joining ------------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Samples start..stop of a longer row; what lies around them there is what a joint fades from or into."""

    samples: np.ndarray
    start: int
    stop: int
    new: bool = False
    """Put there by the edit; fades lie in such pieces."""


def _replaced(sound: Waveform, start: int, stop: int, piece: np.ndarray, fade_s: float) -> Waveform:
    """Return the sound with `piece` in place of samples start..stop."""
    x = sound.samples
    around = [_Piece(x, 0, start), _Piece(piece, 0, len(piece), new=True), _Piece(x, stop, len(x))]
    return _joined(sound, around, fade_s)


def _joined(sound: Waveform, pieces: Sequence[_Piece], fade_s: float) -> Waveform:
    """Put pieces one after the other, with a cross-fade at every joint.

        left  l l l l l|L L L          a joint fades inside the new one of the two pieces; if neither is new (a cut),
        right     r r r|R R R R        inside the right one:   l l l l l|(L..R) (L..R) R R

    The two outer ends fade from and to silence where the row they were taken from would have gone on.
    """
    pieces = [piece for piece in pieces if piece.stop > piece.start]
    out = [piece.samples[piece.start : piece.stop].copy() for piece in pieces]
    length = round(fade_s * sound.sample_rate_hz)
    if pieces[0].start > 0:
        _fade_in(out[0], np.zeros(length, np.float32))
    if pieces[-1].stop < len(pieces[-1].samples):
        _fade_in(out[-1][::-1], np.zeros(length, np.float32))
    for k, (left, right) in enumerate(zip(pieces, pieces[1:])):
        if left.new and not right.new:
            _fade_in(out[k][::-1], _around(right, right.start - length, length)[::-1])
        else:
            _fade_in(out[k + 1], _around(left, left.stop, length))
    return Waveform(np.concatenate(out), sound.sample_rate_hz)


def _fade_in(piece: np.ndarray, before: np.ndarray) -> None:
    """Fade, in place, from `before` into the beginning of a piece; at most over half of it."""
    n = min(len(before), len(piece) // 2)
    rise = np.sin(np.linspace(0, np.pi / 2, n + 2)[1:-1]).astype(np.float32) ** 2
    piece[:n] = rise * piece[:n] + (1 - rise) * before[:n]


def _around(piece: _Piece, start: int, n: int) -> np.ndarray:
    """Return n samples from `start` of the row that a piece was taken from; zeros beyond its ends."""
    out = np.zeros(n, np.float32)
    inside = piece.samples[max(start, 0) : max(start + n, 0)]
    out[max(-start, 0) : max(-start, 0) + len(inside)] = inside
    return out


# --- sound --------------------------------------------------------------------------------------------------------


def _wsola(x: np.ndarray, length: int, rate: int) -> np.ndarray:
    """Change the duration of a sound without its pitch, float32 [length].

    Windows of 30 ms are laid down every 15 ms; each is taken near its place in the input, where it goes on best from
    the one before (largest normalised correlation within 7.5 ms).
    """
    window = 2 * round(0.015 * rate)
    hop, search = window // 2, window // 4
    if len(x) < 2 * window or length < window:  # too short for a period to repeat: read it out at another speed
        return np.interp(np.linspace(0, len(x) - 1, length), np.arange(len(x)), x).astype(np.float32)
    padded = np.concatenate([np.zeros(search + hop), x, np.zeros(2 * window + search)])
    shape = np.hanning(window + 1)[:-1]
    out, weight = np.zeros(length + 2 * window), np.zeros(length + 2 * window)
    taken = search
    for place in range(0, length + hop, hop):
        wanted = round(place * len(x) / length) + search
        if place:
            goal = padded[taken + hop : taken + hop + window]
            wanted = min(wanted, len(padded) - window - search)
            wanted += _best_lag(padded[wanted - search : wanted + search + window], goal) - search
        taken = min(wanted, len(padded) - 2 * window)
        out[place : place + window] += shape * padded[taken : taken + window]
        weight[place : place + window] += shape
    return (out[hop : hop + length] / np.maximum(weight[hop : hop + length], 1e-3)).astype(np.float32)


def _best_lag(around: np.ndarray, goal: np.ndarray) -> int:
    """Return where in `around` the normalised correlation with `goal` is largest."""
    products = np.correlate(around, goal)
    energy = np.convolve(around**2, np.ones(len(goal)), mode="valid")
    return int(np.argmax(products / np.sqrt(energy + 1e-9)))


def _like(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return noise with the spectrum of a sound: its own magnitudes, phases drawn anew, float64 [time]."""
    spectrum = np.fft.rfft(samples)
    turned = np.abs(spectrum) * np.exp(2j * np.pi * rng.random(len(spectrum)))
    return np.fft.irfft(turned, n=len(samples))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


# --- refusals -----------------------------------------------------------------------------------------------------


def _span(tried: str, sound: Waveform, start_s: float, end_s: float | None) -> tuple[int, int]:
    """Return the samples of a span, cut to the sound."""
    n, rate = len(sound.samples), sound.sample_rate_hz
    end_s = sound.duration_s if end_s is None else end_s
    if not np.isfinite([start_s, end_s]).all():
        raise _refusal(f"{tried} a sound", f"a span from {start_s} to {end_s} s", "times in seconds")
    start, stop = (min(max(round(t * rate), 0), n) for t in (start_s, end_s))
    if stop <= start:
        found = f"a span from {start_s:g} to {end_s:g} s of {sound.duration_s:.2f} s of sound"
        raise _refusal(f"{tried} a sound", found, "a span with at least one sample in it")
    return start, stop


def _checked(tried: str, name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise _refusal(tried, f"{name} = {value}", f"{low} to {high}")
    return value


def _refusal(tried: str, found: str, expected: str) -> AudioError:
    return AudioError(tried, found=found, expected=expected, todo="Correct the times or the setting.")
