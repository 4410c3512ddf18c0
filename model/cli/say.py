"""`say TEXT --voice NAME --out FILE`: read a text aloud."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.audio import save_waveform
from model.cli.command import FAILURES, Command, Outcome, add_common, failure, outcome_of, rounded
from model.errors import BackendError
from model.tasks.tts import TTS

if TYPE_CHECKING:
    from model.checkpoint import LoadedModel


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", help="what to read, a sentence or two")
    parser.add_argument("--voice", metavar="NAME", help="one of the model's voices, or a recording to sound like")
    parser.add_argument("--out", required=True, metavar="FILE", type=_sound_file, help="a .wav, .flac or .ogg file")
    add_common(parser)


def _sound_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".wav", ".flac", ".ogg"):
        raise argparse.ArgumentTypeError(f"{text!r} ends in none of .wav, .flac and .ogg")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def _run(loaded: "LoadedModel", args: argparse.Namespace) -> Iterator[Outcome]:
    try:
        yield _spoken(loaded, args)
    except FAILURES as error:
        yield failure(args.text, error)


def _spoken(loaded: "LoadedModel", args: argparse.Namespace) -> Outcome:
    from model.backends.local import LocalBackend
    from model.events import collect
    from model.speaking import speak

    token2wav = loaded.token2wav
    if token2wav is None:
        raise _cannot("a model that writes but has no voice", "a checkpoint with token2wav/")
    names = token2wav.voices.names
    if args.voice is None and not names:
        raise _cannot("a model without a voice of its own", "--voice with a recording")
    voice = args.voice or names[0]
    if voice not in names and Path(voice).is_file():
        voice = token2wav.make_voice(voice, name="recording")
    options = replace(TTS.options, seed=args.seed)
    turn = collect(speak(LocalBackend(loaded), token2wav, args.text, voice, options))
    if turn.waveform is None:
        raise _cannot("an answer without speech", "speech codes")
    save_waveform(args.out, turn.waveform)
    more = {"out": str(args.out), "voice": args.voice or names[0]}
    outcome = outcome_of(args.text, turn, more=more, remarks=(f"{more['out']}, in the voice {more['voice']}",))
    return replace(outcome, duration_s=rounded(turn.waveform.duration_s))


def _cannot(found: str, expected: str) -> BackendError:
    todo = "Name a checkpoint that speaks with --model"
    return BackendError("read the text aloud", found=found, expected=expected, todo=todo)


SAY = Command("say", "read a text aloud, into a sound file", (TTS.name,), _add_arguments, _run)
