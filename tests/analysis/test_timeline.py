"""A turn that was written by hand is laid out as it was written, to the millisecond."""

import numpy as np
import pytest

from analysis.figures.timeline import clocks, lanes, print_clocks, print_lanes
from analysis.timeline import Timeline, timeline
from model.audio import Waveform
from model.errors import TraceError
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
)


def sound(seconds: float) -> Waveform:
    return Waveform(np.zeros(round(24_000 * seconds), np.float32), 24_000)


EVENTS = (
    StageTiming("prepare", 0.0, 0.1, 0.1),
    StageTiming("encode", 0.1, 0.3, 0.3),
    StageTiming("prefill", 0.3, 0.4, 0.4),
    ThoughtDelta("hm", (1,), 0.5),
    ToolCallEvent("clock", {}, "call_0", 0.6),
    ToolResultEvent("noon", "clock", "call_0", 0.9),
    TextDelta("It", (2,), 1.0),
    AudioCodesDelta((3, 4, 5, 6), (3, 4, 5, 6), 1.2),
    StageTiming("sound", 1.2, 1.3, 1.3),
    AudioDelta(sound(0.5), 1.3),
    TextDelta(" is", (7,), 1.4),
    StageTiming("sound", 1.5, 1.6, 1.6),
    AudioDelta(sound(0.2), 1.6),
    StageTiming("sound", 2.3, 2.4, 2.4),
    AudioDelta(sound(0.4), 2.4),
    StageTiming("decode", 0.4, 2.2, 2.5),
    TurnDone("stop", (1, 2, 3, 4, 5, 6, 7), 9, 7, 2.5),
)
"""The second piece waits for the first one to end (1.8 s), the third comes 0.4 s after the second one's end (2.0 s)."""


@pytest.fixture(scope="module")
def line() -> Timeline:
    return timeline(EVENTS, heard_s=5.0)


def spans_of(line: Timeline, lane: str) -> list[tuple]:
    return [span[1:] for span in line.spans if span.lane == lane]


def test_every_lane_has_what_happened_in_it(line):
    assert spans_of(line, "stages") == [
        ("prepare", 0.0, 0.1), ("encode", 0.1, 0.3), ("prefill", 0.3, 0.4), ("decode", 0.4, 2.2),
    ]  # fmt: skip
    assert spans_of(line, "thought") == [("hm", 0.4, 0.5)]
    assert spans_of(line, "text") == [("It", 0.9, 1.0), (" is", 1.3, 1.4)]
    assert spans_of(line, "codes") == [("4 codes", 1.0, 1.2)]
    assert spans_of(line, "tools") == [("clock", 0.6, 0.9)]
    assert spans_of(line, "sound") == [("sound", 1.2, 1.3), ("sound", 1.5, 1.6), ("sound", 2.3, 2.4)]
    np.testing.assert_allclose([span[1:] for span in spans_of(line, "playback")], [(1.3, 1.8), (1.8, 2.0), (2.4, 2.8)])


def test_a_player_waits_for_the_piece_before_and_for_the_sound(line):
    np.testing.assert_allclose([piece.plays_s for piece in line.pieces], [1.3, 1.8, 2.4])
    assert line.stalled_s == pytest.approx(0.4) and line.sound_s == pytest.approx(1.1)
    assert line.first_sound_s == 1.3 and line.end_s == 2.5


def test_factors_compare_work_with_sound(line):
    assert line.real_time_factor == pytest.approx(2.5 / 1.1) and line.input_real_time_factor == pytest.approx(0.5)


def test_latencies_add_up_pieces_of_one_name(line):
    found = line.latencies()
    assert found.axes[0].labels == ("prepare", "encode", "prefill", "decode", "tool clock", "sound")
    np.testing.assert_allclose(found.values, [0.1, 0.2, 0.1, 1.8, 0.3, 0.3])


def test_the_clocks_touch_where_playback_stalls(line):
    found = line.clock()
    arrived, heard = found.values
    time = found.axis("time").values
    np.testing.assert_allclose(np.interp([1.29, 1.7, 2.0, 2.3, 2.8], time, heard), [0, 0.4, 0.7, 0.7, 1.1], atol=1e-9)
    assert arrived[time == 1.3] == 0.5 and [arrived[-1], heard[-1]] == pytest.approx([1.1, 1.1])
    assert (arrived - heard >= -1e-9).all() and found.notes["stalled_s"] == pytest.approx(0.4)


def test_the_summary_leaves_out_what_did_not_happen(line):
    found = line.summary()
    assert dict(zip(found.axes[0].labels, found.values.round(6))) == {
        "first text": 1.0, "first code": 1.2, "first sound": 1.3, "turn over": 2.5, "playback over": 2.8,
        "stalled": 0.4,
    }  # fmt: skip
    silent = timeline([event for event in EVENTS if not isinstance(event, AudioDelta)])
    assert silent.summary().axes[0].labels == ("first text", "first code", "turn over")
    assert silent.real_time_factor is None and silent.input_real_time_factor is None and silent.first_sound_s is None
    with pytest.raises(TraceError, match="without sound"):
        silent.clock()


def test_marks_say_what_sound_says(line):
    """A trace keeps marks in place of sound; its timeline is the same."""
    ends = np.cumsum([0, 0.5, 0.2, 0.4])
    marks = iter(zip(ends, ends[1:]))
    kept = [SoundMark(*next(marks), e.t_s) if isinstance(e, AudioDelta) else e for e in EVENTS]
    np.testing.assert_allclose(timeline(kept).pieces, line.pieces)
    assert [span.lane for span in timeline(kept).spans] == [span.lane for span in line.spans]


@pytest.mark.parametrize("events", [(), EVENTS[:-1]])
def test_a_turn_without_an_end_is_refused(events):
    with pytest.raises(TraceError, match="without an end"):
        timeline(events)


@pytest.mark.parametrize("dark", [False, True])
def test_lanes_are_drawn_where_they_were(line, dark, tmp_path):
    figure = lanes(line.lanes(), dark=dark)
    assert figure.layout.yaxis.ticktext == ("stages", "thought", "text", "codes", "tools", "sound", "playback")
    assert figure.data[0].base == (0.0, 0.1, 0.3, 0.4) and list(figure.data[-1].customdata[1][1:]) == [1.8, 2.0]
    np.testing.assert_allclose(figure.data[0].x, [0.1, 0.2, 0.1, 1.8])
    figure = print_lanes(line.lanes())
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][-1] == "playback"
    figure.savefig(tmp_path / "lanes.png")


def test_clocks_are_steps_and_a_line(line, tmp_path):
    figure = clocks(line.clock())
    assert [(data.name, data.line.shape) for data in figure.data] == [("arrived", "hv"), ("heard", "linear")]
    np.testing.assert_allclose(figure.data[1].y, line.clock().values[1])
    print_clocks(line.clock()).savefig(tmp_path / "clocks.png")
