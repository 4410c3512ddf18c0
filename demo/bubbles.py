"""How a turn of a conversation looks while it happens: events in, bubbles out.

    Bubbles ──advance(event)──> Bubbles ──messages──> what gr.Chatbot draws: thought > tools > words > sound

Pure steps, so all of it is tested with hand-made events. Whatever the model or a tool wrote is shown as characters.
"""

import html
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from demo.errors import Problem
from demo.player import Feed
from demo.texts import Texts
from demo.transcript import ENDINGS, UNDER_WAY, Phase
from model.audio import Waveform
from model.events import (
    AudioCodesDelta,
    AudioDelta,
    Event,
    StageTiming,
    TextDelta,
    ThoughtDelta,
    ToolCallEvent,
    ToolResultEvent,
    TurnDone,
)
from model.messages import Audio, Message, Text

MAX_RESULT = 1_000
"""Characters of a result that a bubble shows."""
FileOf = Callable[[Waveform], str]


@dataclass(frozen=True)
class Call:
    """A tool call, and its result once it is there."""

    asked: ToolCallEvent
    result: ToolResultEvent | None = None


@dataclass(frozen=True)
class Bubbles:
    """One picture of a turn."""

    asked: Message | None = None
    phase: Phase = "starting"
    thought: str = ""
    thought_tokens: int = 0
    thought_s: float | None = None
    """How long it thought; None while it thinks, or if it did not."""
    began_s: float = 0.0
    """When the thought began."""
    steps: tuple[str | Call, ...] = ()
    """Words and tool calls, in their order."""
    n_codes: int = 0
    feed: Feed = field(default_factory=Feed)
    sound: Waveform | None = None
    """The whole spoken answer, once it is over."""
    total_s: float | None = None
    waited_s: float = 0.0
    note: str = ""
    problem: Problem | None = None

    @property
    def is_under_way(self) -> bool:
        """True until the turn has come to an end."""
        return self.phase in UNDER_WAY

    @property
    def text(self) -> str:
        """The words of the answer."""
        return "".join(step for step in self.steps if isinstance(step, str)).strip()

    @classmethod
    def at(cls, phase: Phase) -> "Bubbles":
        """Return a turn that has nothing to show yet but where it is."""
        return cls(phase=phase)

    def stopped(self) -> "Bubbles":
        """Return how this looks once it was stopped; what was said stays."""
        return replace(self, phase="stopped", feed=self.feed.finish()) if self.is_under_way else self

    def failed(self, problem: Problem) -> "Bubbles":
        """Return how this looks when something went wrong."""
        return replace(self, phase="failed", problem=problem, feed=self.feed.finish())


def advance(seen: Bubbles, event: Event) -> Bubbles:
    """Return the picture after one more event."""
    match event:
        case ThoughtDelta():
            began_s = seen.began_s if seen.thought_tokens else event.t_s
            n_tokens = seen.thought_tokens + len(event.ids)
            return replace(
                seen, phase="thinking", thought=seen.thought + event.text, thought_tokens=n_tokens, began_s=began_s
            )
        case StageTiming(stage="think"):
            return replace(seen, thought_s=event.end_s - event.start_s)
        case TextDelta():
            return replace(seen, phase="writing", steps=_with_words(seen.steps, event.text))
        case ToolCallEvent():
            return replace(seen, phase="tool", steps=(*seen.steps, Call(event)))
        case ToolResultEvent():
            steps = (replace(s, result=event) if _is_call(s, event.id) else s for s in seen.steps)
            return replace(seen, phase="listening", steps=tuple(steps))
        case AudioCodesDelta():
            return replace(seen, n_codes=seen.n_codes + len(event.codes))
        case AudioDelta():
            return replace(seen, phase="speaking", feed=seen.feed.add(event.waveform))
        case TurnDone():
            end = {"phase": ENDINGS[event.reason], "total_s": event.t_s, "note": event.message}
            return replace(seen, feed=seen.feed.finish(), **end)
    return seen


