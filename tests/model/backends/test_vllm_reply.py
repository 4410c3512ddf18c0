"""Bytes cut anywhere become the same events, and nonsense becomes a sentence."""

import base64
import json

import numpy as np
import pytest

from model.audio import Waveform
from model.backends.vllm_reply import CHARACTERS_PER_ID, ServerReply, read_events, said_by_server
from model.backends.vllm_request import wav_bytes
from model.chat import parse_tool_calls
from model.errors import BackendError
from model.events import AudioCodesDelta, StageTiming, TextDelta, ThoughtDelta, TurnDone, collect
from model.options import GenerationOptions
from model.tokens import TokenIds
from tests.model.backends.fake_server import DONE, delta, event, usage

EOT = TokenIds.official().eot
CHINESE = [delta(content="你好，"), delta(content="世界🌍"), delta(content="", finish="stop"), DONE]


def events_of(stream, *, opening="", options=None, token_ids=None):
    reply = ServerReply(options or GenerationOptions(), token_ids=token_ids)
    reply.open(opening)
    made = [made for chunk in read_events(stream) for made in reply.feed(chunk)]
    return [*made, *reply.end()]


def turn_of(*stream, **how):
    return collect(events_of([*stream, DONE], **how))


def timeless(events):
    return [{k: v for k, v in vars(e).items() if not k.endswith("_s")} | {"": type(e).__name__} for e in events]


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_any_cutting_gives_the_same_events(size):
    whole = b"".join(CHINESE)
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    assert timeless(events_of(pieces)) == timeless(events_of([whole]))
    assert collect(events_of(pieces)).text == "你好，世界🌍"


def test_comments_other_fields_and_windows_line_ends_are_read_over():
    stream = [
        b"\xef\xbb\xbf: ping\r\nevent: message\r\nid: 7\r\n",
        *(piece.replace(b"\n", b"\r\n") for piece in CHINESE),
    ]
    assert collect(events_of(stream)).text == "你好，世界🌍"


def test_data_over_several_lines_is_one_event():
    assert list(read_events([b'data: {"choices":\ndata: []}\n\ndata: [DONE]\n\n'])) == [{"choices": []}]


def test_what_comes_after_the_end_is_not_read():
    assert collect(events_of([*CHINESE, b"data: rubbish\n\n"])).text == "你好，世界🌍"


def test_a_finished_answer_may_lack_its_end_mark():
    assert collect(events_of(CHINESE[:-1])).reason == "stop"


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (CHINESE[:2], "broke off after 2 events"),
        ([b""], "broke off after 0 events"),
        ([b"data: {not json}\n\n"], "no JSON object: {not json}"),
        ([b"data: [1, 2]\n\n"], "no JSON object"),
        ([b"data: \xff\xfe\n\n"], "no UTF-8"),
        ([b"<html><body>Welcome</body></html>"], "broke off after 0 events"),
        ([b'{"message": "overloaded"}'], "no stream of events but overloaded"),
        ([event(error={"message": "CUDA out of memory"})], "in the middle of its answer: CUDA out of memory"),
        ([event(object="error", message="engine dead")], "engine dead"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], "no JSON object"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(stream, found):
    with pytest.raises(BackendError, match="Could not read the server's answer") as caught:
        list(read_events(stream))
    assert found in str(caught.value)


def test_a_line_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr("model.backends.vllm_reply.MAX_LINE_BYTES", 2**20)
    pieces = iter([b"data: " + b"x" * 2**18] * 100)
    with pytest.raises(BackendError, match="a line longer than 1 MiB"):
        list(read_events(pieces))
    assert len(list(pieces)) == 96


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": "none"},
        {"choices": [{"delta": {"content": 7}}]},
        {"choices": [{"delta": {"tts_content": "words"}}]},
        {"choices": [{"delta": {"tts_content": {"tts_audio": "<audio_6562>"}}}]},
        {"choices": [{"delta": {}, "finish_reason": "exploded"}]},
        {"choices": [{"delta": {}, "token_ids": ["x"]}]},
        {"choices": [{"delta": {"content": "no base64!"}}], "modality": "audio"},
        {"choices": [{"delta": {"content": base64.b64encode(b"no sound").decode()}}], "modality": "audio"},
    ],
)
def test_events_of_unknown_form_are_refused(chunk):
    with pytest.raises(BackendError, match="an event of unknown form"):
        list(ServerReply(GenerationOptions()).feed(chunk))


