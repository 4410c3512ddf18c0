"""Words and calls come apart the same way however the text is cut."""

import pytest

from model.call_filter import CallFilter
from model.events import TextDelta

TEXT = "Let me <check>. <tool_call>function\nlook_up\n{}</tool_call>\n<tool_call>x</tool_call> Done </tool_call>."
WORDS = "Let me <check>. Done </tool_call>."
CALLS = "<tool_call>function\nlook_up\n{}</tool_call><tool_call>x</tool_call>"


def read(pieces):
    calls = CallFilter()
    shown = [d for n, piece in enumerate(pieces) for d in calls.add(TextDelta(piece, (n,), float(n), (-0.5,)))]
    return calls, [*shown, *calls.end(99.0)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 200])
def test_any_cut_gives_the_same(size):
    calls, shown = read([TEXT[i : i + size] for i in range(0, len(TEXT), size)])
    assert "".join(d.text for d in shown) == WORDS and calls.calls == CALLS and not calls.unfinished


def test_ids_go_with_the_words_they_made():
    _, shown = read(["a ", "b <", "tool", " c"])
    assert [(d.text, d.ids) for d in shown] == [("a ", (0,)), ("b ", (1,)), ("<tool c", (2, 3))]
    _, shown = read(["a", "<tool_call>", "x", "</tool_call>", "b"])
    assert [(d.text, d.ids) for d in shown] == [("a", (0,)), ("b", (4,))]
    assert all(len(d.ids) == len(d.logprobs) for d in shown)


def test_a_call_without_an_end_is_not_words():
    calls, shown = read(["Wait.", "<tool_call>func", "tion"])
    assert "".join(d.text for d in shown) == "Wait." and calls.is_open and calls.unfinished == "function"


def test_what_waited_is_shown_at_the_end():
    _, shown = read(["a <tool_c"])
    assert "".join(d.text for d in shown) == "a <tool_c"
