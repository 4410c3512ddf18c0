"""Decode any sound file to one channel of samples; `model.audio.load_waveform` is the door to it.

    1. open      a path, bytes or a binary file; missing and empty ones are refused here
    2. sniff     libsndfile first (WAV, FLAC, MP3, OGG, ...), else ffmpeg into a temporary WAV
    3. check     rate, length and completeness by the header, before anything is decoded
    4. decode    block by block into one channel, so that six channels never lie in memory at once

Knows nothing of the model's rates. Uploads come from strangers: lengths are bounded, ffmpeg works under a time limit,
may open no other file or address, and is never given playlists.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from model.errors import AudioError

if TYPE_CHECKING:
    import soundfile

Source = str | os.PathLike | bytes | BinaryIO
"""What a sound can be read from: a path, the bytes of a file, or an open binary file."""

_RATES_HZ = range(1_000, 768_001)
_BLOCK_FRAMES = 1 << 18
_SHORTFALL_S = 0.1
"""A file that ends this much before its header says is refused as cut short."""
_CONTAINER_SLACK_S = 0.4
"""m4a and webm headers may count padding that decoders remove."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's count for streams whose header does not tell."""
_FFMPEG_LIMIT_S = 180
_FFMPEG_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,mp3,ogg,flac,wav,w64,aiff,caf,asf,amr,amrnb,amrwb,ac3,eac3,avi,flv,"
    "mpeg,mpegts,au,ape,wv,tta"
)
"""Containers handed to ffmpeg; playlists, which may name other files, are not among them."""


def decode_mono(source: Source, *, max_seconds: float, channel: str) -> tuple[np.ndarray, int, str]:
    """Decode a sound to one channel.

    Args:
        source: Path, bytes of a file, or binary file object.
        max_seconds: Longer files are refused, from the header where it tells, else as soon as decoding passes it.
        channel: "mean" of all channels, or the "first".

    Returns:
        float32 [time] at the file's own rate, that rate in Hz, and the name to use in messages.

    Raises:
        AudioError: Missing, empty, too long, damaged, cut short, or of no known format; a sentence each.
    """
    file, name = _open_source(source)
    try:
        with file, tempfile.TemporaryDirectory(prefix="sound-") as folder:
            with _open_sound(file, name, max_seconds, Path(folder)) as sound:
                _check_header(sound, file, name, max_seconds)
                return _decode_blocks(sound, name, max_seconds, channel), sound.samplerate, name
    except OSError as error:
        todo = "Free some disk space, or check that the file may be read."
        raise unreadable(name, f"this problem: {error.strerror}", "a readable file and room beside it", todo) from error


def unreadable(name: str, found: str, expected: str, todo: str) -> AudioError:
    """Make the error of a sound that cannot be read."""
    return AudioError(f"read {name}", found=found, expected=expected, todo=todo)


