"""A Trace on disk: one zip of JSON, safetensors and FLAC; bit for bit what was in memory, and no pickle.

    trace.zip
      trace.json            meta, token table, events, and for each sound its rate and exponent
      tensors.safetensors   the measured arrays
      audio/NAME.flac       24-bit sound

A trace file may come from a stranger, so it is read as if it were hostile: nothing is ever unpacked to disk, only the
names above are accepted, every size is checked before memory is taken for it and again while reading, and whatever
comes out must pass the checks of `Trace` itself.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from analysis.trace import (
    SCHEMA_VERSION,
    TENSOR_AXES,
    Alternatives,
    CaptureSpec,
    TokenTable,
    Trace,
    TraceMeta,
    from_int24,
    to_int24,
)
from model import events as event_records
from model.audio import Waveform
from model.errors import StepAudioError, TraceError

JSON_MEMBER, TENSOR_MEMBER = "trace.json", "tensors.safetensors"
AUDIO_MEMBER = re.compile(r"audio/([A-Za-z0-9_]{1,64})\.flac")
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""One date for all members, so that equal traces give equal files."""


@dataclass(frozen=True)
class TraceLimits:
    """What a trace file may cost the reader."""

    file_bytes: int = 512 * 2**20
    """Size of the zip."""
    json_bytes: int = 32 * 2**20
    """Size of trace.json, unpacked."""
    tensor_bytes: int = 1024 * 2**20
    """Size of the arrays, unpacked."""
    sounds: int = 64
    """Number of sounds."""
    audio_s: float = 2 * 3600.0
    """Seconds of all sounds together, decoded."""
    sample_rate_hz: int = 192_000
    """Highest rate of a sound."""


def save_trace(path: str | Path | BinaryIO, trace: Trace) -> None:
    """Write a trace; a file at `path` is replaced only when the new one is complete.

    Args:
        path: Where to, or a binary file that can be written.
        trace: What to write.
    """
    if not isinstance(path, (str, Path)):
        _write_zip(path, trace)
        return
    folder, name = os.path.split(os.path.abspath(path))
    handle, partial = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            _write_zip(file, trace)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def load_trace(path: str | Path | bytes | BinaryIO, *, limits: TraceLimits | None = None) -> Trace:
    """Read a trace, trusting nothing in the file.

    Args:
        path: A file, its bytes, or a binary file open for reading.
        limits: What it may cost; the defaults suit a laptop.

    Raises:
        TraceError: If it is no trace, of an unknown version, damaged, or larger than allowed.
        FileNotFoundError: If there is no such file.
    """
    limits = limits or TraceLimits()
    source = io.BytesIO(path) if isinstance(path, bytes) else path
    n_bytes = _size(source)
    if n_bytes > limits.file_bytes:
        raise _refusal(f"{n_bytes:,} bytes", f"at most {limits.file_bytes:,} bytes")
    try:
        with zipfile.ZipFile(source) as archive:
            return _read_zip(archive, limits)
    except StepAudioError:
        raise
    except _DAMAGE as error:
        raise _refusal(
            f"a damaged file ({type(error).__name__}: {_short(error)})", "a file written by `save_trace`"
        ) from error


_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, ValueError, TypeError, LookupError,
           AttributeError, ArithmeticError, EOFError, RuntimeError, OSError)  # fmt: skip
"""What the zip, JSON, safetensors and FLAC readers raise on rubbish."""


# --- writing ------------------------------------------------------------------------------------------------------


