"""What there is to choose from: the voices beside a checkpoint, told by their file headers, no network loaded.

    token2wav/voices/Grace.safetensors --header only--> VoiceCard(name, transcript, description, ...)

`model.token2wav.voice.Voices` reads a voice once it is used; a list for people needs only what is written on it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from model.errors import CheckpointError
from model.tasks.normalize import is_chinese
from model.token2wav.config import CODE_RATE_HZ
from model.token2wav.loading import TOKENIZER, VOICES_FOLDER, find_files
from model.token2wav.voice import FORMAT, MAX_FILE_BYTES, SUFFIX, Voices

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VoiceCard:
    """What is written on a voice."""

    name: str
    transcript: str = ""
    """The words of its recording."""
    description: str = ""
    """What it is like, in English; a second line says it in Chinese."""
    licence: str = ""
    duration_s: float = 0.0
    """Length of its recording, in seconds."""

    @property
    def language(self) -> str:
        """What its recording speaks, "zh" or "en"; empty where the words are not known."""
        return ("zh" if is_chinese(self.transcript) else "en") if self.transcript else ""

    def described(self, language: Literal["en", "zh"] = "en") -> str:
        """What it is like, in a language if it is said there."""
        lines = self.description.splitlines() or [""]
        return lines[min(len(lines) - 1, ("en", "zh").index(language))]


@dataclass(frozen=True)
class VoiceChoice:
    """What a checkpoint can speak with."""

    cards: tuple[VoiceCard, ...] = ()
    """Its own voices, in the order of the alphabet."""
    makes_voices: bool = False
    """Whether it can make a voice of a recording."""


def voice_choice(folder: str | Path) -> VoiceChoice:
    """Tell what there is to choose from; nothing is loaded.

    Args:
        folder: A token2wav folder, or the checkpoint around it.

    Raises:
        CheckpointError: If the folder is missing or incomplete.
    """
    files = find_files(folder)
    return VoiceChoice(read_cards(files.folder / VOICES_FOLDER), TOKENIZER in files.paths)


def read_cards(folder: str | Path) -> tuple[VoiceCard, ...]:
    """Read the card of every voice in a folder; files that hold none are left out and logged."""
    cards = []
    for name in Voices(folder).names:
        try:
            cards.append(read_card(Path(folder) / f"{name}{SUFFIX}"))
        except CheckpointError as error:
            logger.warning("left out: %s", error)
    return tuple(cards)


def read_card(path: str | Path) -> VoiceCard:
    """Read what is written on one voice; the file name counts as its name.

    Raises:
        CheckpointError: If the file is missing, damaged, too large or no voice.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _no_card(path, f"a file of {path.stat().st_size / 2**20:.0f} MiB")
        with safe_open(path, "pt") as file:
            words = file.metadata() or {}
            n_codes = file.get_slice("codes").get_shape()[0]
    except (OSError, SafetensorError) as error:
        raise _no_card(path, f"this problem: {str(error).rstrip('.')}") from error
    if words.get("format") != FORMAT:
        raise _no_card(path, f"format {words.get('format')!r}")
    known = {name: words.get(name, "") for name in ("transcript", "description", "licence")}
    return VoiceCard(path.stem, **known, duration_s=n_codes / CODE_RATE_HZ)


def suited(cards: Sequence[VoiceCard], text: str) -> VoiceCard | None:
    """Choose the first voice that speaks the language of a text, else the first one; None if there is none."""
    language = "zh" if is_chinese(text) else "en"
    return next((card for card in cards if card.language == language), next(iter(cards), None))


def _no_card(path: Path, found: str) -> CheckpointError:
    expected, todo = "a voice that `Voice.save` wrote", "Make the voice again from its recording."
    return CheckpointError(f"read what is written on the voice '{path}'", found=found, expected=expected, todo=todo)
