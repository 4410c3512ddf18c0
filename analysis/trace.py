"""The record of one finished turn: everything a view, a figure or a notebook needs, and no model.

    Trace
      meta      who answered, with what options, what was captured
      tokens    one row for each position of prompt + reply      [token]
      events    what happened when, on one clock
      audio     the sounds, by name: input_0, input_1, output
      tensors   measured arrays, by name, axes always in the order [layer, head, query, key]

            prompt                                    reply
    token   0 1 2 3 ...  <audio_patch> x n ... |  n_prompt  n_prompt+1 ...  n-1
                             frame 0 .. n-1    |  query 0   query 1    ...

"frame" is one 12.5 Hz audio position, "query" one reply token. A trace is checked when it is made, so whoever holds
one can trust its shapes. Where it lives on disk is the business of `trace_file.py`; how it is measured, `capture.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from model.audio import Waveform
from model.errors import TraceError
from model.tokens import Kind

SCHEMA_VERSION = 1
TOKEN_KINDS = tuple(kind.value for kind in Kind) + ("thought", "tool")
TENSOR_AXES = {
    "attention.audio": ("layer", "head", "query", "frame"),
    "attention.segments": ("layer", "head", "query", "segment"),
    "resid_post.audio": ("layer", "frame", "width"),
    "resid_post.reply": ("layer", "query", "width"),
}
"""Every tensor a trace may hold, with its axes. Attention is in shares of one row, 0..1; the segments sum to 1. The
residual stream after each layer is there on request; its reply rows are those whose attention is kept."""
SHARE_TOLERANCE = 5e-3
"""How far a row kept in float16 may be from summing to 1."""


@dataclass(frozen=True)
class CaptureSpec:
    """What to measure, and how much memory it may take."""

    layers: tuple[int, ...] | None = None
    """Decoder layers to keep, counted from 0; None keeps all."""
    heads: Literal["all", "mean"] = "all"
    """Keep every head, or their mean as a single one."""
    offset: Literal["predicts", "reads"] = "predicts"
    """Which row is the attention "of" a reply token.

    `predicts`: the row of the position before it, whose output chose this token; that is what decoding looked at when
    the token came out, and answers "which sound did this word come from?". `reads`: the row of the token's own
    position, where the model looks after it has read the token, on the way to the next one.
    """
    residuals: Literal["float16", "float32"] | None = None
    """Also keep the residual stream after each layer, at the audio positions and the reply rows, this precisely."""
    alternatives: int = 5
    """How many of the likeliest tokens to keep for each reply token, 0 to 50; a few bytes each, not counted below."""
    max_megabytes: float = 512.0
    """Refuse to capture more than this, in megabytes (10^6 bytes) of kept arrays."""

    def __post_init__(self) -> None:
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))
        good = (
            (
                self.layers is None
                or (self.layers and list(self.layers) == sorted(set(self.layers)) and self.layers[0] >= 0)
            )
            and self.heads in ("all", "mean")
            and self.offset in ("predicts", "reads")
            and self.residuals in (None, "float16", "float32")
            and 0 <= self.alternatives <= 50
            and self.max_megabytes > 0
        )
        if not good:
            raise TraceError(
                "make a CaptureSpec",
                found=repr(self),
                expected="layers rising from 0, heads all or mean, offset predicts or reads, residuals None, float16 "
                "or float32, 0 to 50 alternatives, a positive limit",
                todo="Correct the fields.",
            )


@dataclass(frozen=True, eq=False)
class TokenTable:
    """One row for each position of prompt and reply; columns of equal length n."""

    ids: np.ndarray
    """Vocabulary ids, int64 [n]."""
    text: tuple[str, ...]
    """What each token adds to the text; a character made of several tokens stands at the last of them."""
    kind: tuple[str, ...]
    """One of TOKEN_KINDS for each token."""
    turn: np.ndarray
    """Which message of the conversation the token belongs to, int32 [n]."""
    start_s: np.ndarray
    """Start in the sound the token stands for (its own clip or the spoken output), float64 [n]; NaN without one."""
    end_s: np.ndarray
    """End, likewise."""
    logprob: np.ndarray
    """Natural log of the probability the model gave this token, float32 [n]; NaN where not measured."""
    entropy: np.ndarray
    """Entropy of the distribution the token was drawn from, in nat, float32 [n]; NaN where not measured."""
    segment: np.ndarray
    """Index into `TraceMeta.segments`, int32 [n]."""
    clip: np.ndarray
    """Which input clip an audio_in token belongs to, int32 [n]; -1 for all others."""

    def __post_init__(self) -> None:
        columns = {
            "ids": np.int64, "turn": np.int32, "segment": np.int32, "clip": np.int32,
            "start_s": np.float64, "end_s": np.float64, "logprob": np.float32, "entropy": np.float32,
        }  # fmt: skip
        for name, dtype in columns.items():
            object.__setattr__(self, name, _frozen(np.asarray(getattr(self, name), dtype=dtype)))
        object.__setattr__(self, "text", tuple(self.text))
        object.__setattr__(self, "kind", tuple(self.kind))
        shapes = {name: getattr(self, name).shape for name in columns}
        shapes |= {"text": (len(self.text),), "kind": (len(self.kind),)}
        _require(
            len(set(shapes.values())) == 1 and self.ids.ndim == 1,
            f"columns of shapes {shapes}",
            "columns of one length",
        )
        unknown = sorted(set(self.kind) - set(TOKEN_KINDS))
        _require(not unknown, f"token kinds {unknown}", f"kinds among {list(TOKEN_KINDS)}")
        backwards = np.flatnonzero(self.end_s < self.start_s)
        _require(backwards.size == 0, f"token {backwards[:1]} ending before it starts", "end_s not before start_s")
        surprise = np.nan_to_num(self.logprob, nan=0.0)
        _require(
            bool((surprise <= 1e-4).all()), f"a log-probability of {surprise.max():.3g}", "log-probabilities up to 0"
        )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Alternatives:
    """What the model would have said instead: its likeliest tokens at each reply token, best first."""

    ids: np.ndarray
    """Vocabulary ids, int64 [query, rank]."""
    text: tuple[tuple[str, ...], ...]
    """What each would have added to the text, [query][rank]."""
    logprob: np.ndarray
    """Natural log of its probability, float32 [query, rank], falling along a row."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _frozen(np.asarray(self.ids, dtype=np.int64)))
        object.__setattr__(self, "logprob", _frozen(np.asarray(self.logprob, dtype=np.float32)))
        object.__setattr__(self, "text", tuple(map(tuple, self.text)))
        widths = {len(row) for row in self.text} or set(self.ids.shape[1:])  # an empty reply has no row to tell
        shapes = self.ids.shape, self.logprob.shape, (len(self.text), *widths)
        _require(len(set(shapes)) == 1 and self.ids.ndim == 2, f"alternatives of shapes {shapes}", "[query, rank] each")
        falling = bool((np.diff(self.logprob, axis=1) <= 0).all()) and bool((self.logprob <= 1e-4).all())
        _require(falling, "alternatives out of order", "log-probabilities up to 0, best first")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Frames:
    """The 12.5 Hz audio positions of a trace, in the order of the frame axis."""

    token: np.ndarray
    """Their places in the token table, int64 [frame]."""
    clip: np.ndarray
    """Which clip each belongs to, int32 [frame]."""
    start_s: np.ndarray
    """Start inside its clip, float64 [frame]."""
    end_s: np.ndarray
    """End inside its clip, float64 [frame]."""

    @property
    def centre_s(self) -> np.ndarray:
        """Middle of each frame inside its clip, float64 [frame]."""
        return (self.start_s + self.end_s) / 2

    def __len__(self) -> int:
        return len(self.token)