def test_what_a_server_says_is_short_and_on_one_line():
    assert said_by_server(json.dumps({"error": {"message": "a\n\x1b[31mb"}})) == "a [31mb"
    assert len(said_by_server("x" * 1000)) == 300


# --- speech ---------------------------------------------------------------------------------------


def test_spoken_words_and_codes_stream_together():
    turn = turn_of(
        delta(role="assistant", content=""),
        delta(tts_content={"tts_text": "Good", "tts_audio": "<audio_5>"}),
        delta(tts_content={"tts_audio": "<audio_6><audio_6561><audio_6560>"}),
        delta(content="(plain)"),
        delta(finish="stop"),
        opening="<tts_start>",
    )
    assert turn.text == "Good(plain)" and turn.codes == (5, 6, 6560) and turn.reason == "stop"


def test_spoken_deltas_say_that_they_are():
    made = events_of([delta(tts_content={"tts_text": "Hm", "tts_audio": "<audio_0>"}, finish="stop"), DONE])
    text, codes = made[1], made[2]
    assert (text.text, text.spoken, codes.codes) == ("Hm", True, (0,))
    assert codes.ids == (TokenIds.official().first_code,)


def test_a_server_that_does_not_parse_speech_is_understood():
    turn = turn_of(
        delta(content="Hi<audio_1><audio_2>"),
        delta(content="<tts_pad><audio_3><audio_6561><tts_end>"),
        delta(content="and <audio_9> is a word<|EOT|>", finish="stop"),
        opening="<tts_start>",
    )
    assert turn.codes == (1, 2, 3) and turn.text == "Hiand <audio_9> is a word"


def test_words_of_a_server_that_speaks_itself_are_spoken_words():
    made = events_of([delta(content="Hi"), delta(content=" there", finish="stop"), DONE], opening="<tts_start>")
    assert [(e.text, e.spoken) for e in made if isinstance(e, TextDelta)] == [("Hi", True), (" there", True)]


def test_codes_are_words_where_nothing_is_spoken():
    assert turn_of(delta(content="the token <audio_1>", finish="stop")).text == "the token <audio_1>"


def test_sound_comes_as_wav_pieces():
    sound = Waveform(np.linspace(-0.5, 0.5, 240, dtype=np.float32), 24_000)
    data = base64.b64encode(wav_bytes(sound)).decode()
    audio = event(modality="audio", choices=[{"delta": {"content": data}, "finish_reason": None}])
    other = delta(audio={"data": data})
    turn = turn_of(event(modality="text", choices=[{"delta": {"content": "Hi"}}]), audio, other, delta(finish="stop"))
    assert turn.text == "Hi" and turn.waveform.sample_rate_hz == 24_000
    assert len(turn.waveform.samples) == 480 and abs(turn.waveform.samples[0] + 0.5) < 1e-3


# --- thoughts -------------------------------------------------------------------------------------


def test_a_thought_ends_at_its_tag_wherever_that_is_cut():
    text = "It is a woman.</think>\n\nHello"
    for cut in range(1, len(text)):
        turn = turn_of(delta(content=text[:cut]), delta(content=text[cut:], finish="stop"), opening="\n<think>\n")
        assert (turn.thought, turn.text) == ("It is a woman.", "\n\nHello")


def test_a_thought_that_is_cut_off_keeps_what_looked_like_a_tag():
    assert turn_of(delta(content="a </thi", finish="length"), opening="<think>").thought == "a </thi"


def test_a_server_may_tell_thoughts_apart_itself():
    turn = turn_of(delta(reasoning_content="hm"), delta(content="Yes", finish="stop"))
    assert (turn.thought, turn.text) == ("hm", "Yes")


