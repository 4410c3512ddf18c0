"""A conversation as one file to keep: a zip of `conversation.json` and every sound.

    conversation.json      what was said, thought, called and answered; how long it took; what later turns read
    audio/001-said-1.flac  recordings of the person, in the order in which they were heard
    audio/001-answer.flac  the spoken answer

For reading and archiving; nothing in it can run. Text is written as it was, so whoever shows it has to escape it.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from model.audio import Waveform
from model.conversation_state import ConversationState, Exchange
from model.events import StageTiming, ThoughtDelta, Turn
from model.messages import Audio, AudioCodes, Control, Message, Part, RawIds, Text, Thought, ToolCall, ToolResult

FORMAT = "step-audio-conversation-1"
JSON_NAME = "conversation.json"


def export_conversation(
    state: ConversationState, target: str | Path | IO[bytes], *, about: Mapping[str, Any] | None = None
) -> None:
    """Write a conversation.

    Args:
        state: The conversation; a turn under way is not in it.
        target: Path or binary file of the zip.
        about: What else to note, such as the model's name: plain JSON values.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        sounds = _Sounds(archive)
        record = {
            "format": FORMAT,
            "about": dict(about or {}),
            "system": state.system,
            "exchanges": [_exchange(number, e, sounds) for number, e in enumerate(state.exchanges, 1)],
            "unanswered": _message(state.unanswered, "unanswered", sounds) if state.unanswered else None,
        }
        archive.writestr(JSON_NAME, json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False))


class _Sounds:
    """Writes sounds beside the JSON and names them there."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, name: str, waveform: Waveform) -> dict[str, Any]:
        import soundfile

        file, buffer = f"audio/{name}.flac", BytesIO()
        # FLAC cannot hold nothing, so a sound of no length becomes one sample.
        samples = waveform.samples if len(waveform.samples) else np.zeros(1, np.float32)
        soundfile.write(buffer, np.clip(samples, -1, 1), waveform.sample_rate_hz, format="FLAC")
        self._archive.writestr(zipfile.ZipInfo(file), buffer.getvalue())
        return {"file": file, "seconds": round(waveform.duration_s, 3)}


def _exchange(number: int, exchange: Exchange, sounds: _Sounds) -> dict[str, Any]:
    turn, name = exchange.turn, f"{number:03d}"
    return {
        "said": _message(exchange.asked, f"{name}-said", sounds)["parts"],
        "thought": {"text": turn.thought, **_thinking(exchange)} if turn.thought else None,
        "tools": _tools(turn),
        "answer": {
            "text": turn.text,
            "sound": sounds.add(f"{name}-answer", turn.waveform) if turn.waveform else None,
            "voice": exchange.voice,
            "reason": turn.reason,
            "note": turn.message,
        },
        "seconds": round(turn.seconds, 3),
        "stages_s": _stages(turn.timings),
        "prompt_tokens": turn.prompt_tokens,
        "new_tokens": turn.new_tokens,
        "read_later": [_message(m, f"{name}-{k}", sounds) for k, m in enumerate(exchange.replied)],
    }


def _thinking(exchange: Exchange) -> dict[str, Any]:
    events = [event for each in exchange.rounds if each.kind == "thought" for event in each.events]
    n_tokens = sum(len(event.ids) for event in events if isinstance(event, ThoughtDelta))
    return {"tokens": n_tokens, "seconds": _stages(exchange.turn.timings).get("think")}


def _stages(timings: Sequence[StageTiming]) -> dict[str, float]:
    """Sum up the stages of a turn by name."""
    sums: dict[str, float] = {}
    for timing in timings:
        sums[timing.stage] = sums.get(timing.stage, 0.0) + timing.end_s - timing.start_s
    return {stage: round(seconds, 4) for stage, seconds in sums.items()}


def _tools(turn: Turn) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "name": call.name,
            "arguments": dict(call.arguments),
            "result": result.content,
            "failed": result.failed,
            "seconds": round(result.seconds, 4),
            "source": result.source,
            "data": dict(result.data),
        }
        for call, result in zip(turn.tool_calls, turn.tool_results, strict=False)
    ]


def _message(message: Message, name: str, sounds: _Sounds) -> dict[str, Any]:
    parts = [_part(part, f"{name}-{place}", sounds) for place, part in enumerate(message.parts, 1)]
    return {"role": message.role, "parts": parts}


def _part(part: Part, name: str, sounds: _Sounds) -> dict[str, Any]:
    match part:
        case Text(text) | Thought(text):
            return {"type": type(part).__name__.lower(), "text": text}
        case Audio(waveform, called):
            return {"type": "audio", "name": called, **sounds.add(name, waveform)}
        case Control(token):
            return {"type": "control", "token": token}
        case RawIds(ids):
            return {"type": "ids", "ids": list(ids)}
        case AudioCodes(codes, text):
            return {"type": "codes", "codes": list(codes), "text": text}
        case ToolCall(tool, arguments, call_id):
            return {"type": "tool_call", "name": tool, "arguments": dict(arguments), "id": call_id}
        case ToolResult(content, tool, call_id):
            return {"type": "tool_result", "content": content, "name": tool, "id": call_id}
    raise AssertionError(f"a part without a record: {type(part).__name__}")