def _open_source(source: Source) -> tuple[BinaryIO, str]:
    """Open what was given as a seekable binary file, with the name that messages use."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        file, name = io.BytesIO(source), "the sound"
    elif hasattr(source, "read"):
        label = getattr(source, "name", None)
        file, name = io.BytesIO(source.read()), repr(Path(label).name) if isinstance(label, str) else "the sound"
    else:
        file, name = _open_path(source)
    if file.seek(0, os.SEEK_END) == 0:
        file.close()
        raise unreadable(name, "an empty file (0 bytes)", "a recording", "Record or copy it again.")
    file.seek(0)
    return file, name


def _open_path(source: str | os.PathLike) -> tuple[BinaryIO, str]:
    try:
        path = Path(source)
    except TypeError as error:
        found = f"an object of type {type(source).__name__}"
        raise unreadable(
            "a sound", found, "a path, bytes or a binary file", "Wrap arrays in `Waveform`; they need no reading."
        ) from error
    name = repr(path.name)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise unreadable(name, found, "a sound file", f"Check the path: {path}.")
    try:
        return path.open("rb"), name
    except OSError as error:
        todo = "Check that the file may be read."
        raise unreadable(name, f"this problem: {error.strerror}", "a readable file", todo) from error


def _open_sound(file: BinaryIO, name: str, max_seconds: float, folder: Path) -> soundfile.SoundFile:
    """Open with libsndfile, else convert with ffmpeg into `folder` and open that."""
    import soundfile

    try:
        return soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw
        file.seek(0)
        kind = _kind(file.read(512))
    if kind == "text":
        raise unreadable(name, "text, not sound", "a sound file", "Choose the recording itself.")
    path, promised_s = _convert(file, name, kind, max_seconds, folder)
    sound = soundfile.SoundFile(path)
    _check_complete(sound.frames, (promised_s - _CONTAINER_SLACK_S) * sound.samplerate, sound.samplerate, name)
    return sound


def _kind(head: bytes) -> str:
    """Name a kind of file by its first bytes, for messages."""
    if head[4:8] == b"ftyp":
        return "MPEG-4 sound (m4a)"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "WebM or Matroska sound"
    printable = sum(byte in b"\t\n\r\f\x1b" or 32 <= byte < 127 or byte >= 128 for byte in head)
    known = head[:4] in (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM") or head[:3] == b"ID3"
    return "text" if printable == len(head) and not known else "bytes of no known sound format"


def _check_header(sound: soundfile.SoundFile, file: BinaryIO, name: str, max_seconds: float) -> None:
    """Refuse odd rates, too long and cut-off files before anything is decoded."""
    rate = sound.samplerate
    if rate not in _RATES_HZ:
        expected = f"{_RATES_HZ[0]} to {_RATES_HZ[-1]} Hz"
        raise unreadable(name, f"a sample rate of {rate} Hz", expected, "Check how the file was made.")
    if _UNKNOWN_FRAMES > sound.frames > max_seconds * rate:
        raise _too_long(name, f"{sound.frames / rate:.0f} s of sound", max_seconds)
    promised, present = _wav_data_bytes(file)
    if promised > present > 0:
        _check_complete(sound.frames, sound.frames * promised / present, rate, name)


def _too_long(name: str, found: str, max_seconds: float) -> AudioError:
    return unreadable(name, found, f"at most {max_seconds:g} s", "Cut the recording into shorter files.")


def _check_complete(frames: int, promised_frames: float, rate: int, name: str) -> None:
    if promised_frames < _UNKNOWN_FRAMES and frames < promised_frames - _SHORTFALL_S * rate:
        found = f"only {frames / rate:.2f} s of the {promised_frames / rate:.2f} s that its header promises"
        raise unreadable(name, found, "a complete file", "It was cut short: copy, download or export it again.")


def _wav_data_bytes(file: BinaryIO) -> tuple[int, int]:
    """Return how many bytes of samples a WAV header promises and how many are there; (0, 0) if it does not say."""
    position, size = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if file.read(12)[::8] != b"RW":
            return 0, 0
        while len(header := file.read(8)) == 8:
            tag, length = struct.unpack("<4sI", header)
            if tag == b"data":
                streamed = length >= 0x7FFF_0000  # written to a pipe: the length was not known
                return (0, 0) if streamed else (length, size - file.tell())
            file.seek(length + length % 2, os.SEEK_CUR)
        return 0, 0
    finally:
        file.seek(position)


def _decode_blocks(sound: soundfile.SoundFile, name: str, max_seconds: float, channel: str) -> np.ndarray:
    """Decode and down-mix block by block; count as we go, because headers can lie."""
    import soundfile

    blocks, frames, rate = [np.zeros(0, np.float32)], 0, sound.samplerate
    try:
        while len(block := sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            blocks.append(block[:, 0] if channel == "first" else block.mean(axis=1, dtype=np.float32))
            frames += len(block)
            if frames > max_seconds * rate:
                raise _too_long(name, f"more than {frames / rate:.0f} s of sound", max_seconds)
    except soundfile.LibsndfileError as error:
        found = f"a damaged or cut-off file ({str(error).removeprefix('Error : ').rstrip('.')})"
        raise unreadable(name, found, "a complete one", "Copy, download or export it again.") from error
    _check_complete(frames, sound.frames, rate, name)
    return np.concatenate(blocks)


def _convert(file: BinaryIO, name: str, kind: str, max_seconds: float, folder: Path) -> tuple[str, float]:
    """Decode with ffmpeg into a WAV, at most a second above the limit; return its path and the length it is due."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        todo = "Install ffmpeg (`apt-get install ffmpeg`), or save the recording as WAV, FLAC or MP3."
        raise unreadable(name, f"{kind}, which needs ffmpeg, and no ffmpeg", "a file that libsndfile reads", todo)
    copy, result = folder / "input", folder / "output.wav"
    with copy.open("wb") as target:
        file.seek(0)
        shutil.copyfileobj(file, target)
    limits = ["-protocol_whitelist", "file", "-format_whitelist", _FFMPEG_FORMATS]
    promised_s = _header_seconds(copy, limits)
    if promised_s > max_seconds:
        raise _too_long(name, f"{promised_s:.0f} s of sound", max_seconds)
    command = [ffmpeg, "-nostdin", "-v", "error", *limits, "-t", str(max_seconds + 1), "-i", f"file:{copy}"]
    command += ["-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", str(result)]
    _, problem = _run(command)
    if problem is not None:
        found = f"{kind} that ffmpeg cannot decode ({problem.replace(f'file:{copy}', name)})"
        raise unreadable(name, found, "a complete sound file", "Choose another file, or export this one again as WAV.")
    return str(result), promised_s


def _header_seconds(path: Path, limits: list[str]) -> float:
    """Return the length that ffprobe reads from the header, or 0.0 where it is not told (recordings of browsers)."""
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        return 0.0
    command = [ffprobe, "-v", "error", *limits, "-show_entries", "format=duration", "-of", "csv=p=0", f"file:{path}"]
    try:
        return float(_run(command)[0])
    except ValueError:
        return 0.0


def _run(command: list[str]) -> tuple[str, str | None]:
    """Run ffmpeg or ffprobe under a time limit; return its output and the last line of what went wrong, or None."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FFMPEG_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return "", f"still working after {_FFMPEG_LIMIT_S} s"
    problem = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    return done.stdout, problem if done.returncode else None
