"""What the loaded model speaks with, as the app knows it: voices to choose from, and one turn of reading aloud.

Nothing is read off the disk but the headers of the voices until somebody wants to hear something.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.errors import BackendError, StepAudioError
from model.speaking import CodeSpeaker, speak, voiced

if TYPE_CHECKING:
    from model.backends.base import Backend
    from model.chat import Conversation
    from model.checkpoint import LoadedModel
    from model.events import Event
    from model.options import GenerationOptions
    from model.token2wav.token2wav import Token2Wav
    from model.token2wav.voices import VoiceCard

OWN_NAME = "recording"
"""What a voice made of a visitor's recording is called; it is not kept under any name."""


@dataclass(frozen=True)
class Recording:
    """A voice that is to be made of a sound file."""

    path: str


@dataclass(frozen=True)
class Speech:
    """What a model speaks with."""

    load: "Callable[[], Token2Wav]"
    """Returns the networks, read when they are first wanted."""
    cards: "tuple[VoiceCard, ...]" = ()
    """Its own voices."""
    makes_voices: bool = False
    """Whether a recording can become a voice."""
    n_codes: int = 6561
    """Size of the codebook."""
    problem: StepAudioError | None = None
    """Why the networks cannot be used, if that is known already."""

    @property
    def is_ready(self) -> bool:
        """Whether there is anything to press Speak for."""
        return self.problem is None and bool(self.cards or self.makes_voices)

    def turn(
        self,
        backend: "Backend",
        text: str,
        voice: str | Recording,
        options: "GenerationOptions",
        cancel: threading.Event,
    ) -> "Iterator[Event]":
        """Read a text aloud, in one of the model's voices or in that of a recording; see `model.speaking.speak`."""
        token2wav = self.load()
        chosen = token2wav.make_voice(voice.path, name=OWN_NAME) if isinstance(voice, Recording) else voice
        if not cancel.is_set():
            yield from speak(backend, token2wav, text, chosen, options, cancel=cancel)

    def answer(
        self,
        backend: "Backend",
        conversation: "Conversation",
        language: str,
        options: "GenerationOptions",
        cancel: threading.Event,
    ) -> "Iterator[Event]":
        """Answer a conversation that is open for speech, in a voice of the model's that suits a language ("en", "zh").

        Raises:
            BackendError: If the model has no voice of its own.
        """
        card = next((card for card in self.cards if card.language == language), next(iter(self.cards), None))
        if card is None:
            raise BackendError(
                "speak an answer",
                found="a model without a voice of its own",
                expected="one voice or more in its folder token2wav",
                todo="Ask for the text alone.",
            )
        speaker = CodeSpeaker(self.load(), card.name, cancel=cancel)
        yield from voiced(backend.stream(conversation, options, cancel=cancel), speaker)


def speech_of(loaded: "LoadedModel") -> Speech | None:
    """Tell what a loaded model speaks with; None if its checkpoint has nothing for it."""
    if not loaded.has_voice:
        return None
    from model.checkpoint import VOICE_FOLDER
    from model.token2wav.voices import voice_choice

    n_codes = loaded.processor.ids.n_codes
    try:
        choice = voice_choice(loaded.info.path / VOICE_FOLDER)
    except StepAudioError as error:
        return Speech(lambda: loaded.token2wav, n_codes=n_codes, problem=error)
    return Speech(lambda: loaded.token2wav, choice.cards, choice.makes_voices, n_codes)
