"""Who teaches nano to speak: the training voices as they are, and each of them in a few guises.

A guise moves the formants and the pitch of a voice by a fixed step and counts as another person: eleven people are too
few for a speaker network, and a flow that has heard eleven would speak with these eleven voices whatever it is given.
English engines are moved without loss (resampling moves the formants, the engine itself the pitch and the rate);
Mandarin voices move inside the ranges that `model.training.voices` grants them, so that held-out voices stay unheard.
"""

import itertools
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from model.training import voices
from model.training.engines import Prosody
from model.training.voices import VoiceSpec

FORMANTS = (0.87, 0.93, 1.07, 1.14)
PITCHES = (0.85, 1.0, 1.18)
"""Of a guise, relative to what its formants bring along: formant .87 with pitch .85 sounds at .74 of the voice's."""
FORMANT_JITTER, PITCH_JITTER, RATE_JITTER = 0.012, 0.035, 0.16
"""Largest natural logarithm by which one clip differs from its guise."""
_INSET = 0.12
"""Guises of a Mandarin voice keep this share of its range from the ends, so that the jitter stays inside."""
_WEIGHTS = {voices.RHVOICE: 1.5}
"""RHVoice is the best engine and the only one that sounds above 8 kHz."""


@dataclass(frozen=True)
class Guise:
    """How far a voice is moved.

    Attributes:
        formant: Factor on the formants, above 1 a shorter vocal tract.
        pitch: Factor on the pitch.
        number: 0 for the voice as it is, else which of its guises.
    """

    formant: float
    pitch: float
    number: int = 0

    def __post_init__(self) -> None:
        """Refuse factors that no engine can follow."""
        if not (0.5 <= self.formant <= 2.0 and 0.3 <= self.pitch <= 2.0):
            raise ValueError(f"A guise needs a formant factor from 0.5 to 2 and a pitch from 0.3 to 2: {self}.")

    def speaker(self, voice: VoiceSpec) -> str:
        """Name the person whom a voice in this guise stands for."""
        return f"{voice.name}@{self.number}" if self.number else voice.name


def guises(voice: VoiceSpec) -> tuple[Guise, ...]:
    """List the guises of a voice; the first is the voice as it is."""
    if voice.engine != voices.CONCATENATION:
        moved = ((f, f * p) for f, p in itertools.product(FORMANTS, PITCHES))
        return Guise(1.0, 1.0), *(Guise(f, p, 1 + i) for i, (f, p) in enumerate(moved))
    (f_low, f_mid, f_high), (p_low, p_mid, p_high) = _steps(voice.formant), _steps(voice.pitch)
    moved = itertools.product((f_low, f_high), (p_low, p_mid, p_high))
    return Guise(f_mid, p_mid), *(Guise(f, p, 1 + i) for i, (f, p) in enumerate(moved))


def _steps(bounds: tuple[float, float]) -> tuple[float, float, float]:
    """Return low, middle and high of a range, on a logarithmic scale and away from its ends."""
    low, high = np.log(bounds)
    return tuple(float(np.exp(low + share * (high - low))) for share in (_INSET, 0.5, 1 - _INSET))


def teachers(
    language: str, split: str = voices.TRAIN, inventories: Collection[str] = ()
) -> tuple[tuple[VoiceSpec, float], ...]:
    """List the voices that teach, each with its share of the clips; espeak-ng is too robotic to learn speaking from."""
    found = voices.available_voices(language, split, inventories=inventories)
    return tuple((v, v.weight * _WEIGHTS.get(v.engine, 1.0)) for v in found if v.engine != voices.ESPEAK)


def dressed(voice: VoiceSpec, guise: Guise, rng: np.random.Generator) -> tuple[VoiceSpec, Prosody]:
    """Return what makes a voice speak one clip in a guise: a voice whose ranges are single values, and the prosody."""
    largest = (PITCH_JITTER, RATE_JITTER, FORMANT_JITTER if guise.number else 0.0)
    pitch, rate, formant = (float(np.exp(rng.uniform(-x, x))) for x in largest)
    if voice.engine == voices.CONCATENATION:
        size = _within(guise.formant * formant, voice.formant)
        voice = replace(voice, formant=(size, size), pitch=(guise.pitch, guise.pitch))
        return voice, Prosody(rate=rate, pitch=pitch)
    size = guise.formant * formant
    # Resampling by `size` also brings pitch and speed along; the engine takes both back.
    return voice, Prosody(rate=rate / size, pitch=guise.pitch * pitch / size, size=size)


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
