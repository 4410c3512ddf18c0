"""Tool calls are judged by trigger, tool and arguments, as the benchmark does."""

import pytest

from model.chat import ControlPiece, TextPiece, render
from model.messages import ToolCall
from model.tasks.tool_calls import Rates, ToolUse, outcome, rates, same_arguments, with_call, with_result
from model.tools.standard import standard_toolbox

WEATHER = ToolCall("get_weather", {"location": "Paris", "day": "Monday"})
CLOCK = ToolCall("get_date_time")


def said(call, lead="Let me check."):
    """A reply as a model writes it, control tokens spelled out."""
    import json

    return f"{lead}<tool_call>function\n{call.name}\n{json.dumps(dict(call.arguments))}</tool_call>"


def example(call, near=""):
    return ToolUse.example("?", "-", id="x", call=call, near=near)


@pytest.mark.parametrize(
    ("wanted", "reply", "value", "reward"),
    [
        (WEATHER, said(WEATHER), 1.0, 1.0),
        (WEATHER, said(ToolCall("get_weather", {"location": "paris", "day": "on Monday"})), 1.0, 1.0),
        (WEATHER, said(ToolCall("get_weather", {"location": "Rome", "day": "Monday"})), 0.0, 0.6),
        (WEATHER, said(CLOCK), 0.0, 0.3),
        (WEATHER, "It is sunny.", 0.0, 0.0),
        (WEATHER, "<tool_call>function\nget_weather\n{bad</tool_call>", 0.0, 0.0),
        (None, "It is sunny.", 1.0, 1.0),
        (None, said(CLOCK), 0.0, 0.0),
        (CLOCK, said(CLOCK), 1.0, 1.0),
    ],
)
def test_one_decision(wanted, reply, value, reward):
    assert ToolUse.score(reply, example(wanted)).value == value
    assert ToolUse.reward(reply, example(wanted)) == pytest.approx(reward)


def test_rates_by_hand():
    decisions = [
        (WEATHER, said(WEATHER), ""),
        (WEATHER, said(CLOCK), ""),
        (WEATHER, "No.", ""),
        (WEATHER, said(ToolCall("get_weather", {"location": "Rome"})), ""),
        (None, "No.", "get_weather"),
        (CLOCK, said(CLOCK), "get_weather"),
    ]
    found = [outcome(reply, example(call, near)) for call, reply, near in decisions]
    # About the weather: 3 of 4 called; the call of the clock is a false alarm or not, by reading.
    assert rates(found, "get_weather") == Rates(3 / 4, 3 / 4, 2 / 3, 1 / 2, 6)
    assert rates(found, "get_weather", any_call_is_false=False).precision == 1.0
    assert rates(found) == Rates(1.0, 4 / 5, 3 / 4, 1 / 2, 6)
    assert rates([]) == Rates(None, None, None, None, 0)


def test_arguments_mean_the_same():
    assert same_arguments({"query": "the capital of France"}, {"query": "Capital of France."})
    assert same_arguments({"query": "法国的首都"}, {"query": "法国首都"})
    assert not same_arguments({"query": "x"}, {}) and not same_arguments({"query": "x"}, {"query": "y"})


def test_a_turn_with_a_call_is_the_official_one():
    box = standard_toolbox(use=("get_date_time",), online=False)
    asked = ToolUse.conversation("What time is it?", offered=box.message(), today="Sunday", speak=True)
    called = with_call(asked, "Let me check.", CLOCK)
    told = with_result(called, "It is 21:00.", speak=True)
    texts = [piece.text for piece in render(told) if isinstance(piece, TextPiece)]
    assert texts[0].startswith("system\n你叫小跃") and texts[0].endswith("今天是Sunday。")
    assert texts[1].startswith('tool_json_schemas\n[{"type": "function"')
    assert texts[3:6] == ["assistant\n", "Let me check.", "function\nget_date_time\n{}"]
    assert texts[6] == "input\nIt is 21:00.\n\n\n请用口语化形式总结检索结果，简短地回答用户的问题。"
    names = [piece.name for piece in render(called) if isinstance(piece, ControlPiece)]
    assert names[-6:] == ["<|BOT|>", "<tts_start>", "<tts_end>", "<tool_call>", "</tool_call>", "<|EOT|>"]
    assert not told[-1].closed
