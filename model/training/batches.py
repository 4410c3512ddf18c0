"""Batches of log-mels: clips of like length together, and cheap augmentation of the mels themselves.

epoch(rows, budget)        lists of rows whose padded frames fit the budget
collate(corpus, rows, rng) mels [clip, 128, T] (padded with 0.0 like the front end), valid lengths, augmented or not
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from model.audio import usable_length
from model.training.corpus import Corpus, Row

_JITTER_FRAMES = 60
NOISE_SOURCES = ("esc", "sc_noise")


def epoch(rows: Sequence[Row], *, frame_budget: int, rng: np.random.Generator) -> Iterator[list[Row]]:
    """Yield every row once, in batches of at most `frame_budget` padded frames, in random order."""
    lengths = np.asarray([row.frames for row in rows])
    order = np.argsort(lengths + rng.uniform(0, _JITTER_FRAMES, len(rows)))
    batches: list[list[Row]] = [[]]
    widest = 0
    for i in order:
        widest = max(widest, int(lengths[i]))
        if batches[-1] and widest * (len(batches[-1]) + 1) > frame_budget:
            batches.append([])
            widest = int(lengths[i])
        batches[-1].append(rows[i])
    for b in rng.permutation(len(batches)):
        yield batches[b]


def noise_mels(corpus: Corpus, limit: int = 200) -> list[np.ndarray]:
    """Mels of the corpus's sound events, for mixing into speech."""
    return [corpus.mel(row) for row in corpus.split()[0] if row.clip.source in NOISE_SOURCES][:limit]


def mix_mels(mel: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `noise` to `mel` in the power domain, both normalised log-mels [frames, mels]; exact up to phase."""
    speech, other = 10.0 ** (4 * mel - 4), 10.0 ** (4 * noise - 4)
    gain = speech.mean() / max(other.mean(), 1e-12) * 10 ** (-snr_db / 10)
    logs = np.log10(np.maximum(speech + gain * other, 1e-10))
    return (np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0


def spec_augment(mel: np.ndarray, rng: np.random.Generator, *, bands: int = 2, spans: int = 3) -> np.ndarray:
    """Blank random mel bands and time spans with the clip's mean (SpecAugment, Park et al. 2019)."""
    out, fill = mel.copy(), float(mel.mean())
    frames, n_mels = mel.shape
    for _ in range(bands):
        width = int(rng.integers(0, 22))
        low = int(rng.integers(0, n_mels - width))
        out[:, low : low + width] = fill
    for _ in range(min(spans, frames // 60)):
        width = int(rng.integers(0, 16))
        start = int(rng.integers(0, frames - width))
        out[start : start + width] = fill
    return out


def warp_bands(mel: np.ndarray, factor: float) -> np.ndarray:
    """Stretch the mel axis about its foot: above 1 a shorter vocal tract (VTLP, Jaitly and Hinton 2013)."""
    n_mels = mel.shape[1]
    where = np.minimum(np.arange(n_mels, dtype=np.float32) / factor, n_mels - 1)
    low = np.minimum(where.astype(int), n_mels - 2)
    share = (where - low).astype(np.float32)
    return mel[:, low] * (1 - share) + mel[:, low + 1] * share


def _augmented(mel: np.ndarray, noises: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    if noises and rng.random() < 0.1:
        noise = np.asarray(noises[rng.integers(len(noises))], dtype=np.float32)
        start = int(rng.integers(len(noise)))
        noise = np.resize(np.roll(noise, -start, axis=0), mel.shape)
        mel = mix_mels(mel, noise, snr_db=rng.uniform(3, 25))
    if rng.random() < 0.5:  # another vocal tract
        mel = warp_bands(mel, rng.uniform(0.9, 1.12))
    if rng.random() < 0.3:  # a tilted microphone: a slow slope over the bands
        mel = mel + np.linspace(-1, 1, mel.shape[1], dtype=np.float32) * rng.uniform(-0.12, 0.12)
    return spec_augment(mel, rng) if rng.random() < 0.25 else mel


def collate(
    corpus: Corpus, rows: Sequence[Row], *, rng: np.random.Generator | None = None, noises: Sequence[np.ndarray] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack the mels of `rows`; see `stack_mels`."""
    return stack_mels([corpus.mel(row) for row in rows], rng=rng, noises=noises)


def stack_mels(
    stored: Sequence[np.ndarray], *, rng: np.random.Generator | None = None, noises: Sequence[np.ndarray] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack log-mels [frames, 128] of any lengths; with `rng` they are augmented.

    Returns:
        mels float32 [clip, 128, T] padded on the right with 0.0, and `wav_lens` int32 [clip].
    """
    mels = [np.asarray(mel, dtype=np.float32) for mel in stored]
    if rng is not None:
        mels = [_augmented(mel, noises, rng) for mel in mels]
    batch = np.zeros((len(mels), mels[0].shape[1], max(len(mel) for mel in mels)), dtype=np.float32)
    for i, mel in enumerate(mels):
        batch[i, :, : len(mel)] = mel.T
    return torch.from_numpy(batch), torch.tensor([usable_length(len(mel)) for mel in mels], dtype=torch.int32)
