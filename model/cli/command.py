"""What the commands share: outcomes, flags, and recordings answered in batches.

    files ──load──> sounds ──conversation_of──> prompts ──generate_batch──> turns ──> Outcome, one per file, in order

A file that fails does not stop the others: where a batch fails as a whole, it is done again one by one.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from model.audio import Waveform, load_waveform, quality_note
from model.errors import StepAudioError
from model.events import Turn
from model.messages import Conversation
from model.options import GenerationOptions

if TYPE_CHECKING:
    from model.checkpoint import LoadedModel

FAILURES = (StepAudioError, RuntimeError, MemoryError, OSError)
"""What one input may fail with without taking the others down; torch says RuntimeError for lack of memory too."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    input: str
    """The file or the text as it was given."""
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
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else the command tells, as plain JSON values."""
    remarks: tuple[str, ...] = ()
    """Lines for people that are not the answer, such as calls of tools."""

    def to_json(self, model: str) -> str:
        """One JSON line; what is unknown is left out."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        known = {name: value for name, value in known.items() if name not in ("more", "remarks")}
        return json.dumps({**known, **self.more, "model": model}, ensure_ascii=False)


@dataclass(frozen=True)
class Command:
    """One command of the command line."""

    name: str
    help: str
    tasks: tuple[str, ...]
    """Names of the tasks a model has to be trained for, `Task.name`."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[["LoadedModel", argparse.Namespace], Iterator[Outcome]]


# --- flags --------------------------------------------------------------------------------------------------------


GREEDY_SEED = "make draws repeatable (these answers are greedy, so nothing is drawn)"


def add_common(parser: argparse.ArgumentParser, *, seed: str = "make draws repeatable") -> None:
    """Add the flags of every command."""
    add = parser.add_argument
    add("--model", default="nano", help="nano, a checkpoint folder or a Hub id (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    add("--seed", type=int, help=seed)
    add("--json", action="store_true", help="one JSON object per line instead of text")


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the recordings and how many of them go at once."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound file of any kind and rate")
    parser.add_argument(
        "--batch-size", type=positive, default=8, metavar="N", help="files at once (default: %(default)s)"
    )


def add_length(parser: argparse.ArgumentParser, most: int) -> None:
    """Add the limit of an answer."""
    text = "longest answer (default: %(default)s)"
    parser.add_argument("--max-new-tokens", type=positive, default=most, metavar="N", help=text)


def positive(text: str) -> int:
    """Read a whole number above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


# --- recordings -> answers ----------------------------------------------------------------------------------------


def file_command(
    name: str,
    help: str,
    *,
    tasks: tuple[str, ...],
    options: GenerationOptions,
    asked: Callable[[Waveform, str, argparse.Namespace], Conversation],
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> Command:
    """Make a command that asks one thing about every recording.

    Args:
        name: What it is called.
        help: What it does.
        tasks: Tasks a model has to be trained for.
        options: How to write.
        asked: From recording, file name and flags to the question.
        add_arguments: Adds the flags of its own.
    """

    def add(parser: argparse.ArgumentParser) -> None:
        add_files(parser)
        add_arguments(parser)
        add_common(parser, seed=GREEDY_SEED)
        add_length(parser, options.max_new_tokens)

    def run(loaded: "LoadedModel", args: argparse.Namespace) -> Iterator[Outcome]:
        chosen = replace(options, max_new_tokens=args.max_new_tokens, seed=args.seed)
        return answer_files(
            loaded,
            args.files,
            lambda waveform, file: asked(waveform, file, args),
            chosen,
            batch_size=args.batch_size,
        )

    return Command(name, help, tasks, add, run)


def answer_files(
    loaded: "LoadedModel",
    files: Sequence[str],
    conversation_of: Callable[[Waveform, str], Conversation],
    options: GenerationOptions,
    *,
    batch_size: int,
) -> Iterator[Outcome]:
    """Answer about files in their order, some at once.

    Args:
        loaded: The model.
        files: Names of recordings.
        conversation_of: From a recording and its name to the question.
        options: How to write.
        batch_size: Files at once.
    """
    for start in range(0, len(files), batch_size):
        names = files[start : start + batch_size]
        heard = {index: hear(name) for index, name in enumerate(names)}
        good = {index: sound for index, sound in heard.items() if isinstance(sound, Waveform)}
        asked = [(names[i], good[i], conversation_of(good[i], names[i])) for i in good]
        answers = dict(zip(good, _answer(loaded, asked, options), strict=True))
        yield from (answers.get(index, heard[index]) for index in range(len(names)))


def hear(name: str) -> Waveform | Outcome:
    """The recording, or the outcome of not being able to read it."""
    try:
        return load_waveform(name)
    except FAILURES as error:
        return failure(name, error)


def _answer(
    loaded: "LoadedModel", asked: Sequence[tuple[str, Waveform, Conversation]], options: GenerationOptions
) -> list[Outcome]:
    """Answer all at once; if that fails, one by one, so that only the culprit fails."""
    from model.generation import generate_batch

    try:
        turns = generate_batch(loaded.model, loaded.processor, [each[2] for each in asked], options)
    except FAILURES as error:
        if len(asked) > 1:
            return [outcome for one in asked for outcome in _answer(loaded, [one], options)]
        name, waveform, _ = asked[0]
        return [failure(name, error, duration_s=rounded(waveform.duration_s))]
    return [outcome_of(name, turn, waveform) for (name, waveform, _), turn in zip(asked, turns, strict=True)]


def outcome_of(name: str, turn: Turn, waveform: Waveform | None = None, *notes: str, **more: Any) -> Outcome:
    """What became of an input that was answered.

    Args:
        name: The input.
        turn: Its answer.
        waveform: The recording, if the input is one.
        notes: What else is remarkable.
        more: Further fields of `Outcome`.
    """
    cut = {
        "length": f"the answer was cut after {turn.new_tokens} tokens",
        "repetition": "the answer ran in a loop and was broken off",
    }
    quality = quality_note(waveform) if waveform is not None else None
    told = [note for note in (quality, cut.get(turn.reason), *notes) if note]
    return Outcome(
        name,
        text=one_line(turn.text),
        duration_s=None if waveform is None else rounded(waveform.duration_s),
        seconds=rounded(turn.seconds),
        new_tokens=turn.new_tokens,
        reason=turn.reason,
        note="; ".join(told) or None,
        **more,
    )


def failure(name: str, error: BaseException, **more: Any) -> Outcome:
    """What became of an input that failed."""
    return Outcome(name, error=one_line(str(error)) or type(error).__name__, **more)


def one_line(text: str) -> str:
    """The text without line breaks and runs of blanks."""
    return " ".join(text.split())


def rounded(seconds: float) -> float:
    """Seconds to the millisecond."""
    return round(seconds, 3)
