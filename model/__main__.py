"""The command line: `python -m model transcribe FILE...` and `python -m model say TEXT`.

One line per input on standard output, in the order given; problems as one sentence each on standard error. The exit
status is 0 when every input was done, 1 when any failed (the others are still done), 2 for wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.audio import Waveform, load_waveform, quality_note, save_waveform
from model.errors import CheckpointError, StepAudioError
from model.options import GenerationOptions
from model.tasks.asr import ASR
from model.tasks.tts import TTS

if TYPE_CHECKING:
    from model.checkpoint import LoadedModel

FAILURES = (StepAudioError, RuntimeError, MemoryError, OSError)
"""What one input may fail with without taking the others down; torch says RuntimeError for lack of memory too."""

Loader = Callable[[str, str], "LoadedModel"]
"""From model name and device to a loaded model."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    input: str
    """The file as it was named."""
    text: str | None = None
    """The answer on one line; None if there is none."""
    duration_s: float | None = None
    """Length of the recording."""
    seconds: float | None = None
    """From the start of its batch to the end of its answer."""
    new_tokens: int | None = None
    reason: str | None = None
    """Why the answer ended, see `model.events.TurnDone`."""
    note: str | None = None
    """What is remarkable about the recording or the answer, such as "silent"."""
    error: str | None = None
    """Why it failed, as a sentence."""

    def to_json(self, model: str) -> str:
        """One JSON line; what is unknown is left out."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        return json.dumps({**known, "model": model}, ensure_ascii=False)


def main(argv: Sequence[str] | None = None, *, load: Loader | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name.
        load: Stands in for `model.checkpoint.load_model`, in tests.

    Returns:
        The exit status.
    """
    args = build_parser().parse_args(argv)
    try:
        load = load or partial(_load, voice=args.command == "say")
        loaded = load(args.model, args.device)
        if args.command == "say":
            print(say(loaded, args.text, args.voice, args.out, replace(TTS.options, seed=args.seed)), flush=True)
            return 0
    except FAILURES as error:
        _complain(args.command, str(error))
        return 1
    outcomes = transcribe(loaded, args.files, _options(args), batch_size=args.batch_size)
    return _report(outcomes, args)


