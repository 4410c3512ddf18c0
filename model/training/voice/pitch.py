"""Pitch of every clip of a voice corpus, tracked once and kept beside its sound: what the vocoder's predictor learns.

    shard_0000.pcm --DIO, StoneMask--> shard_0000.pitch     float32, 2 numbers for each code, Hz, 0 where unvoiced

A number belongs to one frame of the 80-band mel: the pitch at its centre, 10 ms after its start.

Source: WORLD (Morise et al., 2016) through pyworld. On forty clips Harvest took fifteen times as long, called breath
and silence voiced, and disagreed on the pitch (by a tenth) in 2 % of the frames that both called voiced.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.audio import OUTPUT_SAMPLE_RATE_HZ
from model.token2wav.features import MEL_HOP
from model.training.augment import world_library
from model.training.voice.corpus import PROMPT_FRAMES, VoiceCorpus, VoiceRow

FLOOR_HZ, CEILING_HZ = 55.0, 700.0
STEP_MS = 5.0
"""DIO drops pitches that move too fast between its frames, so it needs short ones."""
STEPS = round(1000 * MEL_HOP / OUTPUT_SAMPLE_RATE_HZ / STEP_MS)
ALLOWED_RANGE = 0.2
"""How far, as a share, a pitch may move in 5 ms. The usual 0.1 left loud vowels of the synthesisers unvoiced."""


def track_pitch(samples: np.ndarray) -> np.ndarray:
    """Return the pitch at the centre of every mel frame in Hz, 0 where unvoiced, float32 [time // 480].

    Args:
        samples: int16 or float [time], 24 kHz.
    """
    world, n_frames = world_library(), len(samples) // MEL_HOP
    sound = np.ascontiguousarray(samples, dtype=np.float64)
    if np.issubdtype(samples.dtype, np.integer):
        sound = sound / 32768
    options = {"f0_floor": FLOOR_HZ, "f0_ceil": CEILING_HZ, "frame_period": STEP_MS, "allowed_range": ALLOWED_RANGE}
    f0, times = world.dio(sound, OUTPUT_SAMPLE_RATE_HZ, **options)
    f0, times = (np.ascontiguousarray(x[STEPS // 2 :: STEPS][:n_frames]) for x in (f0, times))
    found = world.stonemask(sound, f0, times, OUTPUT_SAMPLE_RATE_HZ).astype(np.float32)
    return np.pad(found, (0, n_frames - len(found)))


class Pitches:
    """Pitch of the clips of a corpus; what is not kept yet is tracked when it is made, shard by shard.

    Args:
        corpus: The clips.
    """

    def __init__(self, corpus: VoiceCorpus):
        from tqdm import tqdm

        by_shard: dict[int, list[VoiceRow]] = {}
        for row in corpus.rows:
            by_shard.setdefault(row.shard, []).append(row)
        self._shards = {
            shard: _read_or_track(corpus, shard, rows)
            for shard, rows in tqdm(by_shard.items(), desc="pitch", unit="shard", leave=False)
        }

    def __call__(self, row: VoiceRow) -> np.ndarray:
        """Pitch of a clip in Hz, 0 where unvoiced, float32 [2 * code]."""
        return self._shards[row.shard][PROMPT_FRAMES * row.start : PROMPT_FRAMES * (row.start + row.codes)]


def _read_or_track(corpus: VoiceCorpus, shard: int, rows: Sequence[VoiceRow]) -> np.ndarray:
    path = corpus.folder / f"shard_{shard:04d}.pitch"
    n_frames = PROMPT_FRAMES * sum(row.codes for row in rows)
    if not path.exists() or path.stat().st_size != n_frames * np.dtype(np.float32).itemsize:
        _write(path, (track_pitch(corpus.samples(row)) for row in rows))
    return np.memmap(path, dtype=np.float32, mode="r")


def _write(path: Path, pitches: Iterable[np.ndarray]) -> None:
    partial = path.with_suffix(".pitch_partial")
    np.concatenate(list(pitches)).tofile(partial)
    partial.rename(path)
