"""The tools that are switched on: how the model is told of them, and how its calls are run.

    Toolbox([Clock(), Weather()]).message()  ->  <|BOT|>tool_json_schemas\\n[{"type": "function", ...}]<|EOT|>
    reply text  ──parse──> ToolCalls  ──run, one by one──> Outcome  ──.part──>  <|BOT|>input\\n...<|EOT|>

`run` never raises and never hangs: wrong arguments, an unknown name, a tool that fails, breaks, hangs, floods or is
cancelled all become an `Outcome` that says so, which the model reads like any other result.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model.chat import Message, Text, ToolCall, ToolCalls, ToolResult, parse_tool_calls
from model.errors import ToolError
from model.events import ToolCallEvent, ToolResultEvent
from model.tools.arguments import check_arguments, check_schema
from model.tools.base import Tool, ToolContext, ToolOutput, guard, shorten
from model.tools.waiting import Cancelled, Late, within

MAX_TEXT_CHARS = 2_000
"""Longest result a model reads; the rest is cut."""
MAX_DATA_BYTES = 64_000
MAX_RUNNING = 8
"""Calls under way in one process, those included that nobody waits for any more."""
_log = logging.getLogger(__name__)
_places = threading.BoundedSemaphore(MAX_RUNNING)


@dataclass(frozen=True)
class Outcome:
    """What became of one call."""

    call: ToolCall
    text: str
    """The result, or what went wrong, as the model reads it."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The result for programs; empty when it failed."""
    source: str = ""
    """Where the result comes from, in words."""
    failed: bool = False
    seconds: float = 0.0
    """From the call to the result."""

    @property
    def part(self) -> ToolResult:
        """The result as part of an `input` message."""
        return ToolResult(self.text, self.call.name, self.call.id)

    def events(self, call_t_s: float) -> tuple[ToolCallEvent, ToolResultEvent]:
        """Write the call and its result as events of a turn; the result comes `seconds` after the call."""
        asked = ToolCallEvent(self.call.name, self.call.arguments, self.call.id, call_t_s)
        return asked, self.result_event(call_t_s + self.seconds)

    def result_event(self, t_s: float) -> ToolResultEvent:
        """Write the result as an event of a turn."""
        known = {"seconds": self.seconds, "source": self.source, "data": self.data}
        return ToolResultEvent(self.text, self.call.name, self.call.id, t_s, self.failed, **known)


