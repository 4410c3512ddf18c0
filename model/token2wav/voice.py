"""A voice: what the flow continues when it speaks, made once from a recording of a few seconds.

    recording --check--+-- 16 kHz --> speech tokenizer --> codes    [p]      25 Hz, what was said
                       +-- 16 kHz --> speaker network  --> speaker  [192]    who said it
                       '-- 24 kHz ------------------------> mel     [80, 2p] 50 Hz, how it sounds

A voice is a value: it can be kept, saved as safetensors and shared by any number of streams. `VoiceMaker` remembers
what it measured by the content of the sound, whatever the file is called. `Voices` is a folder of them.

Source: Step-Audio 2 `token2wav.py` (which features, and which channel is read for which).
"""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.audio import INPUT_SAMPLE_RATE_HZ, OUTPUT_SAMPLE_RATE_HZ, Waveform, load_waveform
from model.audio_file import Source
from model.errors import AudioError, CheckpointError
from model.token2wav.config import CODE_RATE_HZ
from model.token2wav.features import fit_to_codes, prompt_mel
from model.token2wav.recording import MAX_SECONDS, check_recording
from model.token2wav.s3_tokenizer import SpeechTokenizer
from model.token2wav.speaker import SpeakerEncoder

SUFFIX = ".safetensors"
FORMAT = "step-audio-voice-1"
MAX_FILE_BYTES = 4 * 2**20
"""A voice of 30 s has half a megabyte; larger files are not even opened."""
_NAME = re.compile(r"[^\W_][\w .()-]{0,79}")


@dataclass(frozen=True, eq=False)
class Voice:
    """How somebody sounds: 3 to 15 s of speech, measured. On the CPU; never written to."""

    name: str
    """Letters, digits, spaces and `_ . - ( )`, at most 80: it is a file name, too."""
    codes: Tensor
    """What is said, int64 [p], 25 Hz."""
    mel: Tensor
    """How it sounds, natural-log mel, float32 [bins, frames], a whole number of frames for each code."""
    speaker: Tensor
    """Who speaks, float32 [192], of any length but zero."""
    transcript: str = ""
    """The words of the recording, where they are known."""
    description: str = ""
    """For people: what the voice is like."""
    licence: str = ""
    """What may be done with it, and where it comes from."""
    tokenizer: str = ""
    """Which speech tokenizer made the codes (its `fingerprint`); "" if nobody knows."""

    def __post_init__(self) -> None:
        """Refuse parts that make no voice."""
        problem = self._problem()
        if problem:
            found, expected = problem
            todo = "Make the voice from a recording with `Token2Wav.make_voice`."
            raise AudioError(f"make the voice {self.name!r}", found=found, expected=expected, todo=todo)

    def _problem(self) -> tuple[str, str] | None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            return "such a name", "1 to 80 letters, digits, spaces or _ . - ( ), a letter or digit first"
        for part, kind, n_axes in (("codes", torch.int64, 1), ("mel", torch.float32, 2), ("speaker", torch.float32, 1)):
            value = getattr(self, part)
            if not isinstance(value, Tensor) or value.dtype != kind or value.ndim != n_axes or not value.numel():
                found = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                return f"{part} as {found}", f"{part} as {kind} with {n_axes} axes, not empty"
            if value.is_floating_point() and not value.isfinite().all():
                return f"{part} with NaN or infinity", "finite numbers"
        if self.mel.shape[1] % len(self.codes):
            return f"{self.mel.shape[1]} frames for {len(self.codes)} codes", "as many frames for each code"
        if int(self.codes.min()) < 0:
            return f"code {int(self.codes.min())}", "codes from 0 on"
        return None if self.speaker.any() else ("a speaker vector of zeros", "a direction")

    @property
    def duration_s(self) -> float:
        """Length of the recording, in whole codes."""
        return len(self.codes) / CODE_RATE_HZ

    @cached_property
    def id(self) -> str:
        """Name of the content, 16 characters; what the voice is called does not count."""
        return _digest(self.codes, self.mel, self.speaker)

    def prompt(self) -> dict[str, Tensor]:
        """Return the three parts with a batch axis, under the names of `Flow.start`."""
        return {"prompt_codes": self.codes[None], "prompt_mel": self.mel[None], "speaker": self.speaker[None]}

    def renamed(self, name: str, **words: str) -> "Voice":
        """Return the same sound under another name, and with another transcript, description or licence."""
        return replace(self, name=name, **words)

    def save(self, path: str | Path) -> Path:
        """Write to a safetensors file; an old one is replaced at once or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        words = {each.name: getattr(self, each.name) for each in fields(self) if each.type is str}
        partial = path.with_name(f".{path.name}.partial")
        save_file({part: getattr(self, part).contiguous() for part in _PARTS}, partial, {"format": FORMAT, **words})
        return partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> "Voice":
        """Read what `save` wrote.

        Raises:
            CheckpointError: If the file is missing, damaged, too large or no voice.
        """
        path = Path(path)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise _no_voice(path, f"a file of {path.stat().st_size / 2**20:.0f} MiB")
            with safe_open(path, "pt") as file:
                words, parts = file.metadata() or {}, {name: file.get_tensor(name).clone() for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise _no_voice(path, f"this problem: {str(error).rstrip('.')}") from error
        if words.get("format") != FORMAT or set(parts) != set(_PARTS):
            raise _no_voice(path, f"format {words.get('format')!r} with {', '.join(sorted(parts)) or 'nothing'}")
        known = {each.name for each in fields(cls)}
        try:
            return cls(**parts, **{name: text for name, text in words.items() if name in known})
        except (AudioError, TypeError) as error:
            raise _no_voice(path, getattr(error, "found", str(error))) from error


_PARTS = ("codes", "mel", "speaker")


def _no_voice(path: Path, found: str) -> CheckpointError:
    expected = f"a voice that `Voice.save` wrote, at most {MAX_FILE_BYTES // 2**20} MiB"
    todo = "Check the path, or make the voice again from its recording."
    return CheckpointError(f"read the voice '{path}'", found=found, expected=expected, todo=todo)


def _digest(*tensors: Tensor) -> str:
    """Name the content of tensors in 16 characters."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# --- from a recording ---------------------------------------------------------------------------------------------