@dataclass(frozen=True)
class TraceMeta:
    """Where a trace comes from and how it was made."""

    model: str
    """Name of the model that answered."""
    n_prompt: int
    """Tokens before the reply; the reply is the rest of the token table."""
    layers: tuple[int, ...]
    """Decoder layers along the layer axis."""
    n_heads: int
    """Length of the head axis; 1 when heads were averaged."""
    segments: tuple[str, ...]
    """Names along the segment axis; every token belongs to one."""
    width: int = 0
    """Width of the residual stream, where it was kept; else 0."""
    clips: tuple[str, ...] = ()
    """Names of the input clips as people gave them; clip k is `audio["input_k"]`."""
    capture: CaptureSpec = field(default_factory=CaptureSpec)
    alignment_heads: tuple[tuple[int, int], ...] = ()
    """(layer, head) of the heads that follow the sound best, as the checkpoint names them, best first; may be empty."""
    revision: str = ""
    dtype: str = ""
    backend: str = "local"
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Generation options as plain values."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library versions."""
    audio_sha256: Mapping[str, str] = field(default_factory=dict)
    """Hash of each sound's float32 samples, by name."""
    created_utc: str = ""
    """ISO 8601."""
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name in ("layers", "segments", "clips"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        heads = tuple((int(layer), int(head)) for layer, head in self.alignment_heads)
        object.__setattr__(self, "alignment_heads", heads)
        distinct = len(set(self.segments)) == len(self.segments) >= 1
        good = self.n_prompt >= 1 and self.n_heads >= 1 and self.width >= 0 and distinct
        _require(
            good,
            f"n_prompt {self.n_prompt}, n_heads {self.n_heads}, width {self.width}, segments {self.segments}",
            "at least one prompt token and one head, a width of 0 or more, and distinct segment names",
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """One finished turn with what was measured about it; see the picture above."""

    meta: TraceMeta
    tokens: TokenTable
    events: tuple = ()
    """Events of the turn (`model.events`); a `SoundMark` for each piece of sound, the sound itself is in `audio`."""
    audio: Mapping[str, Waveform] = field(default_factory=dict)
    """Sounds by name, kept on a 24-bit grid so that a trace file holds them exactly."""
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays by name; names and axes in TENSOR_AXES."""
    alternatives: Alternatives | None = None
    """The likeliest tokens at each reply token; None where none were kept."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", tuple(self.events))
        object.__setattr__(self, "audio", MappingProxyType({k: on_grid(v) for k, v in self.audio.items()}))
        object.__setattr__(self, "tensors", MappingProxyType({k: _frozen(v) for k, v in self.tensors.items()}))
        self._check_tokens()
        n = self.n_reply if self.alternatives is None else len(self.alternatives)
        _require(n == self.n_reply, f"alternatives for {n} tokens", f"one row for each of {self.n_reply} reply tokens")
        for name, tensor in self.tensors.items():
            self._check_tensor(name, tensor)

    @property
    def n_reply(self) -> int:
        """Number of reply tokens, which is the length of the query axis."""
        return len(self.tokens) - self.meta.n_prompt

    @property
    def reply(self) -> range:
        """Places of the reply tokens in the token table."""
        return range(self.meta.n_prompt, len(self.tokens))

    @property
    def reply_ids(self) -> tuple[int, ...]:
        """Ids of the reply, as `Turn.ids` has them and as every analysis of an answer takes them."""
        return tuple(int(i) for i in self.tokens.ids[self.meta.n_prompt :])

    @property
    def reply_text(self) -> str:
        """The reply as text, control tokens and codes left out."""
        return "".join(self.tokens.text[i] for i in self.reply if self.tokens.kind[i] in ("text", "thought", "tool"))

    @property
    def frames(self) -> Frames:
        """The audio positions, read off the token table."""
        token = np.flatnonzero(self.tokens.clip >= 0)
        return Frames(token, self.tokens.clip[token], self.tokens.start_s[token], self.tokens.end_s[token])

    def axis_lengths(self) -> dict[str, int]:
        """Return the length every named axis must have in this trace."""
        return {
            "layer": len(self.meta.layers),
            "head": self.meta.n_heads,
            "query": self.n_reply,
            "frame": len(self.frames),
            "segment": len(self.meta.segments),
            "width": self.meta.width,
        }

    def _check_tokens(self) -> None:
        n, segment, clip = len(self.tokens), self.tokens.segment, self.tokens.clip
        _require(
            self.meta.n_prompt <= n, f"n_prompt {self.meta.n_prompt} with {n} tokens", "a prompt inside the token table"
        )
        good = n and 0 <= segment.min() and segment.max() < len(self.meta.segments)
        _require(bool(good), "a token of an unknown segment", f"segments 0..{len(self.meta.segments) - 1}")
        missing = {f"input_{k}" for k in np.unique(clip[clip >= 0])} - set(self.audio)
        _require(not missing, f"no sound named {sorted(missing)}", "the sound of every clip the tokens point to")
        timed = np.isfinite(self.tokens.start_s) & np.isfinite(self.tokens.end_s)
        _require(bool(timed[clip >= 0].all()), "an audio position without a time", "start_s and end_s for each of them")

    def _check_tensor(self, name: str, tensor: np.ndarray) -> None:
        _require(name in TENSOR_AXES, f"a tensor named {name!r}", f"names among {list(TENSOR_AXES)}")
        lengths = self.axis_lengths()
        wanted = tuple(lengths[axis] for axis in TENSOR_AXES[name])
        good = tensor.shape == wanted and tensor.dtype in (np.float16, np.float32)
        _require(good, f"{name} {tensor.dtype} {tensor.shape}", f"float16 or float32 {TENSOR_AXES[name]} = {wanted}")
        if not tensor.size:
            return
        if name.startswith("resid"):
            _require(bool(np.isfinite(tensor).all()), f"{name} with NaN or infinity", "finite numbers")
            return
        low, high = float(tensor.min()), float(tensor.max())
        _require(low >= 0 and high <= 1 + SHARE_TOLERANCE, f"{name} from {low:.4g} to {high:.4g}", "shares from 0 to 1")
        if name == "attention.segments":
            off = float(np.abs(tensor.sum(axis=-1, dtype=np.float64) - 1).max())
            _require(off <= SHARE_TOLERANCE, f"{name} rows {off:.3g} away from summing to 1", "rows that sum to 1")


def on_grid(waveform: Waveform) -> Waveform:
    """Round a sound to 24 bits, the precision of FLAC; 16-bit recordings stay as they are, sample for sample."""
    codes, exponent = to_int24(waveform.samples)
    return Waveform(from_int24(codes, exponent), waveform.sample_rate_hz)


def to_int24(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Write float samples as 24-bit whole numbers times 2^(exponent - 23); the exponent is 0 unless they exceed 1."""
    peak, exponent = float(np.abs(samples).max(initial=0.0)), 0
    while peak > 1 - 2.0**-23:
        peak, exponent = peak / 2, exponent + 1
    return np.rint(samples.astype(np.float64) * 2.0 ** (23 - exponent)).astype(np.int32), exponent


def from_int24(codes: np.ndarray, exponent: int) -> np.ndarray:
    """Undo `to_int24`, float32 [time]."""
    return (codes.astype(np.float64) * 2.0 ** (exponent - 23)).astype(np.float32)


def _frozen(array: np.ndarray) -> np.ndarray:
    """Return a view nobody can write through."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _require(good: bool, found: str, expected: str) -> None:
    if not good:
        raise TraceError(
            "make a Trace",
            found=found,
            expected=expected,
            todo="Capture it again; if it came from a file, the file is damaged or was changed by hand.",
        )
