"""Is somebody speaking? A probability for every 32 ms of sound: silero where its file is at hand, else energy.

    frame, 512 samples at 16 kHz ──> SileroActivity   a small network (onnxruntime), good in noise
                                 └─> EnergyActivity   how far six bands rise above what was quiet lately

Nothing is downloaded: a silero file is one that a setting names, or that of an installed `silero_vad` package. The
energy rule hears that something is louder than the room, so music and other voices count as speech with it.

Source: silero-vad (inputs of its ONNX file, versions 4 to 6); Martin 2001 (noise floor from minima).
"""

import importlib.util
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ
from model.errors import CheckpointError

FRAME_SAMPLES = 512
"""What silero hears at once; 32 ms."""
FRAME_S = FRAME_SAMPLES / INPUT_SAMPLE_RATE_HZ


class VoiceActivity(Protocol):
    """Judges frames one after the other; it remembers earlier ones, so each stream needs its own."""

    name: str
    """What people are told: "silero" or "energy"."""

    def __call__(self, frame: np.ndarray) -> float:
        """Return the probability of speech in the next frame, float32 [512]."""
        ...


def voice_activity(silero_path: str | Path | None = None) -> VoiceActivity:
    """Return silero if its file is at hand, else the energy rule.

    Args:
        silero_path: An ONNX file; None looks for an installed package.

    Raises:
        CheckpointError: If a file is named that cannot be used. A damaged package only falls back.
    """
    if silero_path is not None:
        return SileroActivity(silero_path)
    found = installed_silero()
    try:
        return SileroActivity(found) if found else EnergyActivity()
    except CheckpointError:
        return EnergyActivity()


def installed_silero() -> Path | None:
    """The file inside the `silero_vad` package, if that is installed; the package itself is not imported.

    Importing it would set the number of torch's threads to one for the whole process.
    """
    spec = importlib.util.find_spec("silero_vad")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return next(
        (file for folder in folders for file in [Path(folder, "data", "silero_vad.onnx")] if file.is_file()), None
    )


# --- a network ----------------------------------------------------------------------------------------------------


class SileroActivity:
    """The silero network.

    Args:
        path: Its ONNX file.
        session: Stands in for the onnxruntime session, in tests.

    Raises:
        CheckpointError: If the file cannot be read or is another network.
    """

    name = "silero"

    def __init__(self, path: str | Path, *, session: Any = None) -> None:
        self._session = session or _open(Path(path))
        names = {each.name for each in self._session.get_inputs()}
        if {"input", "sr", "state"} <= names:  # from version 5 on, which also wants the end of the last frame
            self._state, n_context = {"state": np.zeros((2, 1, 128), np.float32)}, 64
        elif {"input", "sr", "h", "c"} <= names:
            self._state, n_context = {name: np.zeros((2, 1, 64), np.float32) for name in ("h", "c")}, 0
        else:
            raise _no_silero(path, f"inputs {', '.join(sorted(names)) or 'of no name'}")
        self._context = np.zeros(n_context, np.float32)

    def __call__(self, frame: np.ndarray) -> float:
        """Return the probability of speech in the next frame."""
        heard = np.concatenate([self._context, frame])
        self._context = heard[len(heard) - len(self._context) :]
        rate = np.array(INPUT_SAMPLE_RATE_HZ, np.int64)
        probability, *state = self._session.run(None, {"input": heard[None], "sr": rate, **self._state})
        self._state = dict(zip(self._state, state, strict=True))
        return float(np.asarray(probability).reshape(-1)[0])


def _open(path: Path) -> Any:
    if not path.is_file():
        raise _no_silero(path, "no such file")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1  # a frame takes less than waking a thread
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each way in which a file is damaged
        raise _no_silero(path, f"{type(error).__name__}: {str(error)[:200]}") from error


def _no_silero(path: str | Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"read the voice detector '{path}'",
        found=found,
        expected="the file silero_vad.onnx, version 4 or later",
        todo="Correct the path, or leave it out: then loudness decides",
    )


# --- loudness -----------------------------------------------------------------------------------------------------

BAND_EDGES_HZ = (125, 250, 500, 1000, 2000, 3000, 4000)
FLOOR_MEMORY_S = 2.5
"""How long the quietest moments count as the room; a steady sound becomes part of it after this time."""
FLOOR_BIAS_DB = 3.0
"""How far the mean of a steady noise lies above its minima."""
LEAST_FLOOR_DB = -85.0
"""No room is quieter; keeps the noise of a good converter from looking like a sound."""
MOST_RISE_DB = 20.0
LEAST_LEVEL_DB = -62.0
"""Under this level (full scale is 0) nothing counts as speech."""
SPEECH_RISE_DB, RISE_SLOPE_DB = 6.0, 1.2
"""Mean rise over the bands at which speech is as likely as not, and how fast that changes."""


class EnergyActivity:
    """How far the sound rises above the quietest moments of the last seconds, in six bands from 125 to 4000 Hz.

    Every band rises by itself and at most by 20 dB, so a hum or a whistle alone is not enough. Frames of digital
    silence say nothing about the room and are left out of its memory.
    """

    name = "energy"

    def __init__(self) -> None:
        bins_hz = np.fft.rfftfreq(FRAME_SAMPLES, 1 / INPUT_SAMPLE_RATE_HZ)
        edges = np.searchsorted(bins_hz, BAND_EDGES_HZ)
        self._bands = [slice(low, high) for low, high in zip(edges, edges[1:], strict=False)]
        self._window = np.hanning(FRAME_SAMPLES).astype(np.float32)
        self._scale = 2.0 / (FRAME_SAMPLES * float(np.sum(self._window**2)))
        self._last: deque[np.ndarray] = deque(maxlen=3)
        self._lows: deque[np.ndarray] = deque(maxlen=round(FLOOR_MEMORY_S / FRAME_S))

    def __call__(self, frame: np.ndarray) -> float:
        """Return the probability of speech in the next frame."""
        if np.abs(frame).max() < 1e-5:
            return 0.0
        power = np.abs(np.fft.rfft(frame * self._window)) ** 2 * self._scale
        bands = np.array([power[band].sum() for band in self._bands])
        level_db = 10 * np.log10(bands.sum() + 1e-12)
        bands_db = np.maximum(10 * np.log10(bands + 1e-12), LEAST_FLOOR_DB)
        self._last.append(bands_db)
        self._lows.append(np.mean(self._last, axis=0))  # single frames dip by chance
        floor_db = np.min(self._lows, axis=0) + FLOOR_BIAS_DB
        rise_db = float(np.clip(bands_db - floor_db, 0.0, MOST_RISE_DB).mean())
        if level_db < LEAST_LEVEL_DB:
            return 0.0
        return float(1 / (1 + np.exp((SPEECH_RISE_DB - rise_db) / RISE_SLOPE_DB)))
