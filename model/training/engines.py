"""The speech engines: one function each, all with the same signature.

| engine | how it is called | word times |
|---|---|---|
| flite, espeak-ng | their libraries, inside this process | exact |
| festival | one process a sentence | exact |
| pico, RHVoice | one process a sentence | none |
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from model.errors import StepAudioError
from model.training import voices as v
from model.training.pronunciation import as_pinyin, phrases
from model.training.voices import VoiceSpec

_TIMEOUT_S = 30
_EDGES = re.compile(r"^[^\w]+|[^\w]+$")
# Target means, Hz, at which flite's voices sound as they do by themselves (their medians: 170, 127, 99, 89 Hz).
_FLITE_USUAL_HZ = {"slt": 175.0, "awb": 133.0, "rms": 103.0, "kal16": 93.0}
# The C libraries keep one state per process.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Prosody:
    """How a sentence is spoken.

    Attributes:
        rate: Factor on the engine's usual speed.
        pitch: Factor on the engine's usual pitch.
        size: Factor of :func:`model.training.augment.resize_voice`, above 1 a smaller speaker.
    """

    rate: float = 1.0
    pitch: float = 1.0
    size: float = 1.0

    def __post_init__(self) -> None:
        """Refuse factors that no engine can follow."""
        if not all(0.4 <= value <= 2.5 for value in (self.rate, self.pitch, self.size)):
            raise ValueError(f"Prosody factors must lie between 0.4 and 2.5: {self}.")

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Prosody:
        """Draw what people vary from sentence to sentence: rate .8-1.25, pitch +-12 %, size +-6 %."""
        rate, pitch, size = (float(np.exp(rng.uniform(-x, x))) for x in (0.223, 0.113, 0.058))
        return cls(rate, pitch, size)


@dataclass(frozen=True)
class WordTime:
    """One word and when it sounds: in Mandarin one unit; in espeak-ng sometimes several it ran together ("in the").

    Attributes:
        text: The word as written, without punctuation.
        start_s: Start in seconds.
        end_s: End in seconds.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sound:
    """What an engine returns.

    Attributes:
        samples: Mono, -1..1, [time].
        rate_hz: The engine's own rate.
        words: The words of the text with their times, or None where the engine does not tell.
    """

    samples: np.ndarray
    rate_hz: int
    words: tuple[WordTime, ...] | None = None


def failure(voice: VoiceSpec, text: str, found: str, expected: str, todo: str = "") -> StepAudioError:
    """Say which voice failed at which text."""
    todo = todo or "Check the text, or choose another of available_voices()."
    return StepAudioError(f"speak {text!r} with the voice {voice.name!r}", found=found, expected=expected, todo=todo)


def match_words(text: str, spoken: Sequence[WordTime]) -> tuple[WordTime, ...] | None:
    """Give an engine's words back the spelling of the text; None when the engine read something else."""
    rest = list(spoken)
    matched: list[WordTime] = []
    for token in text.split():
        word = _EDGES.sub("", token)
        if not word:
            continue
        letters, parts = _letters(word), []
        while rest and len("".join(_letters(part.text) for part in parts)) < len(letters):
            parts.append(rest.pop(0))
        if "".join(_letters(part.text) for part in parts) != letters:
            return None
        matched.append(WordTime(word, parts[0].start_s, parts[-1].end_s))
    return None if rest else tuple(matched)


def _letters(word: str) -> str:
    """Keep the letters of a word."""
    return re.sub(r"\W", "", word).lower()


# --- flite, through its library ---------------------------------------------------------------------------------------


class _FliteVoice(ctypes.Structure):
    """Head of flite's cst_voice."""

    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