def _write_zip(file: BinaryIO, trace: Trace) -> None:
    import safetensors.numpy

    sounds = {name: to_int24(sound.samples) for name, sound in trace.audio.items()}
    audio = {
        name: {"sample_rate_hz": trace.audio[name].sample_rate_hz, "exponent": exponent, "n_samples": len(codes)}
        for name, (codes, exponent) in sounds.items()
    }
    document = {
        "schema": SCHEMA_VERSION,
        "meta": asdict(trace.meta),
        "tokens": {column.name: _to_json(getattr(trace.tokens, column.name)) for column in fields(TokenTable)},
        "events": [event_records.to_dict(event) for event in trace.events],
        "alternatives": _alternatives_to_json(trace.alternatives),
        "audio": audio,
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    arrays = {name: np.ascontiguousarray(array) for name, array in trace.tensors.items()}
    with zipfile.ZipFile(file, "w") as archive:
        _add(archive, JSON_MEMBER, text.encode("utf-8"))
        _add(archive, TENSOR_MEMBER, safetensors.numpy.save(arrays))
        for name, (codes, _) in sounds.items():
            flac = _encode_flac(codes, trace.audio[name].sample_rate_hz)
            _add(archive, f"audio/{name}.flac", flac, compress=zipfile.ZIP_STORED)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, *, compress: int = zipfile.ZIP_DEFLATED) -> None:
    if name not in (JSON_MEMBER, TENSOR_MEMBER) and not AUDIO_MEMBER.fullmatch(name):
        raise _refusal(
            f"a sound that would be stored as {name!r}", "names of letters, digits and _", tried="save a trace"
        )
    info = zipfile.ZipInfo(name, date_time=ZIP_EPOCH)
    info.compress_type = compress
    archive.writestr(info, data)


def _to_json(column: np.ndarray | tuple) -> list:
    """Return a column as JSON values; NaN becomes null."""
    if isinstance(column, tuple):
        return list(column)
    if np.issubdtype(column.dtype, np.floating):
        return [float(value) if math.isfinite(value) else None for value in column]
    return column.tolist()


def _alternatives_to_json(found: Alternatives | None) -> dict | None:
    if found is None:
        return None
    return {"ids": found.ids.tolist(), "text": found.text, "logprob": found.logprob.astype(float).tolist()}


def _encode_flac(codes: np.ndarray, sample_rate_hz: int) -> bytes:
    import soundfile

    if not len(codes):
        return b""  # FLAC cannot hold nothing
    # int32 in, because libsndfile scales floats by 2^23 - 1 and would not give the same samples back.
    buffer = io.BytesIO()
    soundfile.write(buffer, codes << 8, sample_rate_hz, format="FLAC", subtype="PCM_24")
    return buffer.getvalue()


# --- reading ------------------------------------------------------------------------------------------------------


def _read_zip(archive: zipfile.ZipFile, limits: TraceLimits) -> Trace:
    members = _members(archive, limits)
    document = json.loads(_read(archive, members[JSON_MEMBER], limits.json_bytes), parse_constant=_no_constant)
    _check_schema(document)
    trace = Trace(
        meta=_meta(document["meta"]),
        tokens=_tokens(document["tokens"]),
        events=tuple(event_records.from_dict(event) for event in document["events"]),
        audio=_read_sounds(archive, members, document["audio"], limits),
        alternatives=_alternatives(document.get("alternatives")),
    )
    if TENSOR_MEMBER not in members:
        return trace
    # The tables say how large the arrays can be, so a bomb is refused before it is unpacked.
    bound = min(limits.tensor_bytes, _largest_tensors(trace))
    return replace(trace, tensors=_read_tensors(_read(archive, members[TENSOR_MEMBER], bound)))


def _members(archive: zipfile.ZipFile, limits: TraceLimits) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name; a file with anything else in it is refused as a whole."""
    infos = archive.infolist()
    if len(infos) > limits.sounds + 2:
        raise _refusal(f"{len(infos)} members", f"at most {limits.sounds + 2}")
    members = {info.filename: info for info in infos}
    if len(members) != len(infos):
        raise _refusal("two members of the same name", "each member once")
    for info in infos:
        if info.filename not in (JSON_MEMBER, TENSOR_MEMBER) and not AUDIO_MEMBER.fullmatch(info.filename):
            raise _refusal(
                f"a member named {info.filename[:80]!r}", f"{JSON_MEMBER}, {TENSOR_MEMBER} and audio/NAME.flac"
            )
        if info.flag_bits & 1:
            raise _refusal(f"an encrypted member {info.filename!r}", "a file without a password")
    if JSON_MEMBER not in members:
        raise _refusal("a zip without trace.json", "a file written by `save_trace`")
    return members


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Unpack one member; the declared size is only a hint, so reading itself stops at the limit."""
    if info.file_size > limit:
        raise _refusal(f"{info.filename} of {info.file_size:,} bytes", f"at most {limit:,} bytes")
    with archive.open(info) as member:
        data = member.read(limit + 1)
    if len(data) > limit:
        raise _refusal(f"{info.filename} of more than {limit:,} bytes", f"at most {limit:,} bytes")
    return data


