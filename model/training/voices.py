"""The voices that speak the synthetic world, and which of them training may hear.

Three splits keep the score honest. ``TRAIN`` voices speak the training sound. ``HELD_OUT_VOICE`` voices come from
engines that training knows, but are never trained on. ``HELD_OUT_ENGINE`` voices come from engines (for Mandarin: from
a person) that training never hears: they tell whether a model learned speech or only learned its engines.

Every voice is optional: :func:`available_voices` lists those whose program or recordings are present. The Debian
section ``main`` (flite, espeak-ng, festival) is enough for the English recipe; pico and RHVoice make it richer.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from ctypes.util import find_library
from dataclasses import dataclass, field

TRAIN = "train"
HELD_OUT_VOICE = "held_out_voice"
HELD_OUT_ENGINE = "held_out_engine"
SPLITS = (TRAIN, HELD_OUT_VOICE, HELD_OUT_ENGINE)

FLITE, RHVOICE, PICO, ESPEAK, FESTIVAL = "flite", "rhvoice", "pico", "espeak", "festival"
CONCATENATION = "concatenation"
ENGINES = (FLITE, RHVOICE, PICO, ESPEAK, FESTIVAL, CONCATENATION)

_PROGRAMS = {RHVOICE: "RHVoice-test", PICO: "pico2wave", FESTIVAL: "festival"}
_LIBRARIES = {FLITE: "libflite.so.1", ESPEAK: "libespeak-ng.so.1"}
_CMU = "CMU (BSD-like)"
_UNCHANGED = (1.0, 1.0)


@dataclass(frozen=True)
class VoiceSpec:
    """One voice of one engine.

    Attributes:
        name: Unique name, ``engine-speaker``.
        engine: One of :data:`ENGINES`.
        language: "en" or "zh".
        speaker: What the engine calls the voice; for concatenation, the inventory of recordings.
        sample_rate: Rate the engine works at, Hz (what callers receive is 16 kHz unless they ask for another).
        gender: "female", "male" or "child".
        licence: Licence of the voice data.
        split: One of :data:`SPLITS`.
        age: "child", "adult", "elderly", or None where nobody knows.
        weight: Relative share among the voices of the same language and split.
        formant: Range of the formant factor drawn per clip; above 1 is a shorter vocal tract. Concatenation only.
        pitch: Range of the pitch factor drawn per clip, on top of the prosody. Concatenation only.
    """

    name: str
    engine: str
    language: str
    speaker: str
    sample_rate: int
    gender: str
    licence: str
    split: str
    age: str | None = None
    weight: float = 1.0
    formant: tuple[float, float] = field(default=_UNCHANGED)
    pitch: tuple[float, float] = field(default=_UNCHANGED)

    def __post_init__(self) -> None:
        """Refuse a voice that could never be spoken or that belongs to no split."""
        if self.engine not in ENGINES or self.split not in SPLITS or self.language not in ("en", "zh"):
            raise ValueError(f"Voice {self.name!r} names an unknown engine, split or language: {self}.")
        if self.weight <= 0 or min(*self.formant, *self.pitch) <= 0:
            raise ValueError(f"Voice {self.name!r} needs a positive weight, formant range and pitch range: {self}.")


def _voice(
    engine: str, speaker: str, language: str, gender: str, licence: str, split: str = TRAIN, **more: object
) -> VoiceSpec:
    """Fill in the parts that follow from the engine."""
    rates = {RHVOICE: 24_000, ESPEAK: 22_050}
    name = str(more.pop("name", f"{engine}-{speaker}"))
    return VoiceSpec(name, engine, language, speaker, rates.get(engine, 16_000), gender, licence, split, **more)  # type: ignore[arg-type]


_ENGLISH = (
    _voice(FLITE, "slt", "en", "female", _CMU, age="adult"),
    _voice(FLITE, "awb", "en", "male", _CMU, age="adult"),
    _voice(FLITE, "kal16", "en", "male", _CMU, weight=0.7),
    _voice(FLITE, "rms", "en", "male", _CMU, HELD_OUT_VOICE, age="adult"),
    _voice(RHVOICE, "slt", "en", "female", "RHVoice (LGPL)", age="adult"),
    _voice(RHVOICE, "bdl", "en", "male", "RHVoice (LGPL)", age="adult"),
    _voice(RHVOICE, "alan", "en", "male", "RHVoice (LGPL)", age="adult"),
    _voice(RHVOICE, "clb", "en", "female", "RHVoice (LGPL)", HELD_OUT_VOICE, age="adult"),
    _voice(PICO, "en-US", "en", "female", "Apache-2.0"),
    _voice(PICO, "en-GB", "en", "female", "Apache-2.0"),
    # Robotic and hard to understand: together about 4 % with every engine present, 10 % with `main` alone.
    _voice(ESPEAK, "en-us+klatt4", "en", "male", "GPL-3.0-or-later (program)", weight=0.1),
    _voice(ESPEAK, "en-us+f5", "en", "female", "GPL-3.0-or-later (program)", weight=0.1),
    _voice(ESPEAK, "en-us+f2", "en", "female", "GPL-3.0-or-later (program)", weight=0.05),
    _voice(ESPEAK, "en-us", "en", "male", "GPL-3.0-or-later (program)", weight=0.05),
    # A diphone voice with a real speaker's own sound, from an engine that training never hears.
    _voice(FESTIVAL, "ked_diphone", "en", "male", "festvox kdlpc16k (BSD-like)", HELD_OUT_ENGINE, age="adult"),
)

# Training hears formants .80-1.08 and pitch .44-1.18 of these inventories; held-out voices lie outside on both axes.
_FEMALE = {"formant": (0.94, 1.08), "pitch": (0.86, 1.18)}
_MALE = {"formant": (0.80, 0.90), "pitch": (0.44, 0.62)}
_DEEP = {"formant": (0.72, 0.77), "pitch": (0.36, 0.42)}
_CHILD = {"formant": (1.14, 1.24), "pitch": (1.25, 1.42)}


def _inventory(speaker: str, kind: str, gender: str, licence: str, split: str = TRAIN, **more: object) -> VoiceSpec:
    """Describe one (virtual) speaker made from one inventory of Mandarin recordings."""
    name = f"concatenation-{speaker}" + (f"-{kind}" if kind else "")
    return _voice(CONCATENATION, speaker, "zh", gender, licence, split, name=name, **more)


_MANDARIN = (
    _inventory("yuetan", "", "female", "CC BY-SA 3.0", **_FEMALE),
    _inventory("yuetan", "male", "male", "CC BY-SA 3.0", **_MALE),
    _inventory("davinfifield", "", "female", "Unlicense", **_FEMALE),
    _inventory("davinfifield", "male", "male", "Unlicense", **_MALE),
    _inventory("yuetan", "deep", "male", "CC BY-SA 3.0", HELD_OUT_VOICE, **_DEEP),
    _inventory("davinfifield", "child", "child", "Unlicense", HELD_OUT_VOICE, age="child", **_CHILD),
    _inventory("chenwang", "", "female", "CC BY-SA 3.0", HELD_OUT_ENGINE),
    _voice(ESPEAK, "cmn-latn-pinyin", "zh", "male", "GPL-3.0-or-later (program)", weight=0.1),
    _voice(ESPEAK, "cmn-latn-pinyin+f5", "zh", "female", "GPL-3.0-or-later (program)", weight=0.1),
)

VOICES: tuple[VoiceSpec, ...] = _ENGLISH + _MANDARIN


def find_voice(name: str) -> VoiceSpec:
    """Return the voice of this name.

    Raises:
        KeyError: When no voice has it; the message lists the names.
    """
    for voice in VOICES:
        if voice.name == name:
            return voice
    raise KeyError(f"No voice is called {name!r}. Known voices: {', '.join(voice.name for voice in VOICES)}.")


def engine_installed(engine: str) -> bool:
    """Say whether the program or library of an engine is on this machine (concatenation needs none)."""
    if engine == CONCATENATION:
        return True
    if engine in _PROGRAMS:
        return shutil.which(_PROGRAMS[engine]) is not None
    short = _LIBRARIES[engine].removeprefix("lib").split(".so")[0]
    return find_library(short) is not None or _loads(_LIBRARIES[engine])


def _loads(library: str) -> bool:
    """Try the loader itself: find_library needs ldconfig or a compiler, which slim systems lack."""
    from ctypes import CDLL

    try:
        CDLL(library)
    except OSError:
        return False
    return True


def available_voices(
    language: str | None = None, split: str | None = None, *, inventories: Collection[str] = ()
) -> tuple[VoiceSpec, ...]:
    """List the voices that can speak on this machine, in the order of :data:`VOICES`.

    Args:
        language: Only "en" or only "zh".
        split: Only one of :data:`SPLITS`.
        inventories: Mandarin inventories found in the recordings (``Mandarin.inventories``); empty without recordings.
    """
    installed = {engine for engine in ENGINES if engine_installed(engine)}
    return tuple(
        voice
        for voice in VOICES
        if voice.engine in installed
        and (language is None or voice.language == language)
        and (split is None or voice.split == split)
        and (voice.engine != CONCATENATION or voice.speaker in inventories)
    )