class Toolbox:
    """The tools of one conversation; none at all is fine, and the default of a new conversation."""

    def __init__(self, tools: Iterable[Tool] = (), *, max_chars: int = MAX_TEXT_CHARS) -> None:
        self.tools: dict[str, Tool] = {}
        self.max_chars = max_chars
        for tool in tools:
            check_schema(tool.name, tool.description, tool.parameters)
            if tool.name in self.tools:
                raise ToolError(
                    f"add the tool {tool.name!r}",
                    found="another tool of this name",
                    expected="one tool per name",
                    todo="Give one of them another name: `type(tool)(name=...)`",
                )
            self.tools[tool.name] = tool

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tools, in order."""
        return tuple(self.tools)

    def only(self, names: Collection[str]) -> "Toolbox":
        """Return a toolbox with some of these tools, in the same order."""
        return Toolbox((tool for name, tool in self.tools.items() if name in names), max_chars=self.max_chars)

    def schemas(self) -> list[dict[str, Any]]:
        """Describe the tools as the official examples do: a list of function objects."""
        return [
            {
                "type": "function",
                "function": {"name": name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for name, tool in self.tools.items()
        ]

    def message(self) -> Message | None:
        """Return the turn that tells the model of its tools, to follow the system turn; None without tools."""
        if not self.tools:
            return None
        return Message("tool_json_schemas", (Text(json.dumps(self.schemas(), ensure_ascii=False)),))

    def parse(self, text: str) -> ToolCalls:
        """Find the calls in a reply; names that are not in this box are malformed."""
        return parse_tool_calls(text, self.names)

    def run(self, call: ToolCall, context: ToolContext | None = None) -> Outcome:
        """Run one call and wait for it, at most as long as the tool allows.

        Args:
            call: As `parse` found it.
            context: Who asks, and when.
        """
        started = time.monotonic()
        try:
            output = self._answer(call, context or ToolContext())
        except ToolError as error:
            text = guard(shorten(f"{call.name} failed. {error}", self.max_chars))
            return Outcome(call, text, failed=True, seconds=time.monotonic() - started)
        text = shorten(guard(output.text), self.max_chars)
        return Outcome(call, text, output.data, output.source, seconds=time.monotonic() - started)

    def refuse(self, malformed: str) -> Outcome:
        """Answer a call that could not be read, so that the model may write it better.

        Args:
            malformed: What stood between the tags, as `ToolCalls.malformed` has it.
        """
        error = ToolError(
            "read a tool call",
            found=f"{malformed[:200]!r}",
            expected=f"function, a name among {', '.join(self.names) or 'none'} and a JSON object, on three lines",
            todo="Write it again, or answer without it",
        )
        name = (malformed.split("\n") + ["", ""])[1][:64]
        return Outcome(ToolCall(name), guard(shorten(str(error), self.max_chars)), failed=True)

    def _answer(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        tool = self.tools.get(call.name)
        if tool is None:
            raise ToolError(
                f"call {call.name!r:.80}",
                found="no such tool",
                expected=f"one of {', '.join(self.names) or 'none: all are switched off'}",
                todo="Answer without it",
            )
        arguments = check_arguments(tool.name, call.arguments, tool.parameters)
        return _checked(tool, _wait(tool, lambda: tool.run(arguments, context), context.cancel))


def _wait(tool: Tool, work: Callable[[], ToolOutput], cancel: threading.Event | None) -> Any:
    """Run a tool so that one that hangs costs a thread and not the conversation, and one that breaks costs nothing."""
    places = _places
    if not places.acquire(blocking=False):
        found = f"{MAX_RUNNING} calls that are still under way"
        raise _failure(tool, found, "fewer at once", "Try again in a minute, or answer without it")
    try:
        return within(tool.timeout_s, lambda: _and_leave(work, places), name=f"tool-{tool.name}", cancel=cancel)
    except Late as error:
        raise _failure(tool, f"no result after {tool.timeout_s:g} s", "one by then", "Answer without it") from error
    except Cancelled as error:
        found, expected = "that the turn was cancelled", "someone who waits for the result"
        raise _failure(tool, found, expected, "Ask again") from error
    except ToolError:
        raise
    except Exception as error:
        _log.exception("the tool %s broke", tool.name)
        # Its own words may name files or addresses of this machine, which are nobody's business.
        found = f"a fault inside the tool ({type(error).__name__})"
        raise _failure(tool, found, "a result", "Answer without it") from error


def _and_leave(work: Callable[[], Any], places: threading.Semaphore) -> Any:
    try:
        return work()
    finally:
        places.release()


def _checked(tool: Tool, output: Any) -> ToolOutput:
    """Refuse a result that is none, or that no record could keep."""
    if not isinstance(output, ToolOutput) or not isinstance(output.text, str) or not output.text.strip():
        raise _failure(tool, f"an object of type {type(output).__name__}", "some text", "Answer without it")
    try:
        size = len(json.dumps(dict(output.data), allow_nan=False, ensure_ascii=False).encode("utf-8", "replace"))
    except (TypeError, ValueError, RecursionError) as error:
        raise _failure(tool, "a result that is no JSON", "plain numbers, texts and lists", "Report it") from error
    if size > MAX_DATA_BYTES:
        raise _failure(tool, f"{size:,} bytes of data", f"at most {MAX_DATA_BYTES:,}", "Ask for less")
    return output


def _failure(tool: Tool, found: str, expected: str, todo: str) -> ToolError:
    return ToolError(f"use {tool.name}", found=found, expected=expected, todo=todo)