def build_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    parser = argparse.ArgumentParser(prog="python -m model", description="Ask a Step-Audio 2 model about recordings.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    transcribe_parser = commands.add_parser("transcribe", help="write down what is said")
    say_parser = commands.add_parser("say", help="read a text aloud into a sound file")
    for each in (transcribe_parser, say_parser):
        each.add_argument(
            "--model", default="nano", help="nano, a checkpoint folder or a Hub id (default: %(default)s)"
        )
        each.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    add = say_parser.add_argument
    add("text", metavar="TEXT", help="a sentence or two")
    voices = "a built-in voice, or a recording of 3 to 15 s whose speaker has agreed (default: one that fits the text)"
    add("--voice", default="", help=voices)
    add("--out", default="speech.wav", metavar="FILE", help=".wav, .flac or .ogg (default: %(default)s)")
    add("--seed", type=int, default=0, help="the same text, voice and seed give the same sound (default: %(default)s)")
    add = transcribe_parser.add_argument
    add("files", nargs="+", metavar="FILE", help="sound file of any kind and rate")
    add("--seed", type=int, help="make draws repeatable (transcripts are greedy, so nothing is drawn)")
    add("--json", action="store_true", help="one JSON object per line instead of text")
    add("--batch-size", type=_positive, default=8, metavar="N", help="files at once (default: %(default)s)")
    limit = ASR.options.max_new_tokens
    add("--max-new-tokens", type=_positive, default=limit, metavar="N", help="longest answer (default: %(default)s)")
    return parser


def say(loaded: "LoadedModel", text: str, voice: str, out: str, options: GenerationOptions) -> str:
    """Read a text aloud into a sound file; return what there is to say about it, on one line.

    Raises:
        StepAudioError: If the model has no voice, or none of that name, or the text or the recording cannot be used.
    """
    from model.backends.local import LocalBackend
    from model.events import collect
    from model.speaking import speak
    from model.token2wav.voices import suited, voice_choice

    token2wav = loaded.token2wav
    if token2wav is None:
        found, todo = "no folder token2wav in it", "Use a checkpoint with a voice."
        raise CheckpointError(f"speak with {loaded.info.name!r}", found=found, expected="the voice networks", todo=todo)
    card = None if voice else suited(voice_choice(loaded.info.path).cards, text)
    chosen = token2wav.make_voice(voice, name="recording") if voice and Path(voice).is_file() else voice
    turn = collect(speak(LocalBackend(loaded), token2wav, text, card.name if card else chosen, options))
    if turn.waveform is None:
        todo = "Use a checkpoint that was trained to read aloud."
        raise CheckpointError("read it aloud", found="no speech codes in the reply", expected="some", todo=todo)
    save_waveform(out, turn.waveform)
    notes = {"length": ", cut at the longest reply", "repetition": ", broken off in a loop"}
    return f"{out}: {turn.waveform.duration_s:.1f} s in {turn.seconds:.1f} s{notes.get(turn.reason, '')}"


def transcribe(
    loaded: "LoadedModel", files: Sequence[str], options: GenerationOptions, *, batch_size: int
) -> Iterator[Outcome]:
    """Transcribe files in their order, some at once; a file that fails does not stop the others."""
    for start in range(0, len(files), batch_size):
        names = files[start : start + batch_size]
        heard = {index: _hear(name) for index, name in enumerate(names)}
        good = {index: sound for index, sound in heard.items() if isinstance(sound, Waveform)}
        answers = dict(zip(good, _answer(loaded, [(names[i], good[i]) for i in good], options), strict=True))
        yield from (answers.get(index, heard[index]) for index in range(len(names)))


def _hear(name: str) -> Waveform | Outcome:
    """The recording, or the outcome of not being able to read it."""
    try:
        return load_waveform(name)
    except FAILURES as error:
        return Outcome(name, error=_one_line(str(error)))


def _answer(loaded: "LoadedModel", sounds: Sequence[tuple[str, Waveform]], options: GenerationOptions) -> list[Outcome]:
    """Answer all at once; if that fails, one by one, so that only the culprit fails."""
    from model.generation import generate_batch

    conversations = [ASR.conversation(waveform, name=name) for name, waveform in sounds]
    try:
        turns = generate_batch(loaded.model, loaded.processor, conversations, options)
    except FAILURES as error:
        if len(sounds) > 1:
            return [outcome for sound in sounds for outcome in _answer(loaded, [sound], options)]
        return [Outcome(sounds[0][0], duration_s=_rounded(sounds[0][1].duration_s), error=_one_line(str(error)))]
    return [_outcome(name, waveform, turn) for (name, waveform), turn in zip(sounds, turns, strict=True)]


def _outcome(name: str, waveform: Waveform, turn: Any) -> Outcome:
    cut = {
        "length": f"the answer was cut after {turn.new_tokens} tokens",
        "repetition": "the answer ran in a loop and was broken off",
    }
    notes = [note for note in (quality_note(waveform), cut.get(turn.reason)) if note]
    return Outcome(
        name,
        text=_one_line(turn.text),
        duration_s=_rounded(waveform.duration_s),
        seconds=_rounded(turn.seconds),
        new_tokens=turn.new_tokens,
        reason=turn.reason,
        note="; ".join(notes) or None,
    )


def _report(outcomes: Iterator[Outcome], args: argparse.Namespace) -> int:
    """Print outcomes as they come; the exit status."""
    failed = False
    for outcome in outcomes:
        if args.json:
            print(outcome.to_json(args.model), flush=True)
        elif outcome.error is None:
            print(f"{outcome.input}: {outcome.text}" if len(args.files) > 1 else outcome.text, flush=True)
        if outcome.error or outcome.note:
            _complain(args.command, f"{outcome.input}: {outcome.error or 'note: ' + outcome.note}")
        failed = failed or outcome.error is not None
    return int(failed)


def _load(name: str, device: str, *, voice: bool = False) -> "LoadedModel":
    from model.checkpoint import load_model

    return load_model(name, device=device, voice=voice)


def _options(args: argparse.Namespace) -> GenerationOptions:
    return replace(ASR.options, max_new_tokens=args.max_new_tokens, seed=args.seed)


def _complain(command: str, text: str) -> None:
    print(f"{command}: {text}", file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
