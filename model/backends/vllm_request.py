"""What a vLLM server is asked: a conversation and options as the JSON of a chat completion. Pure: nothing is sent here.

Two servers speak two dialects of the OpenAI format:

                 StepFun's fork of vLLM                          vllm-omni
    sound in     input_audio, 25 s of 16 kHz int16 WAV each      audio_url, the same as a data: address
    history      tts_content {tts_text, tts_audio}, tool_calls   text, tool_calls
    roles        human, assistant, input                         user, assistant, tool
    tools        tools (the turn `tool_json_schemas`)            the same
    open turn    continue_final_message, content "<tts_start>"   the same
    sampling     in the request itself                           sampling_params_list, one entry per stage
    sound out    codes as text, "<audio_17>"                     24 kHz WAV

A server tokenises strings, so control tokens travel as their names. Those that a person typed or a tool returned are
defused first (a space after the `<`), because the server would obey them. Both servers put the sound of a human turn
in front of its text, wherever it stood; a closed turn loses its thoughts, as everywhere.

Source: StepFun's vLLM client (`stepaudio2vllm.py`) and the server's protocol; the README of vllm-omni's Step-Audio 2.
"""

import base64
import io
import json
import re
import wave
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform, n_audio_tokens, split_chunks, to_pcm16
from model.chat import THINK_PREFIX, THINK_SUFFIX, parse_tool_calls, with_reply
from model.errors import AudioError, ConversationError, OptionsError
from model.messages import (
    Audio,
    AudioCodes,
    Control,
    Conversation,
    Message,
    Part,
    RawIds,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from model.options import GenerationOptions
from model.tokens import EOS_NAMES, OFFICIAL_N_CODES, TOOL_CALL, TOOL_CALL_END, TTS_END, TTS_PAD, TTS_START, code_name

if TYPE_CHECKING:
    from model.processing_step_audio_2 import StepAudio2Processor

OFFICIAL_EOS = (151643, 151645, 151665)
"""Ids that end a reply; vllm-omni has to be told."""
_CONTROL_LOOKALIKE = re.compile(
    r"<(?=(?:\|\w{1,40}\||/?tool_call|tts_(?:start|end|pad)|audio_(?:start|end|patch|\d+))>)"
)
_CODE_NAME = re.compile(r"<audio_\d+>")
_SPOKEN = re.compile(f"{TTS_START}(.*?)(?:{TTS_END}|$)", re.DOTALL)


@dataclass(frozen=True)
class Dialect:
    """How one kind of server wants to be asked."""

    name: str
    """What `dialect=` calls it."""
    roles: tuple[tuple[str, str], ...]
    """(our role, its role) where they differ."""
    audio_url: bool
    """Sound as a `data:` address instead of `input_audio`."""
    speaks: bool
    """It answers with sound; otherwise with codes."""

    def role(self, ours: str) -> str:
        """Return the server's name for a role."""
        return dict(self.roles).get(ours, ours)


STEPFUN = Dialect("stepfun", (), audio_url=False, speaks=False)
OMNI = Dialect("omni", (("human", "user"), ("input", "tool")), audio_url=True, speaks=True)
DIALECTS = {dialect.name: dialect for dialect in (STEPFUN, OMNI)}


def request_body(
    conversation: Conversation,
    options: GenerationOptions,
    *,
    model: str,
    dialect: Dialect = STEPFUN,
    processor: "StepAudio2Processor | None" = None,
    logprobs: bool = False,
) -> dict[str, Any]:
    """Put one question into the server's words.

    Args:
        conversation: Messages; a closed last turn is followed by an assistant turn as the options say.
        options: How to write; `repetition_guard` is the client's own business.
        model: What the server calls its model.
        dialect: Kind of server.
        processor: Spells out raw ids of earlier replies; only needed if there are some.
        logprobs: Ask for the log-probability of each id.

    Raises:
        ConversationError: If something has no form on the wire.
        AudioError: If a recording is too short to be heard.
    """
    messages = with_reply(conversation, speak=options.speak, think=options.think)
    if messages[-1].role != "assistant":  # the prompts of the base model have no roles at all
        found = f"an open turn of the role {messages[-1].role!r}"
        raise _untold(found, "Leave only an assistant's turn open; ask a base model in this process")
    goes_on = bool(messages[-1].parts)
    told, tools = _messages(messages if goes_on else messages[:-1], dialect, processor)
    body = {
        "model": model,
        "messages": told,
        "stream": True,
        "stream_options": {"include_usage": True},
        "continue_final_message": goes_on,
        "add_generation_prompt": not goes_on,
        "return_token_ids": True,  # newer servers tell them; older ones ignore the wish
    }
    body |= _sampling(options, dialect, speaks=opening(body).endswith(TTS_START))
    if logprobs:
        body |= {"logprobs": True, "return_tokens_as_token_ids": True}
    return body | ({"tools": tools, "parallel_tool_calls": False} if tools else {})


def opening(body: Mapping[str, Any]) -> str:
    """What the reply goes on from, in the words of a request body."""
    return body["messages"][-1]["content"] if body["continue_final_message"] else ""


def _sampling(options: GenerationOptions, dialect: Dialect, *, speaks: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "repetition_penalty": options.repetition_penalty,
        "skip_special_tokens": False,
    }
    values |= {"top_k": options.top_k} if options.top_k else {}
    values |= {"seed": options.seed} if options.seed is not None else {}
    if options.stop:
        values |= {"stop": list(options.stop), "include_stop_str_in_output": True}
    if not dialect.speaks:
        return values
    thinker = values | {"stop_token_ids": list(OFFICIAL_EOS)}
    vocoder = {"temperature": 0.0, "max_tokens": 1}
    return {"sampling_params_list": [thinker, vocoder], "modalities": ["text", "audio"] if speaks else ["text"]}


# --- messages -----------------------------------------------------------------------------------------------------


def _messages(
    conversation: Iterable[Message], dialect: Dialect, processor: "StepAudio2Processor | None"
) -> tuple[list[dict[str, Any]], list[Any]]:
    """All turns but those that declare tools, and the tools."""
    told: list[dict[str, Any]] = []
    tools: list[Any] = []
    for message in conversation:
        if message.role == "tool_json_schemas":
            tools += _schemas(message)
        elif message.role == "assistant":
            told.append(_assistant(message, dialect, processor))
        else:
            told.append(_other(message, dialect))
    if tools and not any(message["role"] == "system" for message in told):
        told.insert(0, {"role": "system", "content": ""})  # without one, StepFun's template leaves a turn open
    return told, tools


def _schemas(message: Message) -> list[Any]:
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    try:
        schemas = json.loads(text)
    except ValueError:
        schemas = None
    if not isinstance(schemas, list):
        raise _untold(f"tools declared as {text!r:.60}", "Declare them as a JSON list of function objects")
    return schemas


def _other(message: Message, dialect: Dialect) -> dict[str, Any]:
    """A system, human or input turn."""
    items = [item for part in message.parts for item in _items(part, dialect)]
    merged: list[dict[str, Any]] = []
    for item in items:  # a server may put a newline between two texts; one text it cannot change
        if merged and item["type"] == merged[-1]["type"] == "text":
            merged[-1] = {"type": "text", "text": merged[-1]["text"] + item["text"]}
        else:
            merged.append(item)
    told: dict[str, Any] = {"role": dialect.role(message.role), "content": merged}
    if all(item["type"] == "text" for item in merged) and message.role != "input":
        told["content"] = "".join(item["text"] for item in merged)
    ids = [part.id for part in message.parts if isinstance(part, ToolResult)]
    return told | ({"tool_call_id": ids[0] or "call_0"} if ids else {})


def _items(part: Part, dialect: Dialect) -> list[dict[str, Any]]:
    match part:
        case Text(text) | ToolResult(content=text):
            return [{"type": "text", "text": defused(text)}]
        case Audio(waveform):
            return [_audio_item(piece, dialect) for piece in _audible(waveform)]
    raise _untold(f"a part of type {type(part).__name__} outside the assistant's turns", "Use Text and Audio there")


def _assistant(message: Message, dialect: Dialect, processor: "StepAudio2Processor | None") -> dict[str, Any]:
    """A reply; an open one as the string to go on from, a closed one taken apart."""
    spelled = "".join(_spelled(part, message.closed, processor) for part in message.parts)
    if not message.closed:
        return {"role": "assistant", "content": spelled}
    for name in EOS_NAMES:
        spelled = spelled.removesuffix(name)
    said = "".join(_SPOKEN.findall(spelled))
    calls = parse_tool_calls(_SPOKEN.sub("", spelled))
    told: dict[str, Any] = {"role": "assistant", "content": calls.content}
    if said and dialect.speaks:
        told["content"] = calls.content + _CODE_NAME.sub("", said)
    elif said:
        audio = "".join(name for name in _CODE_NAME.findall(said) if name != code_name(OFFICIAL_N_CODES))
        told["tts_content"] = {"tts_text": _CODE_NAME.sub("", said).replace(TTS_PAD, ""), "tts_audio": audio}
        told |= {} if calls.content else {"content": None}
    if calls.calls:
        given = iter([part.id for part in message.parts if isinstance(part, ToolCall)])
        told["tool_calls"] = [_call(call, next(given, "") or call.id) for call in calls.calls]
    return told


def _call(call: ToolCall, call_id: str) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _spelled(part: Part, closed: bool, processor: "StepAudio2Processor | None") -> str:
    """One part of a reply as characters, control tokens by name."""
    match part:
        case Text(text):
            return defused(text)
        case Control(name):
            return name
        case Thought(text):
            return "" if closed else THINK_PREFIX + defused(text) + THINK_SUFFIX
        case AudioCodes(codes, text):
            return TTS_START + defused(text) + "".join(map(code_name, codes)) + TTS_END
        case ToolCall(name, arguments):
            call = f"function\n{name}\n{json.dumps(dict(arguments), ensure_ascii=False)}"
            return TOOL_CALL + call + TOOL_CALL_END
        case RawIds(ids):
            return spelled_ids(ids, processor)
    raise _untold(f"a part of type {type(part).__name__} in an assistant's turn", "Say it as Text or AudioCodes")


def spelled_ids(ids: Sequence[int], processor: "StepAudio2Processor | None") -> str:
    """Spell ids: control tokens and codes by name, and text that only looks like one defused."""
    if processor is None:
        todo = "Give the backend the processor of the same checkpoint, or keep replies as Text and AudioCodes"
        raise _untold("raw ids of an earlier reply", todo)
    spelled, text_ids = [], []
    named = processor.tokenizer.get_added_vocab().values()
    for token_id in [*ids, None]:
        if token_id is not None and token_id not in named:
            text_ids.append(token_id)
            continue
        spelled.append(defused(processor.decode(text_ids)))
        text_ids = []
        spelled += [] if token_id is None else [processor.tokenizer.convert_ids_to_tokens(token_id)]
    return "".join(spelled)


def defused(text: str) -> str:
    """The text with a space inside whatever a server would read as a control token."""
    return _CONTROL_LOOKALIKE.sub("< ", text)


def _untold(found: str, todo: str) -> ConversationError:
    return ConversationError(
        "send a conversation to the server", found=found, expected="turns that its chat format can carry", todo=todo
    )


# --- sound --------------------------------------------------------------------------------------------------------


def _audible(waveform: Waveform) -> list[Waveform]:
    """Pieces of at most 25 s that take at least one position; a shorter tail is dropped, as it is everywhere."""
    pieces = split_chunks(waveform.resample(INPUT_SAMPLE_RATE_HZ))
    audible = [piece for piece in pieces if n_audio_tokens(len(piece.samples))]
    if not audible:
        raise AudioError(
            "send a recording to the server",
            found=f"{waveform.duration_s:.3f} s of sound",
            expected="more than 0.02 s",
            todo="Record again",
        )
    return audible


def _audio_item(piece: Waveform, dialect: Dialect) -> dict[str, Any]:
    data = base64.b64encode(wav_bytes(piece)).decode("ascii")
    if dialect.audio_url:
        return {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def wav_bytes(waveform: Waveform) -> bytes:
    """The sound as a 16-bit mono WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(waveform.sample_rate_hz)
        file.writeframes(to_pcm16(waveform))
    return buffer.getvalue()


def dialect_of(name: str) -> Dialect:
    """The dialect called `name`.

    Raises:
        OptionsError: If there is none.
    """
    if name not in DIALECTS:
        raise OptionsError(
            "talk to a server",
            found=f"the dialect {name!r}",
            expected=f"one of {', '.join(DIALECTS)}",
            todo="Take stepfun for StepFun's fork of vLLM, omni for vllm-omni",
        )
    return DIALECTS[name]
