"""The speech chat without a page: what each event draws, what is kept, and what stop, errors and edits leave behind."""

import json
import time
import zipfile

import numpy as np
import pytest

from demo.bubbles import Bubbles, advance, messages
from demo.chat import Settings, Wish, chat_messages, converse, edited, export, look_inside
from demo.session import Turn
from demo.talks import Talks
from demo.texts import Texts
from model.audio import Waveform, save_waveform
from model.events import (
    AudioDelta,
    StageTiming,
    TextDelta,
    ThoughtDelta,
    ToolCallEvent,
    ToolResultEvent,
    TurnDone,
)
from model.messages import Audio, Message, Text
from tests.demo.fakes import ready_workbench, replay_engine, script, tone

TEXTS = Texts("en")
ASKED = Message("human", (Text("What time is it?"),))
CALL = "<tool_call>function\nget_date_time\n{}</tool_call>"


def seen_after(*events, **first):
    seen = Bubbles(asked=ASKED, **first)
    for event in events:
        seen = advance(seen, event)
    return seen


def drawn(seen):
    return messages(seen, 0, lambda waveform: "/tmp/x.wav", TEXTS)


# --- pictures ---


def test_a_thought_folds_with_its_time_and_its_tokens():
    thinking = seen_after(ThoughtDelta("Hm, ", (1, 2), 0.5), ThoughtDelta("noon.", (3,), 1.0))
    (_, row) = drawn(thinking)
    assert (
        row["metadata"]["status"] == "pending"
        and row["metadata"]["log"] == "3 tokens"
        and row["content"] == "Hm, noon."
    )
    (_, row) = drawn(advance(thinking, StageTiming("think", 0.1, 1.35, 1.35)))
    assert row["metadata"]["status"] == "done" and row["metadata"]["duration"] == 1.25


def test_a_tool_call_stands_between_the_words_or_nests_in_the_thought():
    call = ToolCallEvent("get_date_time", {"location": "Tokyo"}, "call_0", 1.0)
    result = ToolResultEvent("It is 12:00.", "get_date_time", "call_0", 1.3, seconds=0.3, source="clock")
    events = (ThoughtDelta("Hm.", (1,), 0.5), StageTiming("think", 0, 0.6, 0.6), TextDelta("Let me check.", (2,), 0.8))
    rows = drawn(seen_after(*events, call, result, TextDelta("\nIt is noon.", (3,), 1.5)))
    assert [row["content"] for row in rows[2:]] == [
        "Let me check.", 'Arguments: {"location": "Tokyo"}<br>Result: It is 12:00.', "It is noon.",
    ]  # fmt: skip
    tool = rows[3]["metadata"]
    assert "parent_id" not in tool and (tool["duration"], tool["log"]) == (0.3, "clock")
    inside = drawn(seen_after(*events[:2], call))[-1]["metadata"]
    assert inside["parent_id"] == rows[1]["metadata"]["id"]
    waiting = drawn(seen_after(*events, call))[-1]
    assert waiting["metadata"]["status"] == "pending" and "Result" not in waiting["content"]


def test_a_failed_call_says_so_and_long_results_are_cut():
    call = ToolCallEvent("web_search", {}, "c", 1.0)
    rows = drawn(seen_after(call, ToolResultEvent("x" * 5000, "web_search", "c", 2.0, failed=True)))
    assert "Failed: xxx" in rows[1]["content"] and len(rows[1]["content"]) < 1200


def test_sound_comes_as_a_stream_and_then_as_a_bubble():
    sound = Waveform(np.full(2400, 0.25, np.float32), 24_000)
    seen = seen_after(TextDelta("Hi", (1,), 0.1), AudioDelta(sound, 0.2))
    assert seen.phase == "speaking" and seen.feed.n_samples == 2400 and not seen.feed.is_done
    done = advance(seen, TurnDone("stop", (1,), 1, 1, 0.3))
    assert done.phase == "done" and done.feed.is_done and len(drawn(done)) == 2
    assert drawn(Bubbles(asked=ASKED, phase="done", steps=("Hi",), sound=sound))[-1]["content"] == {
        "path": "/tmp/x.wav"
    }