def _is_call(step: str | Call, call_id: str) -> bool:
    return isinstance(step, Call) and step.asked.id == call_id


def _with_words(steps: tuple[str | Call, ...], words: str) -> tuple[str | Call, ...]:
    if steps and isinstance(steps[-1], str):
        return (*steps[:-1], steps[-1] + words)
    return (*steps, words.lstrip("\n"))


# --- what the chatbot is given ---------------------------------------------------------------------


def messages(seen: Bubbles, number: int, file_of: FileOf, texts: Texts) -> list[dict[str, Any]]:
    """Lay a turn out as chatbot messages.

    Args:
        seen: The turn.
        number: Its place in the conversation; makes the ids of what folds.
        file_of: Returns the file of a sound.
        texts: Words for the page.
    """
    shown = [_asked(seen.asked, file_of)] if seen.asked else []
    thought_id = f"thought-{number}" if seen.thought_tokens or seen.thought else None
    if thought_id:
        shown.append(_thought(seen, thought_id, texts))
    parent_id = thought_id
    for place, step in enumerate(seen.steps):
        if isinstance(step, Call):
            shown.append(_call(step, f"call-{number}-{place}", parent_id, seen.is_under_way, texts))
        elif step.strip():
            shown.append({"role": "assistant", "content": as_characters(step)})
            parent_id = None  # a call after words stands after them, not in the thought before
    if seen.sound is not None:
        shown.append({"role": "assistant", "content": {"path": file_of(seen.sound)}})
    elif not seen.is_under_way and seen.problem is None and not seen.text:
        shown.append({"role": "assistant", "content": texts("chat_no_words")})
    return shown


def as_characters(text: str) -> str:
    """Write text as HTML that shows it as it is: the chatbot draws HTML, and would fetch what an `<img>` names."""
    return html.escape(text.strip(), quote=False).replace("\n", "<br>")


def _asked(message: Message, file_of: FileOf) -> dict[str, Any]:
    content: list[Any] = []
    for part in message.parts:
        if isinstance(part, Audio):
            content.append({"path": file_of(part.waveform), "alt_text": part.name})
        elif isinstance(part, Text):
            content.append(html.escape(part.text, quote=False))
    return {"role": "user", "content": content}


def _thought(seen: Bubbles, thought_id: str, texts: Texts) -> dict[str, Any]:
    thinks = seen.thought_s is None and seen.is_under_way
    metadata = {
        "title": texts("chat_thought"),
        "id": thought_id,
        "status": "pending" if thinks else "done",
        "log": texts("chat_tokens", n=seen.thought_tokens),
    }
    if seen.thought_s is not None:
        metadata["duration"] = round(seen.thought_s, 2)
    return {"role": "assistant", "content": as_characters(seen.thought) or "…", "metadata": metadata}


def _call(call: Call, call_id: str, parent_id: str | None, is_under_way: bool, texts: Texts) -> dict[str, Any]:
    """A call folds, within the thought that led to it: name, arguments, what came back, from where and how fast."""
    arguments = json.dumps(dict(call.asked.arguments), ensure_ascii=False)
    lines = [f"{texts('chat_arguments')}: {arguments}"]
    metadata: dict[str, Any] = {"title": texts("chat_tool", name=call.asked.name), "id": call_id, "status": "pending"}
    if parent_id:
        metadata["parent_id"] = parent_id
    if call.result is not None:
        key = "chat_tool_failed" if call.result.failed else "chat_result"
        content = call.result.content
        lines.append(f"{texts(key)}: {content[:MAX_RESULT]}{'…' if len(content) > MAX_RESULT else ''}")
        metadata |= {"status": "done", "duration": round(call.result.seconds, 2), "log": call.result.source}
    elif not is_under_way:
        metadata["status"] = "done"
    return {"role": "assistant", "content": as_characters("\n".join(lines)), "metadata": metadata}
