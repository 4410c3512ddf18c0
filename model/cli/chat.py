"""`chat FILE... [--think] [--tools]`: talk to the assistant; each recording is one turn of the same conversation."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from model.audio import Waveform
from model.cli.command import (
    FAILURES,
    Command,
    Outcome,
    add_common,
    add_length,
    failure,
    hear,
    one_line,
    outcome_of,
    rounded,
)
from model.events import Turn, collect
from model.tasks.chat import Chat

if TYPE_CHECKING:
    from model.assistant import Assistant
    from model.checkpoint import LoadedModel
    from model.conversation_state import ConversationState

MOST_TOKENS = 2048
"""As the official demo has it."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings of what is said, in their order")
    parser.add_argument("--think", action="store_true", help="think before answering")
    parser.add_argument("--tools", action="store_true", help="let it ask for the time, the weather and the web")
    parser.add_argument("--offline", action="store_true", help="keep the tools off the network")
    add_common(parser)
    add_length(parser, MOST_TOKENS)


def _run(loaded: "LoadedModel", args: argparse.Namespace) -> Iterator[Outcome]:
    from model.assistant import Assistant, ConversationState

    assistant, state = Assistant.from_model(loaded, options=_options(args)), ConversationState()
    for name in args.files:
        sound = hear(name)
        yield _answered(assistant, state, name, sound) if isinstance(sound, Waveform) else sound


def _options(args: argparse.Namespace) -> Any:
    """How the turns go; a thought may be as long as an answer."""
    from model.tools.standard import CLOCK, WEATHER, WEB, standard_toolbox
    from model.turn import TurnOptions

    options = TurnOptions(think=args.max_new_tokens if args.think else "none")
    generation = replace(options.generation, max_new_tokens=args.max_new_tokens, seed=args.seed)
    if args.tools:  # a search for voices is of no use where nothing is spoken
        tools = standard_toolbox(use=(CLOCK, WEATHER, WEB), online=not args.offline)
        options = replace(options, tools=tools)
    return replace(options, generation=generation)


def _answered(assistant: "Assistant", state: "ConversationState", name: str, sound: Waveform) -> Outcome:
    """One turn; a turn that fails leaves the conversation as it was."""
    try:
        turn = collect(assistant.say(state, sound))
    except FAILURES as error:
        return failure(name, error, duration_s=rounded(sound.duration_s))
    calls = _calls(turn)
    more = {"thought": one_line(turn.thought)} if turn.thought else {}
    more |= {"tool_calls": calls} if calls else {}
    remarks = [f"thought: {more['thought']}"] if turn.thought else []
    remarks += [f"{call['name']} {call['arguments']}: {one_line(call['result'])}" for call in calls]
    notes = (turn.message,) if turn.reason != "error" else ()
    return outcome_of(name, turn, sound, *notes, more=more, remarks=tuple(remarks))


def _calls(turn: Turn) -> list[dict[str, Any]]:
    """Each call with its result."""
    results = {result.id: result for result in turn.tool_results}
    told = []
    for call in turn.tool_calls:
        result = results.get(call.id)
        told.append(
            {
                "name": call.name,
                "arguments": dict(call.arguments),
                "result": result.content if result else "",
                "failed": result.failed if result else True,
                "seconds": rounded(result.seconds) if result else 0.0,
            }
        )
    return told


CHAT = Command("chat", "answer what is said to the assistant", (Chat.name,), _add_arguments, _run)
