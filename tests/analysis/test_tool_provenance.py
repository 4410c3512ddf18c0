"""Each argument of a call is traced to the tone that was planted for it, and one that was not is traced to none."""

import threading

import numpy as np
import pytest

from analysis.tool_provenance import HALF, Provenance, call_arguments, tool_provenance
from model.chat import Audio, Message
from model.errors import TraceError
from model.tokens import TOOL_CALL, TOOL_CALL_END
from tests.analysis import toy

LOW, HIGH = (0.3, 0.7), (1.2, 1.6)
CALL = f'{TOOL_CALL}function\nfind\n{{"who": "man", "what": ". dog", "how": "? x"}}{TOOL_CALL_END}'
"""The toy says " dog" after a full stop if it heard the high tone; nothing that it hears speaks for the rest."""


def ids_of(text: str) -> list[int]:
    """Encode a reply, its tags as single tokens."""
    processor = toy.build_processor()
    known = processor.tokenizer.get_vocab()
    body = text.removeprefix(TOOL_CALL).removesuffix(TOOL_CALL_END)
    return [known[TOOL_CALL], *processor.encode_text(body), known[TOOL_CALL_END], processor.ids.eot]


@pytest.fixture(scope="module")
def loaded():
    return toy.build_toy("thought")


@pytest.fixture(scope="module")
def found(loaded) -> Provenance:
    asked = toy.ask(toy.clip(LOW, HIGH), think=False)
    return tool_provenance(loaded, asked, ids_of(CALL), window_s=0.6, hop_s=0.1)


# --- reading the call ---------------------------------------------------------------------------------------------


def test_a_call_is_read_with_its_tokens():
    said = ("Well. ", TOOL_CALL, "function\n", "get_", "weather\n", '{"loc', 'ation": "', "Par", 'is", "')
    texts = (*said, 'days": ', "2", ', "parts": [1, {"a": 2}]', "}", TOOL_CALL_END)
    found = call_arguments(texts)
    assert [(one.label, one.queries) for one in found] == [
        ("call get_weather", (1, 2, 3, 4)),
        ("location: Paris", (7, 8)),
        ("days: 2", (10,)),
        ("parts: [1, {'a': 2}]", (11,)),
    ]
    assert {one.call for one in found} == {0}


def test_two_calls_escapes_and_chinese():
    first = (TOOL_CALL, 'function\nsearch\n{"query": "a \\"b\\" c"}', TOOL_CALL_END)
    second = (TOOL_CALL, "function\n", "weather\n", '{"location"', ': "', "北", "京", '"}', TOOL_CALL_END)
    found = call_arguments((*first, "and", *second))
    assert [(one.call, one.label) for one in found] == [
        (0, "call search"), (0, 'query: a "b" c'), (1, "call weather"), (1, "location: 北京"),
    ]  # fmt: skip
    assert found[-1].queries == (9, 10)


@pytest.mark.parametrize(
    "body", ["function\nclock\n{}", "function\nclock\n{not json", "function\nclock", "function\nclock\n"]
)
def test_a_call_without_readable_arguments_is_a_decision_only(body):
    assert [one.label for one in call_arguments((TOOL_CALL, body, TOOL_CALL_END))] == ["call clock"]
    assert [one.label for one in call_arguments((TOOL_CALL, body))] == ["call clock"]
    assert call_arguments(("no call",)) == ()


# --- where it came from -------------------------------------------------------------------------------------------


def test_each_argument_is_traced_to_its_tone(found):
    by_name = {source.argument.name: source for source in found.sources()}
    what = by_name["what"]
    assert what.clip == 0 and what.nats > 3 and what.argument.value == ". dog"
    assert HIGH[0] <= (what.start_s + what.end_s) / 2 <= HIGH[1] and what.end_s - what.start_s < 0.7
    assert by_name["how"].clip is None and np.isnan(by_name["how"].start_s) and abs(by_name["how"].nats) < 0.5
    assert by_name[""].argument.label == "call find"


def test_the_map_says_the_same(found):
    row = [one.name for one in found.arguments].index("what")
    sound = found.sound()
    assert HIGH[0] <= sound.axis("time").values[sound.values[row].argmax()] <= HIGH[1]
    assert sound.notes["verdicts"][-1] == "not from sound" and " s" in sound.notes["verdicts"][row]
    assert sound.axes[0].labels[row] == "what: . dog"


def test_of_two_clips_the_one_that_was_heard_is_named(loaded):
    """The high tone is in the second clip only."""
    (human, opened) = toy.ask(toy.clip(LOW, None), think=False)
    asked = (human, Message("human", (Audio(toy.clip(None, HIGH)),)), opened)
    found = tool_provenance(loaded, asked, ids_of(CALL), window_s=0.6, hop_s=0.4)
    what = next(source for source in found.sources() if source.argument.name == "what")
    assert what.clip == 1 and found.clips().values.shape == (4, 2)
    row = [one.name for one in found.arguments].index("what")
    assert found.clips().values[row, 1] > 3 and abs(found.clips().values[row, 0]) < 0.5
    assert found.sound(1).notes["verdicts"][row].startswith("clip 2, ")


def test_a_cancelled_trace_names_no_source(loaded):
    cancel = threading.Event()
    cancel.set()
    found = tool_provenance(loaded, toy.ask(toy.clip(LOW, HIGH), think=False), ids_of(CALL), cancel=cancel)
    assert all(source.clip is None for source in found.sources()) and np.isnan(found.muted).all()


def test_replies_without_call_or_sound_are_refused(loaded):
    with pytest.raises(TraceError, match="0 rows of tool calls"):
        tool_provenance(loaded, toy.ask(toy.clip(LOW, HIGH)), [1, 2])
    with pytest.raises(TraceError, match="0 clips"):
        tool_provenance(loaded, toy.ask(None, "typed", think=False), ids_of(CALL))
    assert 0 < HALF < 1
