"""What the flow learns from, computed once: the codes of every clip and the voice of every clip, kept on disk.

    shard files --trained tokenizer--> codes_3f2a91c0.npy     int16, all codes in the order of the rows
                --speaker network----> voices_77b01e5d.npy    float32 [clip, 192]

The names hold a checksum of the network's file: another network means other files, never old numbers.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.errors import StepAudioError
from model.token2wav.speaker import SpeakerEncoder
from model.training.voice import sizes
from model.training.voice.corpus import VoiceCorpus, VoiceRow
from model.training.voice.speaker import corpus_voices
from model.training.voice.speech_tokenizer import corpus_codes, load


@dataclass(frozen=True)
class Spoken:
    """A clip with everything the flow needs; to `batches.epoch` it looks like a row of a corpus."""

    corpus: VoiceCorpus
    row: VoiceRow
    codes: np.ndarray
    """int16 [code]."""
    voice: np.ndarray
    """float32 [192], not normalised."""

    @property
    def frames(self) -> int:
        """Length at 100 Hz."""
        return self.row.frames

    @property
    def mel(self) -> np.ndarray:
        """Mel at 50 Hz, float16 [2 * code, 80]."""
        return self.corpus.prompt_mel(self.row)


def prepare(corpus: VoiceCorpus, folder: Path) -> list[Spoken]:
    """Read or compute what belongs to the clips of a corpus.

    Args:
        corpus: The clips; the files are kept in its folder.
        folder: Where the trained tokenizer and speaker network lie.

    Raises:
        StepAudioError: If one of the networks has not been trained yet.
    """
    _trained(folder, sizes.TOKENIZER_FILE, "speech_tokenizer")
    speaker = _trained(folder, sizes.SPEAKER_FILE, "speaker")
    codes = prepare_codes(corpus, folder)
    voices = _kept(corpus, speaker, "voices", len(corpus), lambda: corpus_voices(SpeakerEncoder(speaker), corpus))
    return [Spoken(corpus, row, *known) for row, *known in zip(corpus.rows, codes, voices)]


def prepare_codes(corpus: VoiceCorpus, folder: Path) -> list[np.ndarray]:
    """Read or compute the codes of every clip, int16 [code] each; see `prepare`."""
    tokenizer = _trained(folder, sizes.TOKENIZER_FILE, "speech_tokenizer")
    lengths = [row.codes for row in corpus.rows]
    codes = _kept(corpus, tokenizer, "codes", sum(lengths), lambda: np.concatenate(corpus_codes(load(folder), corpus)))
    return np.split(codes, np.cumsum(lengths)[:-1])


def by_speaker(clips: Sequence[Spoken]) -> dict[str, list[Spoken]]:
    """Group clips by who speaks, guises apart."""
    found: dict[str, list[Spoken]] = {}
    for clip in clips:
        found.setdefault(clip.row.speaker, []).append(clip)
    return found


def _trained(folder: Path, name: str, stage: str) -> Path:
    path = Path(folder) / name
    if not path.is_file():
        raise StepAudioError(
            "prepare clips for the flow",
            found=f"no {name} in '{folder}'",
            expected="the trained tokenizer and speaker network",
            todo=f"Run: python -m model.training.voice.{stage} --out {folder}.",
        )
    return path


def _kept(corpus: VoiceCorpus, network: Path, kind: str, length: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Read what this network made of this corpus, or make it; a corpus that has grown is done again."""
    path = corpus.folder / f"{kind}_{zlib.crc32(network.read_bytes()):08x}.npy"
    if path.exists() and len(found := np.load(path)) == length:
        return found
    made, partial = make(), path.with_suffix(".partial.npy")
    np.save(partial, made)
    partial.rename(path)
    return made