class _Measured(NamedTuple):
    codes: Tensor
    mel: Tensor
    speaker: Tensor


class VoiceMaker:
    """Measure recordings. Several threads may use one.

    Args:
        tokenizer: Makes the codes; it stays on its device.
        speaker: Describes who speaks.
        keep: Recordings whose measurements are remembered, the latest ones.
    """

    def __init__(self, tokenizer: SpeechTokenizer, speaker: SpeakerEncoder, *, keep: int = 32):
        self.tokenizer, self.speaker, self.keep = tokenizer, speaker, keep
        self._measured: OrderedDict[str, _Measured] = OrderedDict()
        self._turn = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """Name of the tokenizer's weights: voices made by another one do not fit."""
        return fingerprint(self.tokenizer)

    def make(
        self,
        source: Source | Waveform,
        *,
        name: str,
        transcript: str = "",
        description: str = "",
        licence: str = "",
        parity: bool = False,
    ) -> Voice:
        """Make a voice of a recording.

        Args:
            source: A sound file (path, bytes or binary file) of any rate, or a Waveform.
            name: What the voice is called.
            transcript: The words of the recording.
            description: What the voice is like.
            licence: What may be done with it.
            parity: Read codes and speaker off the first channel, as the official code does; else the mean of all
                channels is used for everything. Nothing else changes, and nothing at all for a mono recording.

        Raises:
            AudioError: If the sound cannot be read, or is too short, too long, silent, clipped or noisy.
        """
        low, high = _read(source, parity)
        check_recording(high, f"the recording for {name!r}")
        key = _digest(torch.from_numpy(low.samples), torch.from_numpy(high.samples))
        with self._turn:
            measured = self._measured.get(key)
        measured = measured or self._measure(low, high)
        with self._turn:
            self._measured[key] = measured
            self._measured.move_to_end(key)
            while len(self._measured) > self.keep:
                self._measured.popitem(last=False)
        words = {"transcript": transcript, "description": description, "licence": licence}
        return Voice(name, *measured, **words, tokenizer=self.fingerprint)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _measure(self, low: Waveform, high: Waveform) -> _Measured:
        codes = self.tokenizer.encode(low).clone()
        mel = fit_to_codes(prompt_mel(high), len(codes))
        return _Measured(codes, mel.contiguous(), self.speaker.embed(low)[0].clone())


def fingerprint(tokenizer: SpeechTokenizer) -> str:
    """Name the weights of a speech tokenizer in 16 characters, by the signs in its first layer and its last.

    Signs, because they are the same in every precision that the weights may be stored in.
    """
    layers = tokenizer.encoder.conv1, tokenizer.quantizer._codebook.project_down
    return _digest(*(layer.weight.signbit() for layer in layers))


def _read(source: Source | Waveform, parity: bool) -> tuple[Waveform, Waveform]:
    """Return a recording at 16 kHz for codes and speaker, and at 24 kHz for the mel."""
    rates = INPUT_SAMPLE_RATE_HZ, OUTPUT_SAMPLE_RATE_HZ
    if isinstance(source, Waveform):
        if source.duration_s > MAX_SECONDS:
            check_recording(source)  # refuses it before an hour of sound is resampled
        return tuple(source.resample(rate) for rate in rates)
    source = source.read() if hasattr(source, "read") else source
    channels = ("first" if parity else "mean"), "mean"
    return tuple(
        load_waveform(source, sample_rate_hz=rate, channel=channel, max_seconds=MAX_SECONDS)
        for rate, channel in zip(rates, channels)
    )


# --- a library ----------------------------------------------------------------------------------------------------


class Voices:
    """Voices by name: a folder with one file for each, read when it is asked for. Several threads may use one.

    Args:
        folder: Where the files lie; None keeps voices in memory only. It need not exist yet.
        voices: Voices that are there besides those in the folder.
    """

    def __init__(self, folder: str | Path | None = None, voices: Iterable[Voice] = ()):
        self.folder = Path(folder) if folder else None
        self._read: dict[str, Voice] = {voice.name: voice for voice in voices}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the alphabet."""
        stored = (path.stem for path in self.folder.glob(f"*{SUFFIX}")) if self.folder else ()
        return tuple(sorted({*filter(_NAME.fullmatch, stored), *self._read}))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Voice]:
        return (self[name] for name in self.names)

    def __contains__(self, name: Any) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Voice:
        """Return the voice of that name.

        Raises:
            AudioError: If there is none.
            CheckpointError: If its file cannot be read.
        """
        if name not in self._read:
            if name not in self.names:
                known = ", ".join(self.names) or "no voice at all"
                todo = "Choose one of these, or make a voice from a recording."
                raise AudioError(f"find the voice {name!r}", found="none of that name", expected=known, todo=todo)
            self._read[name] = Voice.load(self.folder / f"{name}{SUFFIX}").renamed(name)
        return self._read[name]

    def add(self, voice: Voice) -> Voice:
        """Keep a voice under its name, in the folder if there is one; one of the same name is replaced."""
        if self.folder:
            voice.save(self.folder / f"{voice.name}{SUFFIX}")
        self._read[voice.name] = voice
        return voice
