"""What the speech tokenizer learns to hear from: clips of several corpora, one list.

The corpora of the ASR stages keep their log-mels with the 479 zeros that the model's front end adds; the tokenizer
hears sound without them, so those frames are cut off here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.audio import HOP_SAMPLES
from model.training import batches
from model.training.corpus import Clip, Corpus, Row
from model.training.voice.corpus import VoiceCorpus, VoiceRow


@dataclass(frozen=True)
class Heard:
    """A clip of one of the corpora; to losses and batches it looks like a row of any of them."""

    corpus: Corpus | VoiceCorpus
    row: Row | VoiceRow

    @property
    def clip(self) -> Clip:
        """What is said, and in which language."""
        return self.row.clip

    @property
    def words(self) -> tuple[tuple[str, float, float], ...]:
        """Times of the words, (text, start_s, end_s); empty where nobody knows."""
        return self.row.words

    @property
    def frames(self) -> int:
        """Frames of the log-mel without padding, 100 Hz."""
        return self.row.frames if isinstance(self.row, VoiceRow) else self.row.samples // HOP_SAMPLES

    def mel(self) -> np.ndarray:
        """Log-mel without padding, float16 [frame, 128]."""
        return self.corpus.mel(self.row)[: self.frames]


def with_words(corpora: Iterable[Corpus | VoiceCorpus]) -> tuple[list[Heard], list[Heard]]:
    """Gather the clips in which something is said: those to train on, and those to watch."""
    train, watched = [], []
    for corpus in corpora:
        own_train, own_watched = corpus.split()
        train += [Heard(corpus, row) for row in own_train if row.clip.text]
        watched += [Heard(corpus, row) for row in own_watched if row.clip.text]
    return train, watched


def everything(corpus: Corpus | VoiceCorpus) -> list[Heard]:
    """Gather all clips of a corpus in which something is said."""
    return [Heard(corpus, row) for row in corpus.rows if row.clip.text]


def collate(
    clips: Sequence[Heard], *, rng: np.random.Generator | None = None, noises: Sequence[np.ndarray] = ()
) -> tuple[Tensor, Tensor]:
    """Stack log-mels; with `rng` they are augmented as for the encoder.

    Returns:
        mels float32 [clip, 128, T] padded with 0.0, and the frames of each clip, int64 [clip].
    """
    mels, _ = batches.stack_mels([clip.mel() for clip in clips], rng=rng, noises=noises)
    return mels, torch.tensor([clip.frames for clip in clips])
