"""Call the right tool with the right arguments when one is needed, and none when none is.

    system (persona, today) | tools offered | human | assistant: "Let me check." <tts_end> <tool_call>...</tool_call>
    input: result           | assistant: what follows from it

    StepEval-Audio-Toolcall's figures over many examples (`rates`):
      trigger precision   calls that were wanted   / calls made        a call where none is wanted is a false alarm
      trigger recall      wanted calls made        / calls wanted
      type                of the right tool        / wanted calls made
      parameters          with the right arguments / calls of the right tool that has any

Whether a call of another tool is a false alarm of this one is left open by the benchmark; `rates` takes both readings.

Source: the public description of StepEval-Audio-Toolcall; the call and result format of the official examples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.audio import Waveform
from model.chat import parse_tool_calls
from model.messages import Control, Conversation, Message, Part, Text, ToolCall
from model.options import GenerationOptions
from model.tasks import prompts
from model.tasks.base import Example, Score, Task
from model.tasks.chat import Chat
from model.tokens import TTS_END, TTS_START

CALL_SHARE, TOOL_SHARE = 0.3, 0.3
"""Parts of the reward for calling when one should, and for the right tool; the rest is for the arguments."""
_SMALL_WORDS = re.compile(r"\b(?:the|an|a|on|in|of|please)\b|[\W_]+|的", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """What became of one example."""

    wanted: str
    """Tool that should have been called; empty for none."""
    called: str
    """Tool that was called first; empty for none."""
    arguments_right: bool
    """Whether its arguments say the same as the wanted ones; False where the tool is another."""
    has_arguments: bool
    """Whether the wanted call has any."""
    malformed: bool = False
    """Whether something between the tags could not be read."""
    near: str = ""
    """For examples that want no call: the tool that they sound like, or want instead of this one."""


@dataclass(frozen=True)
class Rates:
    """Shares of right decisions, 0 to 1; None where nothing counts."""

    precision: float | None
    recall: float | None
    type: float | None
    parameters: float | None
    n: int


class ToolUse(Task):
    """Decide on a tool; the hypothesis is the reply with control tokens spelled out.

    Metadata: `call`, the wanted `ToolCall` or None; `tools`, names that were offered; `near` for negatives.
    The value is 1 if everything is right, else 0.
    """

    name = "tool_calls"
    prompt = prompts.TOOLS
    options = GenerationOptions(max_new_tokens=1024)

    @staticmethod
    def conversation(
        waveform: Waveform | str,
        *,
        name: str = "",
        offered: Message | None = None,
        today: str = "",
        history: Sequence[tuple[Waveform | str, str]] = (),
        speak: bool = False,
    ) -> Conversation:
        """Ask with tools on offer.

        Args:
            waveform: The recording, or typed text.
            name: What people call it.
            offered: `Toolbox.message()`; None offers no tool.
            today: The date in words (`model.tools.clock.date_words`), for the system prompt.
            history: What was said before.
            speak: Whether the reply is spoken.
        """
        system = prompts.TOOLS + (f"今天是{today}。" if today else "")
        first, *rest = Chat.conversation(waveform, name=name, history=history, speak=speak, system=system)
        return (first, *([offered] if offered else []), *rest)

    @classmethod
    def example(
        cls,
        said: Waveform | str,
        reference: str,
        *,
        id: str,
        call: ToolCall | None,
        offered: Message | None = None,
        today: str = "",
        near: str = "",
        **metadata: Any,
    ) -> Example:
        """Make one request with the call it wants, or none."""
        conversation = cls.conversation(said, name=id, offered=offered, today=today)
        return Example(id, conversation, reference, {"call": call, "near": near, **metadata})

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """Whether trigger, tool and arguments are all right, 1 or 0."""
        found = outcome(hypothesis, example)
        right = found.wanted == found.called and (found.arguments_right or not found.wanted) and not found.malformed
        wanted, called = found.wanted or "no call", found.called or "no call"
        problem = "arguments differ" if wanted == called else f"called {called}, wanted {wanted}"
        return Score(
            float(right), called, "right" if right else "a call that cannot be read" if found.malformed else problem
        )

    @classmethod
    def reward(cls, hypothesis: str, example: Example) -> float:
        """1 for everything right, parts of it for a call of the right kind, 0 for a false alarm or a silent miss."""
        found = outcome(hypothesis, example)
        if not found.wanted or not found.called or found.malformed:
            return cls.score(hypothesis, example).value or 0.0
        same = found.wanted == found.called
        rest = 1 - CALL_SHARE - TOOL_SHARE
        return CALL_SHARE + TOOL_SHARE * same + rest * (same and found.arguments_right)


def with_call(conversation: Conversation, lead: str, call: ToolCall) -> Conversation:
    """Close the open turn with a few words and a call, as the model should have written it.

    A turn that speaks says the words between `<tts_start>` and `<tts_end>`; the call follows as plain text.
    """
    *before, last = conversation
    speaks = Control(TTS_START) in last.parts
    said: tuple[Part, ...] = (Text(lead),) if lead else ()
    end: tuple[Part, ...] = (Control(TTS_END),) if speaks else ()
    return (*before, Message("assistant", (*last.parts, *said, *end, call)))


def with_result(conversation: Conversation, result: str, *, speak: bool = False) -> Conversation:
    """Hand a result to the model, with the official request to sum it up, and open its turn."""
    opened = Message("assistant", (Control(TTS_START),) if speak else (), closed=False)
    return (*conversation, Message("input", (Text(result + prompts.TOOL_RESULT),)), opened)


def outcome(hypothesis: str, example: Example) -> Outcome:
    """Read the first call of a reply and compare it with the wanted one."""
    wanted: ToolCall | None = example.metadata.get("call")
    found = parse_tool_calls(hypothesis, example.metadata.get("tools"))
    made = found.calls[0] if found.calls else None
    same = bool(wanted and made and wanted.name == made.name and same_arguments(wanted.arguments, made.arguments))
    return Outcome(
        wanted=wanted.name if wanted else "",
        called=made.name if made else "",
        arguments_right=same,
        has_arguments=bool(wanted and wanted.arguments),
        malformed=bool(found.malformed),
        near=example.metadata.get("near", ""),
    )


def same_arguments(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether two calls say the same: the same names, the same words but for case, marks, articles and spaces."""
    return set(wanted) == set(given) and all(_plain(wanted[key]) == _plain(given[key]) for key in wanted)


def _plain(value: Any) -> str:
    return _SMALL_WORDS.sub("", str(value)).casefold()


def rates(outcomes: Sequence[Outcome], tool: str = "", *, any_call_is_false: bool = True) -> Rates:
    """Sum up decisions, over all tools or about one.

    Args:
        outcomes: Of positives and negatives.
        tool: Only examples that want this tool, or sound like it.
        any_call_is_false: Whether, where no call of `tool` is wanted, a call of another tool is a false alarm too.
    """
    about = [o for o in outcomes if not tool or tool in (o.wanted, o.near)]
    positives = [o for o in about if o.wanted and (not tool or o.wanted == tool)]
    negatives = [o for o in about if o not in positives]
    alarms = [o for o in negatives if o.called and (any_call_is_false or o.called == tool)]
    made = [o for o in positives if o.called]
    typed = [o for o in made if o.called == o.wanted]
    checked = [o for o in typed if o.has_arguments]
    return Rates(
        precision=_share(len(made), len(made) + len(alarms)),
        recall=_share(len(made), len(positives)),
        type=_share(len(typed), len(made)),
        parameters=_share(sum(o.arguments_right for o in checked), len(checked)),
        n=len(about),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