def _check_schema(document: Any) -> None:
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA_VERSION:
        raise TraceError(
            "open the trace",
            found=f"schema {schema!r}",
            expected=f"schema {SCHEMA_VERSION}, the one this version writes and reads",
            todo="Capture the turn again here, or open the file with the version of this project that wrote it.",
        )


def _largest_tensors(trace: Trace) -> int:
    """Return how many bytes the arrays of this trace can take: all of them, in float32, and a header."""
    lengths = trace.axis_lengths()
    return 2**16 + sum(4 * math.prod(lengths[axis] for axis in axes) for axes in TENSOR_AXES.values())


def _read_tensors(data: bytes) -> dict[str, np.ndarray]:
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise _refusal(f"damaged arrays ({_short(error)})", "arrays written by `save_trace`") from error


def _meta(values: dict) -> TraceMeta:
    capture = CaptureSpec(**{**values["capture"], "layers": _optional_tuple(values["capture"]["layers"])})
    return TraceMeta(**{**values, "capture": capture})


def _optional_tuple(values: list | None) -> tuple | None:
    return None if values is None else tuple(values)


def _tokens(columns: dict) -> TokenTable:
    """Build the token table; null becomes NaN again."""
    floats = ("start_s", "end_s", "logprob", "entropy")
    clean = dict(columns)
    for name in floats:
        clean[name] = np.array([math.nan if value is None else value for value in columns[name]], dtype=np.float64)
    if not all(isinstance(text, str) for text in (*columns["text"], *columns["kind"])):
        raise _refusal("a token text or kind that is no text", "text")
    return TokenTable(**clean)


def _alternatives(columns: dict | None) -> Alternatives | None:
    """Build the alternatives; files from before there were any have none."""
    if columns is None:
        return None
    if not all(isinstance(text, str) for row in columns["text"] for text in row):
        raise _refusal("an alternative that is no text", "text")
    return Alternatives(columns["ids"], columns["text"], columns["logprob"])


def _read_sounds(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], listed: dict, limits: TraceLimits
) -> dict[str, Waveform]:
    found = {match[1]: members[match[0]] for match in map(AUDIO_MEMBER.fullmatch, members) if match}
    if set(found) != set(listed):
        raise _refusal(f"sounds {sorted(found)} where {sorted(listed)} were listed", "the sounds that trace.json lists")
    seconds = sum(entry["n_samples"] / entry["sample_rate_hz"] for entry in listed.values())
    if not 0 <= seconds <= limits.audio_s:
        raise _refusal(f"{seconds:,.0f} s of sound", f"at most {limits.audio_s:,.0f} s")
    return {name: _read_sound(_read(archive, found[name], limits.file_bytes), listed[name], limits) for name in listed}


def _read_sound(flac: bytes, entry: dict, limits: TraceLimits) -> Waveform:
    """Decode one sound, at most as long as trace.json says, whatever the FLAC header claims."""
    import soundfile

    rate, n_samples, exponent = (int(entry[key]) for key in ("sample_rate_hz", "n_samples", "exponent"))
    if not (0 < rate <= limits.sample_rate_hz and n_samples >= 0 and 0 <= exponent <= 127):
        raise _refusal(f"a sound listed as {entry}", "a positive rate and length")
    if n_samples == 0 and not flac:
        return Waveform(np.zeros(0, np.float32), rate)
    with soundfile.SoundFile(io.BytesIO(flac)) as sound:
        header = (sound.format, sound.channels, sound.samplerate, sound.frames)
        if header != ("FLAC", 1, rate, n_samples):
            raise _refusal(f"a sound with the header {header}", f"{('FLAC', 1, rate, n_samples)} as trace.json says")
        codes = sound.read(n_samples, dtype="int32")
    if len(codes) != n_samples:
        raise _refusal(f"{len(codes)} samples of sound", f"{n_samples} as trace.json says")
    return Waveform(from_int24(codes >> 8, exponent), rate)


def _size(source: str | Path | BinaryIO) -> int:
    if isinstance(source, (str, Path)):
        return os.path.getsize(source)
    source.seek(0, os.SEEK_END)
    size = source.tell()
    source.seek(0)
    return size


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:120] if str(error) else "no detail"


def _refusal(found: str, expected: str, *, tried: str = "open the trace") -> TraceError:
    return TraceError(tried, found=found, expected=expected, todo="Use a trace file written by this project.")
