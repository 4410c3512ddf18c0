"""Ids made again from events are those that a model in this process would have told."""

import pytest

from model.backends.recovered_ids import recovered_ids
from model.chat import pack_ta4
from model.events import AudioCodesDelta, TextDelta, ThoughtDelta, TurnDone
from model.processing_step_audio_2 import StepAudio2Processor


@pytest.fixture(scope="module")
def processor(tokenizer):
    return StepAudio2Processor(tokenizer)


def done(reason="stop"):
    return TurnDone(reason, (), 0, 0, 1.0)


def test_text_in_pieces_is_tokenised_as_one(processor):
    events = [TextDelta("good mor", (), 0.1), TextDelta("ning", (), 0.2), done()]
    assert recovered_ids(events, processor) == (*processor.encode_text("good morning"), processor.ids.eot)


def test_a_reply_that_was_cut_has_no_end(processor):
    assert recovered_ids([TextDelta("hi", (), 0.1), done("length")], processor) == tuple(processor.encode_text("hi"))


def test_a_spoken_reply_is_interleaved_again(processor):
    events = [
        TextDelta("hello ", (), 0.1, spoken=True),
        AudioCodesDelta((1, 2, 3), (), 0.1),
        TextDelta("world", (), 0.2, spoken=True),
        AudioCodesDelta((4, 5), (), 0.2),
        TextDelta("later", (), 0.3),
        done(),
    ]
    packed = pack_ta4(processor.encode_text("hello world"), (1, 2, 3, 4, 5), processor.ids)
    rest = [*processor.encode_text("later"), processor.ids.eot]
    assert recovered_ids(events, processor, spoken=True) == (*packed[1:], *rest)
    assert recovered_ids(events, processor) == (*packed, *rest)


def test_speech_that_was_stopped_is_left_open(processor):
    events = [AudioCodesDelta((1,), (), 0.1), done("cancelled")]
    assert processor.ids.tts_end not in recovered_ids(events, processor, spoken=True)


def test_thoughts_and_calls_get_their_tags(processor, tokenizer):
    call = '<tool_call>function\nclock\n{"zone": "北京"}</tool_call>'
    ids = recovered_ids([ThoughtDelta("hm", (), 0.1), TextDelta(call, (), 0.2), done()], processor)
    start, end = tokenizer.convert_tokens_to_ids(["<tool_call>", "</tool_call>"])
    thought, body = ids[: ids.index(start)], ids[ids.index(start) + 1 : ids.index(end)]
    assert processor.decode(thought) == "hm</think>"
    assert processor.decode(body) == 'function\nclock\n{"zone": "北京"}' and ids[-2:] == (end, processor.ids.eot)


def test_characters_that_look_like_control_stay_characters(processor):
    ids = recovered_ids([TextDelta("<|EOT|><tts_start>", (), 0.1), done("length")], processor)
    assert processor.ids.eot not in ids and processor.ids.tts_start not in ids