def test_markup_of_the_model_a_tool_or_a_person_is_shown_as_characters():
    evil = "<img src=x onerror=y>\n<b>"
    call = ToolCallEvent("web_search", {"q": evil}, "c", 1.0)
    events = (
        ThoughtDelta(evil, (1,), 0.1),
        call,
        ToolResultEvent(evil, "web_search", "c", 2.0),
        TextDelta(evil, (2,), 3.0),
    )
    seen = seen_after(*events)
    rows = drawn(seen) + messages(Bubbles(asked=Message("human", (Text(evil),))), 0, str, TEXTS)
    shown = json.dumps([row["content"] for row in rows])
    assert "<img" not in shown and "<b>" not in shown and shown.count("&lt;img") == 5


def test_clips_and_words_of_a_message_are_one_bubble():
    asked = Message("human", (Audio(tone(0.2), "a.wav"), Text("and this?")))
    (row,) = messages(Bubbles(asked=asked), 0, lambda waveform: "/tmp/x.wav", TEXTS)
    assert row == {"role": "user", "content": [{"path": "/tmp/x.wav", "alt_text": "a.wav"}, "and this?"]}


# --- turns ---


def backend_script(reply="It is noon."):
    """Answer with words; after a question for the time, first call the clock."""

    def write(conversation, options):
        if options.think:
            return [ThoughtDelta("Hm.", (4, 5), 0.1), TurnDone("stop", (4, 5), 9, 2, 0.2)]
        last = conversation[-2]
        words = "".join(part.text for part in last.parts if isinstance(part, Text))
        if "time" in words and last.role == "human":
            return [TextDelta(CALL, (6,), 0.1), TurnDone("stop", (6, 2), 9, 2, 0.2)]
        said = f"{reply} {words}".strip() if last.role == "human" else reply
        return [TextDelta(said, (7,), 0.1), TurnDone("stop", (7, 2), 9, 2, 0.2)]

    return write


@pytest.fixture
def bench():
    return ready_workbench(replay_engine(backend_script()))


def take(bench, session, wish):
    """Take a turn as the page does, and return its pictures."""
    talk = bench.talks.of(session)
    pictures = list(converse(bench, session, talk, wish, TEXTS))
    final = pictures[-1]
    talk.live = None if any(final is p for p in talk.pictures.values()) else final
    return pictures


def contents(talk):
    return [row["content"] for row in chat_messages(talk, TEXTS)[0]]


def test_a_turn_is_shown_as_it_happens_and_kept(bench):
    wish = Wish(text="What time is it?", settings=Settings(think="48", tools=("get_date_time",)))
    pictures = take(bench, "s", wish)
    phases = [p.phase for p in pictures]
    assert phases[-1] == "done" and "thinking" in phases and "tool" in phases
    talk = bench.talks.of("s")
    rows, origin = chat_messages(talk, TEXTS)
    assert [row["role"] for row in rows] == ["user", "assistant", "assistant", "assistant"] and set(origin) == {0}
    assert rows[-1]["content"] == "It is noon." and rows[2]["metadata"]["status"] == "done"
    take(bench, "s", Wish(text="Thanks."))
    assert chat_messages(talk, TEXTS)[1][-1] == 1 and len(talk.state.exchanges) == 2


def test_recordings_are_heard_before_the_words(bench, tmp_path):
    paths = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    for path, seconds in zip(paths, (0.5, 0.3), strict=True):
        save_waveform(path, tone(seconds))
    take(bench, "s", Wish(text="Compare.", files=tuple(paths)))
    (exchange,) = bench.talks.of("s").state.exchanges
    first, second, words = exchange.asked.parts
    assert (first.name, second.name, words.text) == ("a.wav", "b.wav", "Compare.")
    assert first.waveform.duration_s == pytest.approx(0.5) and second.waveform.duration_s == pytest.approx(0.3)


def test_an_edit_and_a_repeat_leave_the_right_history(bench):
    for words in ("one", "two", "three"):
        take(bench, "s", Wish(text=words))
    talk = bench.talks.of("s")
    take(bench, "s", Wish("edit", index=1, said=edited(talk, 1, "other")))
    assert contents(talk) == [["one"], "It is noon. one", ["other"], "It is noon. other"]
    before = talk.state.messages
    take(bench, "s", Wish("edit", index=1, said=talk.state.asked(1).parts))
    assert talk.state.messages == before and len(talk.pictures) == 2


def test_an_edit_keeps_the_recordings(bench, tmp_path):
    save_waveform(tmp_path / "a.wav", tone(0.5))
    take(bench, "s", Wish(text="What is this?", files=(str(tmp_path / "a.wav"),)))
    clip, words = edited(bench.talks.of("s"), 0, "And now?")
    assert clip.name == "a.wav" and words == Text("And now?")