class _FliteWave(ctypes.Structure):
    """Flite's cst_wave: 16-bit samples."""

    _fields_ = [
        ("type", ctypes.c_char_p),
        ("rate", ctypes.c_int),
        ("n_samples", ctypes.c_int),
        ("n_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_int16)),
    ]


@functools.cache
def _flite_library() -> ctypes.CDLL:
    """Load flite and declare the functions used here."""
    for name in ("libflite.so.1", "libflite_usenglish.so.1", "libflite_cmulex.so.1"):
        library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL("libflite.so.1")
    pointer, text, real = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float
    signatures = {
        "flite_init": (ctypes.c_int, []),
        "flite_synth_text": (pointer, [text, pointer]),
        "utt_wave": (ctypes.POINTER(_FliteWave), [pointer]),
        "utt_relation": (pointer, [pointer, text]),
        "relation_head": (pointer, [pointer]),
        "item_next": (pointer, [pointer]),
        "ffeature_string": (text, [pointer, text]),
        "ffeature_float": (real, [pointer, text]),
        "feat_set_float": (None, [pointer, text, real]),
        "delete_utterance": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


@functools.cache
def _flite_voice(speaker: str) -> tuple[ctypes.c_void_p, int]:
    """Load a flite voice: its handle and its features."""
    _flite_library()
    library = ctypes.CDLL(f"libflite_cmu_us_{speaker}.so.1", mode=ctypes.RTLD_GLOBAL)
    register = getattr(library, f"register_cmu_us_{speaker}")
    register.restype, register.argtypes = ctypes.POINTER(_FliteVoice), [ctypes.c_char_p]
    voice = register(None)
    return ctypes.cast(voice, ctypes.c_void_p), voice.contents.features


def _flite(text: str, voice: VoiceSpec, prosody: Prosody) -> Sound:
    """Speak with flite; its own segment times give the words."""
    with _LOCK:
        try:
            flite = _flite_library()
            handle, features = _flite_voice(voice.speaker)
        except (OSError, AttributeError) as error:
            raise failure(voice, text, str(error), "libflite and its voices", "Run: apt install flite.") from error
        flite.feat_set_float(features, b"duration_stretch", 1.0 / prosody.rate)
        flite.feat_set_float(features, b"int_f0_target_mean", _FLITE_USUAL_HZ[voice.speaker] * prosody.pitch)
        utterance = flite.flite_synth_text(text.encode(), handle)
        if not utterance:
            raise failure(voice, text, "no utterance", "sound")
        try:
            wave = flite.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(wave.samples, (wave.n_samples,)).astype(np.float32) / 32768.0
            words = match_words(text, list(_flite_words(flite, utterance)))
            return Sound(samples, wave.rate, words)
        finally:
            flite.delete_utterance(utterance)


def _flite_words(flite: ctypes.CDLL, utterance: int) -> Iterator[WordTime]:
    """Walk the words of an utterance; a word lasts from the end of the segment before it to that of its own last."""
    item = flite.relation_head(flite.utt_relation(utterance, b"Word"))
    while item:
        start = flite.ffeature_float(item, b"R:SylStructure.daughter1.daughter1.R:Segment.p.end")
        end = flite.ffeature_float(item, b"R:SylStructure.daughtern.daughtern.R:Segment.end")
        yield WordTime(flite.ffeature_string(item, b"name").decode(), float(start), float(end))
        item = flite.item_next(item)


# --- espeak-ng, through its library -----------------------------------------------------------------------------------


class _EspeakEvent(ctypes.Structure):
    """Espeak's event: what happens at which sample and which character."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("character", ctypes.c_int),
        ("length", ctypes.c_int),
        ("time_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


_ESPEAK_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.POINTER(_EspeakEvent)
)
_ESPEAK_SYNCHRONOUS, _ESPEAK_UTF8 = 2, 1
_ESPEAK_RATE, _ESPEAK_PITCH = 1, 3
_ESPEAK_END, _ESPEAK_WORD, _ESPEAK_SENTENCE_END = 0, 1, 5


class _Espeak:
    """The library, its rate and what its callback collected."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate_hz = int(self.library.espeak_Initialize(_ESPEAK_SYNCHRONOUS, 0, None, 0))
        if self.rate_hz <= 0:
            raise OSError("espeak-ng finds no voice data")
        self.sound: list[np.ndarray] = []
        self.events: list[tuple[int, int, float]] = []
        self._callback = _ESPEAK_CALLBACK(self._collect)
        self.library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples, n_samples: int, events) -> int:
        """Keep sound and events; 0 asks for more."""
        if samples and n_samples > 0:
            self.sound.append(np.ctypeslib.as_array(samples, (n_samples,)).copy())
        index = 0
        while events and events[index].type != _ESPEAK_END:
            event = events[index]
            self.events.append((event.type, event.character, event.time_ms / 1000.0))
            index += 1
        return 0

    def speak(self, text: str, name: str, prosody: Prosody) -> np.ndarray:
        """Return the samples of a text, int16; the events wait in :attr:`events`."""
        self.sound, self.events = [], []
        data = text.encode()
        if self.library.espeak_SetVoiceByName(name.encode()) != 0:
            raise OSError(f"espeak-ng has no voice {name!r}")
        self.library.espeak_SetParameter(_ESPEAK_RATE, int(np.clip(round(165 * prosody.rate), 80, 400)), 0)
        self.library.espeak_SetParameter(_ESPEAK_PITCH, int(np.clip(round(50 + 80 * np.log(prosody.pitch)), 5, 95)), 0)
        self.library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _ESPEAK_UTF8, None, None)
        return np.concatenate(self.sound) if self.sound else np.zeros(0, np.int16)


@functools.cache
def _espeak_engine() -> _Espeak:
    """Start espeak-ng once in this process."""
    return _Espeak()


def _espeak(text: str, voice: VoiceSpec, prosody: Prosody) -> Sound:
    """Speak with espeak-ng; its word events give exact times. Mandarin goes in as pinyin, which it reads far better."""
    written = text if voice.language == "en" else as_pinyin(text)
    with _LOCK:
        try:
            engine = _espeak_engine()
            samples = engine.speak(written, voice.speaker, prosody)
        except OSError as error:
            raise failure(voice, text, f"{error}", "libespeak-ng1", "Run: apt-get install espeak-ng.") from error
        words = _espeak_words(written, engine.events, len(samples) / engine.rate_hz)
        rate_hz = engine.rate_hz
    if voice.language == "en":
        return Sound(samples / np.float32(32768), rate_hz, words)
    characters = "".join(phrases(text))
    named = len(characters) == len(words)
    return Sound(
        samples / np.float32(32768),
        rate_hz,
        tuple(replace(w, text=c) for w, c in zip(words, characters, strict=True)) if named else None,
    )


