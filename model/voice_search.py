"""The voices that come with a model, as a library that audio search can look through.

VoiceCard ──library_of──> VoiceLibrary ──AudioSearch──> "model-3", "Grace" ──> the reply speaks as Grace
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from model.tools.audio_search import read_request
from model.tools.voice_library import VoiceEntry, VoiceLibrary

if TYPE_CHECKING:
    from model.token2wav.voices import VoiceCard

PREFIX = "model-"
"""Begins the ids of a model's own voices, which are known by name and need no recording; users' ids begin otherwise."""


def library_of(cards: "Iterable[VoiceCard]") -> VoiceLibrary:
    """Put what is written on voices into a library in memory; the gender is read off the description."""
    library = VoiceLibrary()
    for number, card in enumerate(cards):
        english, chinese = card.described("en"), card.described("zh")
        library.put(
            VoiceEntry(
                id=f"{PREFIX}{number}",
                name=card.name[:60],
                gender=read_request(english).gender,
                age=read_request(english).age,
                language=card.language,
                description=english[:500],
                description_zh=chinese[:500] if chinese != english else "",
                transcript=card.transcript[:1000],
            )
        )
    return library


def is_own(voice_id: str) -> bool:
    """Whether a voice that a search found is one of the model's own."""
    return voice_id.startswith(PREFIX)
