"""Nano's built-in voices: for each of six teachers the recording that sounds most like them, made into a voice.

    voice corpus --teacher as it is, 3 to 5 s, checked--> recordings --nearest to their mean speaker vector--> Voice

The teachers are synthesis engines and joined syllables, so no voice is that of a person who was not asked.

`python -m model.training.voice.builtin_voices --corpus runs/voice --out model/nano/token2wav` writes
`voices/NAME.safetensors`; it needs the trained speech tokenizer and speaker network of that folder.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize

from model.errors import StepAudioError
from model.token2wav.loading import VOICES_FOLDER
from model.token2wav.recording import examine
from model.token2wav.speaker import SpeakerEncoder
from model.token2wav.voice import SUFFIX, Voice, VoiceMaker
from model.training import voices
from model.training.voice import sizes
from model.training.voice.corpus import VoiceCorpus, VoiceRow
from model.training.voice.speech_tokenizer import load

logger = logging.getLogger(__name__)
MIN_SECONDS, MAX_SECONDS = 3.0, 5.0
CANDIDATES = 40
"""Recordings of a teacher that are compared, the longest ones."""


@dataclass(frozen=True)
class Builtin:
    """A voice that ships with nano."""

    name: str
    teacher: str
    """Name in `model.training.voices`."""
    english: str
    """What it is like, in English and in Chinese."""
    chinese: str


BUILTIN = (
    Builtin("Grace", "rhvoice-slt", "Woman, American English, clear and even", "女声，美式英语，清晰平稳"),
    Builtin("Henry", "rhvoice-bdl", "Man, American English, calm and low", "男声，美式英语，沉稳低缓"),
    Builtin("Edith", "pico-en-GB", "Woman, British English, soft", "女声，英式英语，柔和"),
    Builtin("Lan", "concatenation-yuetan", "Woman, Mandarin, bright", "女声，普通话，明亮"),
    Builtin("Mei", "concatenation-davinfifield", "Woman, Mandarin, gentle", "女声，普通话，温和"),
    Builtin("Shan", "concatenation-yuetan-male", "Man, Mandarin, deep", "男声，普通话，低沉"),
)


def candidates(corpus: VoiceCorpus, teacher: str) -> list[VoiceRow]:
    """List recordings of a teacher as it is that can be a voice, the longest first, at most `CANDIDATES`."""
    rows = [row for row in corpus.rows if row.speaker == teacher and MIN_SECONDS <= row.duration_s <= MAX_SECONDS]
    good = [row for row in rows if row.clip.text and examine(corpus.waveform(row)).problem is None]
    return sorted(good, key=lambda row: (-row.duration_s, row.clip.id))[:CANDIDATES]


def most_typical(corpus: VoiceCorpus, rows: Sequence[VoiceRow], speaker: SpeakerEncoder) -> VoiceRow:
    """Return the recording whose speaker vector is nearest to the mean direction of all of them."""
    vectors = normalize(torch.cat([speaker.embed(corpus.waveform(row)) for row in rows]), dim=1)
    return rows[int((vectors @ normalize(vectors.mean(dim=0), dim=0)).argmax())]


def make_voice(corpus: VoiceCorpus, builtin: Builtin, maker: VoiceMaker) -> Voice:
    """Make one built-in voice.

    Raises:
        StepAudioError: If the corpus has no recording of the teacher that can be a voice.
    """
    rows = candidates(corpus, builtin.teacher)
    if not rows:
        raise StepAudioError(
            f"make the voice {builtin.name!r}",
            found=f"no fitting recording of {builtin.teacher}",
            expected=f"one of {MIN_SECONDS:g} to {MAX_SECONDS:g} s in '{corpus.folder}'",
            todo="Make the corpus with this engine installed: python -m model.training.voice.corpus.",
        )
    row = most_typical(corpus, rows, maker.speaker)
    licence = f"{voices.find_voice(builtin.teacher).licence}; synthetic speech of {builtin.teacher}"
    words = {"transcript": row.clip.text, "description": f"{builtin.english}\n{builtin.chinese}", "licence": licence}
    return maker.make(corpus.waveform(row), name=builtin.name, **words)


def make_all(corpus: VoiceCorpus, folder: Path, chosen: Sequence[Builtin] = BUILTIN) -> list[Path]:
    """Make the built-in voices with the networks of a folder and write them into it; returns the files.

    Teachers that are missing are left out and logged.

    Raises:
        StepAudioError: If none of them is there, or the networks have not been trained.
    """
    maker, made = VoiceMaker(load(folder), SpeakerEncoder(Path(folder) / sizes.SPEAKER_FILE)), []
    for builtin in chosen:
        try:
            voice = make_voice(corpus, builtin, maker)
        except StepAudioError as error:
            logger.warning("left out: %s", error)
            missing = error
            continue
        made.append(voice.save(Path(folder) / VOICES_FOLDER / f"{voice.name}{SUFFIX}"))
        logger.info("%s: %s, %.1f s, %r", voice.name, builtin.teacher, voice.duration_s, voice.transcript)
    if not made:
        raise missing
    return made


def build_parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("runs/voice"))
    parser.add_argument("--out", type=Path, default=sizes.FOLDER, help="folder of the trained networks")
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args()
    make_all(VoiceCorpus(args.corpus), args.out)
