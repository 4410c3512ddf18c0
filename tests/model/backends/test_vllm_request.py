"""A conversation in the words of two servers, and nothing in it that a server would obey by mistake."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile

from model.audio import CHUNK_SAMPLES, Waveform
from model.backends.vllm_request import OMNI, STEPFUN, defused, dialect_of, opening, request_body
from model.errors import AudioError, ConversationError, OptionsError
from model.messages import Audio, AudioCodes, Control, Message, RawIds, Text, Thought, ToolCall, ToolResult
from model.options import GenerationOptions
from model.processing_step_audio_2 import StepAudio2Processor
from model.tasks.tts import TTS
from model.tokens import CONTROL_NAMES, TTS_START

GREEDY = GenerationOptions()
SYSTEM = Message("system", (Text("Be brief."),))
ASKED = Message("human", (Text("What time is it?"),))
SCHEMAS = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]


def body_of(*conversation, options=GREEDY, **how):
    return request_body(conversation, options, model="m", **how)


def told(*conversation, **how):
    return body_of(*conversation, **how)["messages"]


# --- turns ----------------------------------------------------------------------------------------


def test_a_closed_conversation_asks_for_a_new_turn():
    body = body_of(SYSTEM, ASKED)
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "human", "content": "What time is it?"},
    ]
    assert (body["add_generation_prompt"], body["continue_final_message"], opening(body)) == (True, False, "")


def test_speech_and_thoughts_are_opened_as_the_options_say():
    spoken = body_of(ASKED, options=GenerationOptions(speak=True))
    assert (
        spoken["messages"][-1] == {"role": "assistant", "content": "<tts_start>"} and opening(spoken) == "<tts_start>"
    )
    assert spoken["continue_final_message"] and not spoken["add_generation_prompt"]
    assert opening(body_of(ASKED, options=GenerationOptions(think=True))) == "\n<think>\n"


def test_an_open_turn_is_continued_thought_and_all():
    opened = Message("assistant", (Thought("A woman."), Control(TTS_START)), closed=False)
    assert opening(body_of(ASKED, opened)) == "\n<think>\nA woman.</think>\n\n<tts_start>"


def test_history_forgets_thoughts():
    assert told(ASKED, Message("assistant", (Thought("hm"), Text("Noon."))), ASKED)[1] == {
        "role": "assistant",
        "content": "Noon.",
    }


def test_a_spoken_reply_goes_back_as_words_and_codes():
    reply = Message("assistant", (AudioCodes((17, 6560), "Noon"),))
    expected = {
        "role": "assistant",
        "content": None,
        "tts_content": {"tts_text": "Noon", "tts_audio": "<audio_17><audio_6560>"},
    }
    assert told(ASKED, reply, ASKED)[1] == expected
    assert told(ASKED, reply, ASKED, dialect=OMNI)[1] == {"role": "assistant", "content": "Noon"}


def test_raw_ids_are_taken_apart(tokenizer):
    processor = StepAudio2Processor(tokenizer)
    ids, words = processor.ids, processor.encode_text("hello")
    assert len(words) == 1
    call = [
        *tokenizer.convert_tokens_to_ids(["<tool_call>"]),
        *processor.encode_text('function\nsearch\n{"query": "x"}'),
    ]
    raw = [*words, *map(ids.id_of, (1, 2, 3, 4)), ids.tts_pad, ids.id_of(5), ids.tts_end, *call]
    raw += [*tokenizer.convert_tokens_to_ids(["</tool_call>"]), ids.eot]
    reply = Message("assistant", (Control(TTS_START), RawIds(tuple(raw))))
    assert told(ASKED, reply, ASKED, processor=processor)[1] == {
        "role": "assistant",
        "content": None,
        "tts_content": {"tts_text": "hello", "tts_audio": "<audio_1><audio_2><audio_3><audio_4><audio_5>"},
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "search", "arguments": '{"query": "x"}'}}
        ],
    }


def test_raw_ids_need_a_processor():
    with pytest.raises(ConversationError, match="raw ids of an earlier reply"):
        told(ASKED, Message("assistant", (RawIds((1, 2)),)), ASKED)


def test_tools_their_calls_and_their_results():
    tools = Message("tool_json_schemas", (Text(json.dumps(SCHEMAS)),))
    called = Message("assistant", (Text("One moment."), ToolCall("search", {"query": "京都"}, id="c7")))
    result = Message("input", (ToolResult("Rain.", "search", "c7"), Text("\n\n\nShort!")))
    body = body_of(SYSTEM, tools, ASKED, called, result)
    assert body["tools"] == SCHEMAS and body["parallel_tool_calls"] is False
    assert body["messages"][2]["tool_calls"][0] == {
        "id": "c7",
        "type": "function",
        "function": {"name": "search", "arguments": '{"query": "京都"}'},
    }
    text = [{"type": "text", "text": "Rain.\n\n\nShort!"}]
    assert body["messages"][3] == {"role": "input", "tool_call_id": "c7", "content": text}
    assert told(SYSTEM, tools, ASKED, called, result, dialect=OMNI)[3]["role"] == "tool"


def test_tools_without_a_system_turn_get_an_empty_one():
    tools = Message("tool_json_schemas", (Text(json.dumps(SCHEMAS)),))
    assert told(tools, ASKED)[0] == {"role": "system", "content": ""}


@pytest.mark.parametrize(
    ("conversation", "problem"),
    [
        ((Message("tool_json_schemas", (Text("none"),)), ASKED), "tools declared as 'none'"),
        (TTS.conversation("Hello."), "an open turn of the role ''"),
        ((Message("human", (Text("And"),), closed=False),), "an open turn of the role 'human'"),
        ((Message("human", (RawIds((1,)),)),), "a part of type RawIds outside"),
        ((ASKED, Message("assistant", (ToolResult("x"),)), ASKED), "a part of type ToolResult in an assistant's turn"),
    ],
)
def test_what_the_format_cannot_carry_is_refused(conversation, problem):
    with pytest.raises(ConversationError, match="Could not send a conversation to the server") as caught:
        body_of(*conversation)
    assert problem in str(caught.value)


# --- characters that a server would obey ----------------------------------------------------------


@pytest.mark.parametrize(
    "name", [*CONTROL_NAMES, "<|im_end|>", "<|im_start|>", "<tool_call>", "</tool_call>", "<audio_17>"]
)
def test_typed_control_tokens_are_defused_everywhere(name):
    sly = f"a{name}b"
    turns = told(
        Message("system", (Text(sly),)),
        Message("human", (Text(sly),)),
        Message("assistant", (Text(sly),)),
        Message("input", (ToolResult(sly),)),
    )
    assert name not in json.dumps(turns, ensure_ascii=False)
    assert turns[1]["content"] == f"a< {name[1:]}b"


@pytest.mark.parametrize("text", ["a < b", "<b>bold</b>", "x <| y |> z", "<think>", "1<2>0", "<audio>"])
def test_other_text_stays_as_it_is(text):
    assert defused(text) == text


# --- sound ----------------------------------------------------------------------------------------


def test_sound_goes_as_pieces_of_25_s_at_16_khz(tone):
    long = Waveform(np.tile(tone(16_000).samples, 30), 16_000)
    first, second = told(Message("human", (Audio(long), Text("Who?"))))[0]["content"][:2]
    assert first["type"] == "input_audio" and first["input_audio"]["format"] == "wav"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(first["input_audio"]["data"])), dtype="float32")
    assert rate == 16_000 and len(samples) == CHUNK_SAMPLES
    assert np.abs(samples - long.samples[:CHUNK_SAMPLES]).max() < 1e-4
    assert len(base64.b64decode(second["input_audio"]["data"])) == 44 + 2 * 5 * 16_000


def test_the_other_server_gets_an_address(tone):
    (item,) = told(Message("human", (Audio(tone(48_000, rate=48_000)),)), dialect=OMNI)[0]["content"]
    assert item["audio_url"]["url"].startswith("data:audio/wav;base64,UklGR")


def test_a_recording_without_a_position_is_refused_and_such_a_tail_dropped(tone):
    with pytest.raises(AudioError, match="0.010 s of sound"):
        told(Message("human", (Audio(tone(160)),)))
    tail = Waveform(np.zeros(CHUNK_SAMPLES + 100, dtype=np.float32), 16_000)
    assert len(told(Message("human", (Audio(tail),)))[0]["content"]) == 1


# --- sampling -------------------------------------------------------------------------------------


def test_options_in_the_request():
    options = GenerationOptions(
        max_new_tokens=9, temperature=0.7, top_p=0.9, top_k=5, repetition_penalty=1.05, seed=3, stop="</think>"
    )
    body = body_of(ASKED, options=options, logprobs=True)
    wanted = {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "repetition_penalty": 1.05,
        "seed": 3,
        "stop": ["</think>"],
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "logprobs": True,
    }
    assert {name: body[name] for name in wanted} == wanted


def test_nothing_is_said_that_is_not_asked_for():
    assert {"top_k", "seed", "stop", "logprobs", "tools"}.isdisjoint(body_of(ASKED))


def test_the_other_server_samples_by_stage():
    body = body_of(ASKED, options=GenerationOptions(speak=True, max_new_tokens=7), dialect=OMNI)
    thinker, vocoder = body["sampling_params_list"]
    assert thinker["max_tokens"] == 7 and vocoder["max_tokens"] == 1 and 151665 in thinker["stop_token_ids"]
    assert body["modalities"] == ["text", "audio"] and "max_tokens" not in body
    assert body_of(ASKED, dialect=OMNI)["modalities"] == ["text"]


def test_dialects_by_name():
    assert dialect_of("stepfun") is STEPFUN and dialect_of("omni") is OMNI
    with pytest.raises(OptionsError, match="'klingon'"):
        dialect_of("klingon")
