"""A turn that a server generated is measured like one of ours: its ids are made again from its words."""

import numpy as np

from analysis.capture import capture_trace
from model.backends.recovered_ids import recovered_ids
from model.backends.vllm_reply import ServerReply
from model.events import TextDelta
from model.options import GenerationOptions

WORDS = ("good mor", "ning 你", "好")


def test_a_server_turn_gives_the_trace_of_the_same_reply(tiny_loaded, heard):
    processor, reply = tiny_loaded.processor, ServerReply(GenerationOptions())
    chunks = [{"choices": [{"delta": {"content": words}}]} for words in WORDS]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    events = [*(event for chunk in chunks for event in reply.feed(chunk)), *reply.end()]

    ids = recovered_ids(events, processor)
    ours = [*processor.encode_text("".join(WORDS)), processor.ids.eot]
    assert list(ids) == ours
    trace = capture_trace(tiny_loaded, heard, ids, events=events, backend="vllm server")
    same = capture_trace(tiny_loaded, heard, ours)
    np.testing.assert_array_equal(trace.tensors["attention.audio"], same.tensors["attention.audio"])
    assert trace.meta.backend == "vllm server"
    assert [event.text for event in trace.events if isinstance(event, TextDelta)] == list(WORDS)