def test_nothing_said_asks_nothing_of_the_model(bench):
    (picture,) = take(bench, "s", Wish(text="  "))
    assert picture.phase == "failed" and picture.problem.title == TEXTS("chat_nothing_title")
    assert bench.engine.backend.calls == []


def test_a_failing_model_leaves_a_sentence_and_the_conversation():
    answers = iter([script(("good",)), RuntimeError("secret path /home/x")])

    def write(conversation, options):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    bench = ready_workbench(replay_engine(write))
    take(bench, "s", Wish(text="one"))
    pictures = take(bench, "s", Wish(text="two"))
    talk = bench.talks.of("s")
    assert pictures[-1].phase == "failed" and "secret" not in str(pictures[-1].problem)
    assert len(talk.state.exchanges) == 1 and talk.state.unanswered is not None
    assert chat_messages(talk, TEXTS)[1] == [0, 0, 1]


def test_stop_keeps_what_was_said_and_frees_the_conversation():
    bench = ready_workbench(replay_engine(script(("word ",) * 400), pause_s=0.01))
    talk, seen = bench.talks.of("s"), []
    for picture in converse(bench, "s", talk, Wish(text="talk"), TEXTS):
        seen.append(picture)
        if len(picture.text) > 10 and not bench.sessions._turns["s"].cancel.is_set():
            stopped_s = time.monotonic()
            bench.sessions.stop("s")
    assert time.monotonic() - stopped_s < 2 and seen[-1].phase == "stopped" and not talk.state.is_busy
    (exchange,) = talk.state.exchanges
    assert exchange.turn.reason == "cancelled" and exchange.turn.text.startswith("word word")
    assert seen[-1].text == exchange.turn.text.strip() and talk.pictures[exchange] is seen[-1]


def test_two_visitors_never_see_each_other(bench):
    take(bench, "a", Wish(text="alpha"))
    take(bench, "b", Wish(text="beta"))
    shown = {name: json.dumps(contents(bench.talks.of(name))) for name in "ab"}
    assert "beta" not in shown["a"] and "alpha" not in shown["b"]


def test_the_model_without_a_voice_says_so(bench):
    pictures = take(bench, "s", Wish(text="hello", settings=Settings(speak=True)))
    assert pictures[-1].phase == "done" and "no voice" in pictures[-1].note


def test_the_system_prompt_applies_at_once(bench):
    take(bench, "s", Wish(text="one"))
    take(bench, "s", Wish(text="two", settings=Settings(system="Be brief.")))
    prompts = [conversation[0].parts[0].text for conversation, _ in bench.engine.backend.calls]
    assert prompts[0] != "Be brief." and prompts[1] == "Be brief."


def test_an_answer_can_be_looked_into(bench, tmp_path):
    save_waveform(tmp_path / "a.wav", tone(0.5))
    take(bench, "s", Wish(text="hello", files=(str(tmp_path / "a.wav"),), settings=Settings(think="free")))
    found = []
    pictures = list(look_inside(bench, "s", bench.talks.of("s"), 0, found, Turn()))
    assert len(found) == 2 and {p.phase for p in pictures} == {"looking"}
    assert all(bench.runs.get(run_id).owner == "s" for run_id in found)


def test_the_conversation_can_be_kept(bench):
    take(bench, "s", Wish(text="hello"))
    talk = bench.talks.of("s")
    path = export(talk, talk.folder, {"model": "script"})
    record = json.loads(zipfile.ZipFile(path).read("conversation.json"))
    assert record["exchanges"][0]["said"] == [{"type": "text", "text": "hello"}]
    assert record["about"] == {"model": "script"}


# --- the store ---


def test_a_closed_conversation_takes_its_files_along():
    talks = Talks()
    path = talks.of("s").file_of(tone(0.2))
    assert talks.of("s").file_of(tone(0.2)) != path
    talks.drop("s")
    with pytest.raises(FileNotFoundError):
        open(path)
    assert len(talks) == 0


def test_old_and_many_conversations_are_forgotten():
    now = [0.0]
    talks = Talks(max_talks=2, ttl_s=10, clock=lambda: now[0])
    first = talks.of("a")
    assert talks.of("a") is first
    now[0] = 11
    assert talks.of("a") is not first
    talks.of("b"), talks.of("c"), talks.of("d")
    assert len(talks) <= 3