def test_the_ids_of_the_tag_belong_to_the_thought():
    made = events_of(
        [
            delta(content="hm</th", choice={"token_ids": [11, 12]}),
            delta(content="ink>", choice={"token_ids": [13]}),
            delta(content="Yes", choice={"token_ids": [14]}),
            delta(finish="stop", choice={"token_ids": [EOT]}),
            DONE,
        ],
        opening="<think>",
    )
    thoughts = [(e.text, e.ids) for e in made if isinstance(e, ThoughtDelta)]
    assert thoughts == [("hm", (11, 12)), ("", (13,))]
    assert [(e.text, e.ids) for e in made if isinstance(e, TextDelta)] == [("Yes", (14,))]


# --- ids ------------------------------------------------------------------------------------------


def test_ids_are_those_that_the_server_tells():
    turn = turn_of(
        delta(content="Hi", choice={"token_ids": [1, 2]}),
        delta(finish="stop", choice={"token_ids": [EOT]}),
        usage(9, 3),
    )
    assert turn.ids == (1, 2, EOT) and turn.text_ids == (1, 2) and turn.prompt_tokens == 9


def test_ids_that_are_fewer_than_counted_are_not_believed():
    turn = turn_of(delta(content="Hi", choice={"token_ids": [1, 2]}), delta(finish="stop"), usage(9, 7))
    assert turn.ids == () and turn.new_tokens == 0 and turn.prompt_tokens == 9


def test_logprobs_bring_their_ids():
    entries = [{"token": "token_id:4", "logprob": -0.5}, {"token": "token_id:5", "logprob": -1.5}]
    turn = turn_of(delta(content="Hi", choice={"logprobs": {"content": entries}}, finish="stop"))
    assert turn.ids == (4, 5) and turn.logprobs == (-0.5, -1.5)


# --- tools and ends -------------------------------------------------------------------------------


def call(index=0, **function):
    return {"index": index, "id": f"id-{index}", "type": "function", "function": function}


@pytest.mark.parametrize(
    "pieces",
    [
        [{"name": "search"}, {"arguments": '{"query": "京都"}'}],
        [{"name": "search", "arguments": ""}, {"arguments": '{"query"'}, {"arguments": ': "京都"}'}],
        [{"name": "search", "arguments": "{"}, {"arguments": '{"query": "京都"}'}],  # StepFun's client takes the last
    ],
)
def test_a_tool_call_is_put_together(pieces):
    deltas = [delta(tool_calls=[call(**piece)]) for piece in pieces]
    turn = turn_of(delta(tts_content={"tts_text": "One moment"}), *deltas, delta(finish="tool_calls"))
    read = parse_tool_calls(turn.text)
    assert [(each.name, each.arguments) for each in read.calls] == [("search", {"query": "京都"})]
    assert read.content == "One moment" and turn.reason == "stop"


def test_several_calls_keep_their_order():
    turn = turn_of(delta(tool_calls=[call(1, name="b", arguments="{}"), call(0, name="a")]), delta(finish="tool_calls"))
    assert [(each.name, each.arguments) for each in parse_tool_calls(turn.text).calls] == [("a", {}), ("b", {})]


def test_a_call_that_was_cut_off_stays_as_it_is():
    turn = turn_of(delta(tool_calls=[call(name="a", arguments='{"q": ')], finish="length"))
    assert turn.text == '<tool_call>function\na\n{"q": </tool_call>'


def test_the_length_limit_is_told():
    assert turn_of(delta(content="a", finish="length")).reason == "length"


def test_a_reply_that_goes_round_in_circles_is_noticed():
    options = GenerationOptions(repetition_guard=12)
    reply = ServerReply(options)
    list(reply.feed({"choices": [{"delta": {"content": "嗯" * (CHARACTERS_PER_ID * 12)}}]}))
    assert reply.reason == "repetition"
    varied = ServerReply(options)
    list(varied.feed({"choices": [{"delta": {"content": "".join(map(chr, range(65, 200)))}}]}))
    assert varied.reason is None


def test_stages_are_timed_once():
    made = events_of(CHINESE)
    assert [e.stage for e in made if isinstance(e, StageTiming)] == ["prefill", "decode"]
    assert isinstance(made[-1], TurnDone) and sum(isinstance(e, AudioCodesDelta) for e in made) == 0
