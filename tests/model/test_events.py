"""Events survive JSON, and a collected turn is what streamed."""

import json

import numpy as np
import pytest

from model.audio import Waveform
from model.errors import BackendError, TraceError
from model.events import (
    AudioCodesDelta,
    AudioDelta,
    SoundMark,
    StageTiming,
    TextDelta,
    ThoughtDelta,
    ToolCallEvent,
    ToolResultEvent,
    TurnDone,
    collect,
    from_dict,
    to_dict,
)

SOUND = Waveform(np.array([0.0, 0.1, -1 / 3], np.float32), 24_000)
EVENTS = [
    StageTiming("prepare", 0.0, 0.1, 0.1),
    ThoughtDelta("hm", (1, 2), 0.2, (-0.1, -0.2)),
    TextDelta("你", (3, 4), 0.3, (-0.5, -0.25), spoken=True),
    AudioCodesDelta((7,), (107, 999), 0.4),
    AudioDelta(SOUND, 0.5),
    AudioDelta(SOUND, 0.6),
    SoundMark(0.1, 0.2, 0.6),
    ToolCallEvent("clock", {"zones": ["utc", "cet"]}, "call_0", 0.7),
    ToolResultEvent("12:30", "clock", "call_0", 0.8),
    TextDelta("好", (5,), 0.9, (-1.0,)),
    TurnDone("stop", (1, 2, 3, 4, 5, 6), 11, 6, 1.0),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_json_round_trip(event):
    assert from_dict(json.loads(json.dumps(to_dict(event)))) == event


def test_collect_joins_what_streamed():
    turn = collect(iter(EVENTS))
    assert (turn.text, turn.thought, turn.codes) == ("你好", "hm", (7,))
    assert turn.ids == (1, 2, 3, 4, 5, 6) and turn.text_ids == (3, 4, 5)
    assert turn.logprobs == (-0.5, -0.25, -1.0)
    assert turn.waveform.samples.tolist() == [*SOUND.samples.tolist(), *SOUND.samples.tolist()]
    assert (turn.reason, turn.seconds, turn.prompt_tokens, turn.new_tokens) == ("stop", 1.0, 11, 6)
    assert turn.tool_calls[0].name == "clock" and turn.tool_results[0].content == "12:30"
    assert [timing.stage for timing in turn.timings] == ["prepare"]


@pytest.mark.parametrize("events", [[], EVENTS[:-1], [*EVENTS, EVENTS[0]], [EVENTS[-1]] * 2])
def test_the_end_is_last_and_once(events):
    with pytest.raises(BackendError, match="exactly one, as the last event"):
        collect(events)


def test_sounds_of_different_rates_are_not_joined():
    other = AudioDelta(Waveform(np.zeros(4, np.float32), 16_000), 0.1)
    with pytest.raises(BackendError, match="one sample rate"):
        collect([EVENTS[4], other, EVENTS[-1]])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TurnDone("tired", (), 0, 0, 0.0), "reason 'tired'"),
        (lambda: TurnDone("stop", (1,), 0, 2, 0.0), "new_tokens=2 and 1 ids"),
        (lambda: StageTiming("encode", 2.0, 1.0, 2.0), "end after start"),
        (lambda: from_dict({"type": "Surprise"}), "a type among TextDelta"),
        (lambda: from_dict({"type": "TextDelta", "colour": 1}), "the fields of that type"),
        (lambda: from_dict({"type": "TextDelta"}), "the fields of that type"),
        (lambda: from_dict([]), "a type among TextDelta"),
    ],
)
def test_refusals(make, match):
    with pytest.raises(TraceError, match=match):
        make()
