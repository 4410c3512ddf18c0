"""The command line: `python -m model transcribe | translate | ask | say | chat`.

One line per input on standard output, in the order given; problems and remarks as one sentence each on standard error.
The exit status is 0 when every input was done, 1 when any failed (the others are still done), 2 for wrong usage.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from model.cli.ask import ASK
from model.cli.chat import CHAT
from model.cli.command import FAILURES, Command, Outcome
from model.cli.say import SAY
from model.cli.transcribe import TRANSCRIBE
from model.cli.translate import TRANSLATE

if TYPE_CHECKING:
    from model.checkpoint import LoadedModel

COMMANDS = {command.name: command for command in (TRANSCRIBE, TRANSLATE, ASK, SAY, CHAT)}
Loader = Callable[[str, str], "LoadedModel"]
"""From model name and device to a loaded model."""


def main(argv: Sequence[str] | None = None, *, load: Loader | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name.
        load: Stands in for `model.checkpoint.load_model`, in tests.

    Returns:
        The exit status.
    """
    args = build_parser().parse_args(argv)
    command = COMMANDS[args.command]
    try:
        loaded = (load or _load)(args.model, args.device)
    except FAILURES as error:
        _complain(args.command, str(error))
        return 1
    _warn(command, loaded)
    return _report(command.run(loaded, args), args)


def build_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    parser = argparse.ArgumentParser(prog="python -m model", description="Ask a Step-Audio 2 model about recordings.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_arguments(commands.add_parser(command.name, help=command.help, description=command.help))
    return parser


def _load(name: str, device: str) -> "LoadedModel":
    from model.checkpoint import load_model

    return load_model(name, device=device)


def _warn(command: Command, loaded: "LoadedModel") -> None:
    """Say what the model was trained for, if that is not this; it is asked all the same."""
    trained = loaded.info.trained_tasks
    if trained is not None and not set(command.tasks) & set(trained):
        known = ", ".join(trained) or "nothing"
        _complain(command.name, f"note: {loaded.info.name} was trained for {known}, so the answer will not be of use")


def _report(outcomes: Iterator[Outcome], args: argparse.Namespace) -> int:
    """Print outcomes as they come; the exit status."""
    failed, several = False, len(getattr(args, "files", ())) > 1
    for outcome in outcomes:
        if args.json:
            print(outcome.to_json(args.model), flush=True)
        elif outcome.error is None:
            print(f"{outcome.input}: {outcome.text}" if several else outcome.text, flush=True)
        remarks = () if args.json else outcome.remarks
        problem = outcome.error or (outcome.note and f"note: {outcome.note}")
        for line in (*remarks, *([problem] if problem else [])):
            _complain(args.command, f"{outcome.input}: {line}")
        failed = failed or outcome.error is not None
    return int(failed)


def _complain(command: str, text: str) -> None:
    print(f"{command}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