def _espeak_words(text: str, events: Sequence[tuple[int, int, float]], end_s: float) -> tuple[WordTime, ...]:
    """Turn word events into words; each ends where the next one, or the clause, does."""
    # A word event without a place in the text marks the pause before a comma: it ends a word and starts none.
    kept = [
        (_ESPEAK_SENTENCE_END if character < 1 else kind, character, start_s)
        for kind, character, start_s in events
        if kind in (_ESPEAK_WORD, _ESPEAK_SENTENCE_END)
    ]
    words = []
    for number, (kind, character, start_s) in enumerate(kept):
        if kind != _ESPEAK_WORD:
            continue
        stop_s = kept[number + 1][2] if number + 1 < len(kept) else end_s
        later = [c for k, c, _ in kept[number + 1 :] if k == _ESPEAK_WORD]
        piece = text[character - 1 : later[0] - 1 if later else len(text)]
        words.append(WordTime(" ".join(filter(None, (_EDGES.sub("", w) for w in piece.split()))), start_s, stop_s))
    return tuple(words)


# --- programs: one process a sentence --------------------------------------------------------------------------------


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder that is gone afterwards, in memory where the system has one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="speech-") as folder:
        yield Path(folder)


def _run(voice: VoiceSpec, text: str, command: Sequence[str], wave: Path, stdin: str = "") -> tuple[Sound, str]:
    """Run a program that writes a sound file; return the sound and what it printed."""
    import soundfile

    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
        samples, rate = soundfile.read(wave, dtype="float32")
    except FileNotFoundError as error:
        found = f"no program {command[0]!r}"
        raise failure(voice, text, found, "it on the PATH", f"Install {voice.engine}.") from error
    except (subprocess.SubprocessError, soundfile.LibsndfileError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
        raise failure(voice, text, f"{type(error).__name__}: {detail}", "a sound file") from error
    return Sound(samples, int(rate)), done.stdout


def _pico(text: str, voice: VoiceSpec, prosody: Prosody) -> Sound:
    """Speak with SVOX pico; it tells no times."""
    pitch, speed = round(100 * prosody.pitch), round(100 * prosody.rate)
    marked = f"<pitch level='{pitch}'><speed level='{speed}'>{escape(text)}</speed></pitch>"
    with _scratch() as folder:
        wave = folder / "speech.wav"
        return _run(voice, text, ["pico2wave", "-l", voice.speaker, "-w", str(wave), marked], wave)[0]


def _rhvoice(text: str, voice: VoiceSpec, prosody: Prosody) -> Sound:
    """Speak with RHVoice; it tells no times."""
    with _scratch() as folder:
        wave = folder / "speech.wav"
        percent = ["-r", str(round(100 * prosody.rate)), "-t", str(round(100 * prosody.pitch))]
        return _run(voice, text, ["RHVoice-test", "-p", voice.speaker, *percent, "-o", str(wave)], wave, text)[0]


_FESTIVAL = """
(voice_{speaker})
(Parameter.set 'Duration_Stretch {stretch:.3f})
(set! int_lr_params '((target_f0_mean {mean:.1f}) (target_f0_std 14) (model_f0_mean 170) (model_f0_std 34)))
(set! utt (utt.synth (eval (list 'Utterance 'Text {text}))))
(utt.save.wave utt {wave} 'riff)
(mapcar (lambda (w) (format t "%s %f %f\\n" (item.name w) (item.feat w "word_start") (item.feat w "word_end")))
  (utt.relation.items utt 'Word))
"""


def _festival(text: str, voice: VoiceSpec, prosody: Prosody) -> Sound:
    """Speak with festival; its word items carry exact times."""
    quoted = '"' + re.sub(r'["\\]', " ", text) + '"'
    with _scratch() as folder:
        wave, script = folder / "speech.wav", folder / "speech.scm"
        script.write_text(
            _FESTIVAL.format(
                speaker=voice.speaker,
                stretch=1 / prosody.rate,
                mean=105 * prosody.pitch,
                text=quoted,
                wave=f'"{wave}"',
            )
        )
        raw, printed = _run(voice, text, ["festival", "--batch", str(script)], wave)
    lines = re.findall(r"^(\S+) ([\d.]+) ([\d.]+)$", printed, re.M)
    words = [WordTime(name, float(start), float(end)) for name, start, end in lines]
    return replace(raw, words=match_words(text, words))


Engine = Callable[[str, VoiceSpec, Prosody], Sound]
ENGINES: dict[str, Engine] = {
    v.FLITE: _flite,
    v.ESPEAK: _espeak,
    v.PICO: _pico,
    v.RHVOICE: _rhvoice,
    v.FESTIVAL: _festival,
}
"""Engine name -> how it speaks. Concatenation is not among them: it needs recordings."""
