"""A turn of the assistant: what is heard, thought and said, and a history that is exactly right afterwards."""

import threading
import time
from datetime import UTC, datetime

import pytest

from model.assistant import Assistant, ConversationState, TurnOptions
from model.backends.local import LocalBackend
from model.backends.scripted import ScriptedBackend
from model.chat import THINK_PREFIX, THINK_SUFFIX, pack_ta4
from model.errors import BackendError, ConversationError, OptionsError
from model.events import AudioCodesDelta, StageTiming, TextDelta, ThoughtDelta, TurnDone, collect
from model.messages import Audio, Control, Message, RawIds, Text
from model.options import GenerationOptions
from model.processing_step_audio_2 import StepAudio2Processor
from model.tokens import TTS_START
from model.tools.base import ToolContext
from tests.model.small_assistant import build_local
from tests.writing_backend import WritingBackend

NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
PLAIN = GenerationOptions(max_new_tokens=200)


def options(**changes):
    return TurnOptions(**{"generation": PLAIN, "context": ToolContext(now=lambda: NOON), **changes})


@pytest.fixture(scope="module")
def small(tokenizer):
    return StepAudio2Processor(tokenizer)


@pytest.fixture
def ids(small):
    """Return a maker of ids: text is spelled, whole numbers stay."""

    def make(*parts):
        return [i for part in parts for i in ([part] if isinstance(part, int) else small.encode_text(part))]

    return make


def said(state):
    """The texts of all exchanges, question and answer."""
    return [("".join(p.text for p in e.asked.parts if isinstance(p, Text)), e.turn.text) for e in state.exchanges]


# --- listening ---


def test_three_lines_are_a_turn(small, ids):
    assistant, talk = Assistant(WritingBackend(small, ids("good morning", small.ids.eot))), ConversationState()
    turn = collect(assistant.say(talk, "hello"))
    assert turn.text == "good morning" and turn.reason == "stop" and said(talk) == [("hello", "good morning")]


def test_clips_and_words_are_heard_in_their_order(small, ids, tone):
    backend = WritingBackend(small, ids("hello", small.ids.eot))
    first, second = tone(16_000), tone(8_000)
    collect(Assistant(backend).say(ConversationState(), first, "and this one?", Audio(second, "b.wav"), "Another one."))
    human = backend.prompts[0][1]
    assert human == Message(
        "human", (Audio(first), Text("and this one?"), Audio(second, "b.wav"), Text("Another one."))
    )
    spans = [span.clip_index for span in small.encode(backend.prompts[0]).spans if span.kind == "audio"]
    assert spans == [0, 1]


@pytest.mark.parametrize("nothing", [(), ("",), ("  ", "\n")])
def test_nothing_said_is_refused_at_once(small, nothing):
    with pytest.raises(ConversationError, match="nothing that was said"):
        Assistant(WritingBackend(small, [1])).say(ConversationState(), *nothing)


def test_the_system_prompt_applies_at_once_and_knows_the_day(small, ids):
    backend = WritingBackend(small, ids("hello", small.ids.eot))
    assistant, talk = Assistant(backend, options=options()), ConversationState("Today is {today}.")
    collect(assistant.say(talk, "hello"))
    talk.system = "今天是{today}。"
    collect(assistant.say(talk, "hello"))
    talk.system = ""
    collect(assistant.say(talk, "hello"))
    texts = [prompt[0].parts[0].text for prompt in backend.prompts]
    assert texts == [
        "Today is Tuesday, 3 November 2026.",
        "今天是2026年11月3日 星期二。",
        "You are a helpful assistant.",
    ]


def test_the_day_is_that_of_the_person(small, ids):
    backend = WritingBackend(small, ids("hello", small.ids.eot))
    late = ToolContext(now=lambda: datetime(2026, 11, 3, 20, tzinfo=UTC), time_zone="Asia/Tokyo")
    collect(Assistant(backend, options=options(context=late)).say(ConversationState("{today}"), "hello"))
    assert backend.prompts[0][0].parts[0].text == "Wednesday, 4 November 2026"


# --- what later turns read ---


def test_history_is_the_generated_ids_between_the_template(small, ids):
    backend = WritingBackend(small, ids("good morning", small.ids.eot), ids("hello", small.ids.eot))
    assistant, talk = Assistant(backend, options=options()), ConversationState("Be brief.")
    collect(assistant.say(talk, "hello"))
    collect(assistant.say(talk, "Another one."))
    bot, eot = small.ids.bot, small.ids.eot
    assert backend.prompt_ids() == ids(
        bot, "system\nBe brief.", eot, bot, "human\nhello", eot, bot, "assistant\n", "good morning", eot,
        bot, "human\nAnother one.", eot, bot, "assistant\n",
    )  # fmt: skip


def test_a_spoken_reply_is_history_in_its_raw_ids(small, ids):
    token_ids = small.ids
    group = [*ids("hello")[:1], *(token_ids.id_of(c) for c in (1, 2, 3, 4))]
    pads = [token_ids.tts_pad, *(token_ids.id_of(5),), *[token_ids.code_pad] * 3]
    backend = WritingBackend(
        small, [*group, *pads, token_ids.tts_end, token_ids.eot], capabilities=("text", "audio_out")
    )
    talk = ConversationState()
    turn = collect(Assistant(backend, options=options(speak=True)).say(talk, "hello"))
    assert turn.codes == (1, 2, 3, 4, 5) and backend.prompt_ids()[-1] == token_ids.tts_start
    raw = RawIds((*group, *pads, token_ids.tts_end))
    assert talk.exchanges[0].replied == (Message("assistant", (Control(TTS_START), raw)),)


def test_a_backend_without_ids_leaves_words_and_codes(small):
    done = TurnDone("stop", (), 0, 0, 0.3)
    spoken = [TextDelta("Hi", (), 0.1, spoken=True), AudioCodesDelta((1, 2, 3, 4), (), 0.2), done]
    talk = ConversationState()
    speaking = ScriptedBackend(spoken, capabilities=("text", "audio_out"))
    collect(Assistant(ScriptedBackend([TextDelta("Bye", (), 0.1), done])).say(talk, "bye"))
    collect(Assistant(speaking, options=options(speak=True)).say(talk, "hello"))
    assert talk.messages[1].parts == (Text("Bye"),)
    packed = pack_ta4(small.encode_text("Hi"), (1, 2, 3, 4), small.ids)
    rendered = small.encode(talk.messages).ids
    assert rendered[-len(packed) - 1 :] == [*packed, small.ids.eot]


def test_written_mode_skips_speech(small, ids):
    speech = [small.ids.id_of(c) for c in (1, 2, 3, 4)]
    backend = WritingBackend(small, ids("hello ", *speech, "world", small.ids.eot))
    events = list(Assistant(backend, options=options()).say(ConversationState(), "hello"))
    assert collect(events).text == "hello world" and not any(isinstance(e, AudioCodesDelta) for e in events)
    assert small.ids.tts_start not in backend.prompt_ids()


# --- thinking ---


def test_a_thought_that_ends_itself(small, ids):
    eot = small.ids.eot
    backend = WritingBackend(small, ids("hello world\n</think>"), ids("good morning", eot), ids("hello", eot))
    talk, assistant = ConversationState("Be brief."), Assistant(backend, options=options(think="free"))
    events = list(assistant.say(talk, "hello"))
    turn = collect(events)
    assert (turn.thought, turn.text) == ("hello world\n", "good morning")
    first, second = backend.prompt_ids(0), backend.prompt_ids(1)
    assert second == first + ids("hello world\n</think>") + ids("\n\n")
    assert turn.ids == tuple(ids("hello world\n</think>") + ids("good morning", eot))
    assert "think" in [e.stage for e in events if isinstance(e, StageTiming)]
    collect(assistant.say(talk, "Another one."))
    later = backend.prompt_ids(2)
    bot = small.ids.bot
    assert (
        ids(bot, "human\nhello", eot, bot, "assistant\n", "good morning", eot, bot, "human\nAnother one.", eot)
        == (later[later.index(eot) + 1 :][: -len(ids(bot, "assistant\n" + THINK_PREFIX))])
    )


def test_a_thought_ends_cleanly_at_its_budget(small, ids):
    many = ids("hello world, good morning hello world, good morning")
    backend = WritingBackend(small, many, ids("hello", small.ids.eot))
    events = list(Assistant(backend, options=options(think=7)).say(ConversationState(), "hello"))
    assert sum(len(e.ids) for e in events if isinstance(e, ThoughtDelta)) == 7
    assert backend.options[0].max_new_tokens == 7 and backend.options[0].stop == ("</think>",)
    first, second = backend.prompt_ids(0), backend.prompt_ids(1)
    assert second == first + many[:7] + ids("\n" + THINK_SUFFIX)
    assert collect(events).text == "hello" and collect(events).reason == "stop"


def test_a_spoken_answer_follows_the_thought(small, ids):
    backend = WritingBackend(
        small, ids("hello\n</think>\n\n"), [small.ids.tts_end, small.ids.eot], capabilities=("audio_out",)
    )
    collect(Assistant(backend, options=options(think=50, speak=True)).say(ConversationState(), "hello"))
    assert backend.prompt_ids(1)[-1] == small.ids.tts_start
    assert small.decode(backend.prompt_ids(1)).endswith("<think>\nhello\n</think>\n\n")


@pytest.mark.parametrize("think", ["none", 0])
def test_no_budget_is_no_thought(small, ids, think):
    backend = WritingBackend(small, ids("hello", small.ids.eot))
    turn = collect(Assistant(backend, options=options(think=think)).say(ConversationState(), "hello"))
    assert len(backend.prompts) == 1 and not turn.thought


@pytest.mark.parametrize("think", [-1, "much", True, 2.5])
def test_what_is_no_budget_is_refused(think):
    with pytest.raises(OptionsError, match="think="):
        TurnOptions(think=think)


def test_a_thought_leaves_room_for_the_answer(small, ids):
    backend = WritingBackend(small, ids("hello"), ids("hello", small.ids.eot), limit=200)
    collect(Assistant(backend, options=options(think="free")).say(ConversationState(), "hello"))
    assert backend.options[0].max_new_tokens == 200 - len(backend.prompt_ids(0)) - 64


# --- stopping ---


def test_a_stopped_reply_stays_as_far_as_it_came(small, ids):
    cancel, talk = threading.Event(), ConversationState()
    backend = WritingBackend(small, ids("good morning hello world"), ids("hello", small.ids.eot))
    assistant, events = Assistant(backend, options=options()), []
    for event in assistant.say(talk, "hello", cancel=cancel):
        events.append(event)
        if isinstance(event, TextDelta):
            cancel.set()
    turn = collect(events)
    assert turn.reason == "cancelled" and talk.exchanges[0].replied == (Message("assistant", (RawIds(turn.ids),)),)
    assert 0 < len(turn.ids) < 5
    collect(assistant.say(talk, "Another one."))
    assert len(talk.exchanges) == 2 and said(talk)[1] == ("Another one.", "hello")


def test_whoever_stops_listening_stops_the_turn_and_keeps_what_was_said(small, ids):
    talk = ConversationState()
    backend = WritingBackend(small, ids("good morning hello world " * 20), pause_s=0.001)
    events = Assistant(backend, options=options()).say(talk, "hello")
    next(e for e in events if isinstance(e, TextDelta))
    start_s = time.monotonic()
    events.close()
    assert time.monotonic() - start_s < 1 and not talk.is_busy
    (exchange,) = talk.exchanges
    assert exchange.turn.reason == "cancelled" and len(exchange.turn.ids) < 5
    assert exchange.replied == (Message("assistant", (RawIds(exchange.turn.ids),)),)


def test_a_spoken_reply_is_cut_between_two_groups(small, ids):
    token_ids, cancel, talk = small.ids, threading.Event(), ConversationState()
    word = ids("hello")[0]
    groups = [i for _ in range(20) for i in (word, *[token_ids.id_of(3)] * 4)]
    backend = WritingBackend(small, groups, capabilities=("audio_out",))
    heard = 0
    for event in Assistant(backend, options=options(speak=True)).say(talk, "hello", cancel=cancel):
        heard += isinstance(event, TextDelta)
        if heard == 3:  # the third group has only its word
            cancel.set()
    (message,) = talk.exchanges[0].replied
    assert message.parts == (Control(TTS_START), RawIds((*groups[:10], token_ids.tts_end)))


def test_a_turn_stopped_before_a_word_leaves_no_trace_but_can_be_tried_again(small, ids):
    cancel, talk = threading.Event(), ConversationState()
    cancel.set()
    assistant = Assistant(WritingBackend(small, ids("hello", small.ids.eot)), options=options())
    turn = collect(assistant.say(talk, "hello", cancel=cancel))
    assert turn.reason == "cancelled" and talk.exchanges == () and talk.unanswered == Message("human", (Text("hello"),))
    collect(assistant.regenerate(talk))
    assert said(talk) == [("hello", "hello")] and talk.unanswered is None


def test_a_failed_turn_poisons_nothing(small, ids):
    good = ids("hello", small.ids.eot)
    backend = WritingBackend(small, good, RuntimeError("out of memory"), good)
    assistant, talk, events = Assistant(backend, options=options()), ConversationState(), []
    collect(assistant.say(talk, "one"))
    before = talk.messages
    with pytest.raises(RuntimeError, match="out of memory"):
        for event in assistant.say(talk, "two"):
            events.append(event)
    assert events[-1].reason == "error" and talk.messages == before and not talk.is_busy
    collect(assistant.say(talk, "three"))
    assert said(talk) == [("one", "hello"), ("three", "hello")] and talk.unanswered is None


@pytest.mark.parametrize("script", [[], [TextDelta("Hi", (), 0.1)], [TurnDone("error", (), 0, 0, 0.1, "gone")]])
def test_a_backend_that_breaks_off_fails_the_turn(script):
    talk = ConversationState()
    with pytest.raises(BackendError):
        collect(Assistant(ScriptedBackend(script)).say(talk, "hello"))
    assert talk.exchanges == () and talk.unanswered is not None


def test_one_turn_at_a_time(small, ids):
    talk, assistant = ConversationState(), Assistant(WritingBackend(small, ids("good morning")))
    first = assistant.say(talk, "hello")
    next(first)
    for other in (lambda: next(assistant.say(talk, "hello")), talk.clear, talk.undo):
        with pytest.raises(ConversationError, match="still under way"):
            other()
    first.close()
    collect(assistant.say(talk, "hello"))


# --- going round in circles ---


def test_a_loop_ends_the_reply_and_leaves_the_history(small, ids):
    start, cycle = ids("good morning "), ids("my")
    backend = WritingBackend(small, start + cycle * 500)
    talk = ConversationState()
    turn = collect(Assistant(backend, options=options()).say(talk, "hello"))
    assert turn.reason == "repetition" and len(turn.ids) < 200
    kept = talk.exchanges[0].replied[0].parts[0].ids
    assert kept == tuple((start + cycle * 500)[: len(turn.ids) - PLAIN.repetition_guard])


def test_a_loop_of_a_backend_without_ids_ends_too():
    talk, endless = ConversationState(), [TextDelta("嗯", (), 0.1)] * 100_000
    turn = collect(Assistant(ScriptedBackend(endless)).say(talk, "hello"))
    assert turn.reason == "repetition" and len(turn.text) == 4 * 96


# --- again, and otherwise ---


def test_an_answer_is_given_again(small, ids):
    eot = small.ids.eot
    backend = WritingBackend(small, ids("one", eot), ids("two", eot), ids("three", eot))
    assistant, talk = Assistant(backend, options=options()), ConversationState()
    collect(assistant.say(talk, "first"))
    collect(assistant.say(talk, "second"))
    collect(assistant.regenerate(talk))
    assert said(talk) == [("first", "one"), ("second", "three")]
    assert backend.prompt_ids(2) == backend.prompt_ids(1)


def test_a_message_is_edited_and_what_followed_goes(small, ids):
    eot = small.ids.eot
    backend = WritingBackend(small, *(ids(word, eot) for word in ("one", "two", "three", "four", "five")))
    assistant, talk = Assistant(backend, options=options()), ConversationState("Be brief.")
    for words in ("first", "second", "third"):
        collect(assistant.say(talk, words))
    collect(assistant.edit(talk, 1, "hello"))
    assert said(talk) == [("first", "one"), ("hello", "four")]
    bot = small.ids.bot
    collect(assistant.say(talk, "last"))
    assert backend.prompt_ids() == ids(
        bot, "system\nBe brief.", eot, bot, "human\nfirst", eot, bot, "assistant\n", "one", eot,
        bot, "human\nhello", eot, bot, "assistant\n", "four", eot, bot, "human\nlast", eot, bot, "assistant\n",
    )  # fmt: skip


@pytest.mark.parametrize("how", ["regenerate", "edit", "stopped"])
def test_an_answer_goes_only_when_the_new_one_is_there(small, ids, how):
    good = ids("hello", small.ids.eot)
    backend = WritingBackend(small, good, good, RuntimeError("gone"))
    assistant, talk, cancel = Assistant(backend, options=options()), ConversationState(), threading.Event()
    collect(assistant.say(talk, "one"))
    collect(assistant.say(talk, "two"))
    before = talk.exchanges
    if how == "stopped":
        cancel.set()
        collect(assistant.edit(talk, 0, "other", cancel=cancel))
    else:
        with pytest.raises(RuntimeError):
            collect(assistant.regenerate(talk) if how == "regenerate" else assistant.edit(talk, 0, "other"))
    assert talk.exchanges == before and talk.unanswered is None


def test_an_unanswered_message_can_be_edited(small, ids):
    good = ids("hello", small.ids.eot)
    backend = WritingBackend(small, good, RuntimeError("gone"), good)
    assistant, talk = Assistant(backend, options=options()), ConversationState()
    collect(assistant.say(talk, "one"))
    with pytest.raises(RuntimeError):
        collect(assistant.say(talk, "two"))
    collect(assistant.edit(talk, 1, "three"))
    assert said(talk) == [("one", "hello"), ("three", "hello")]


def test_the_latest_message_is_taken_back(small, ids):
    backend = WritingBackend(small, ids("hello", small.ids.eot), RuntimeError("gone"))
    assistant, talk = Assistant(backend, options=options()), ConversationState()
    collect(assistant.say(talk, "one"))
    with pytest.raises(RuntimeError):
        collect(assistant.say(talk, "two"))
    taken = [talk.undo(), talk.undo(), talk.undo()]
    assert taken == [Message("human", (Text("two"),)), Message("human", (Text("one"),)), None]
    assert talk.exchanges == ()


@pytest.mark.parametrize("index", [-1, 1, 7])
def test_a_message_that_is_not_there_cannot_be_edited(small, ids, index):
    assistant, talk = Assistant(WritingBackend(small, ids("hello", small.ids.eot))), ConversationState()
    collect(assistant.say(talk, "one"))
    with pytest.raises(ConversationError, match=f"message {index}"):
        assistant.edit(talk, index, "two")
    with pytest.raises(ConversationError, match="no message yet"):
        assistant.regenerate(ConversationState())


# --- long, and many ---


def test_early_messages_make_room(small, ids):
    backend = WritingBackend(small, ids("hello world", small.ids.eot), limit=150)
    assistant, talk = (
        Assistant(backend, options=options(generation=GenerationOptions(max_new_tokens=40))),
        ConversationState(),
    )
    turns = [collect(assistant.say(talk, f"{n}: Name a river.")) for n in range(6)]
    assert len(talk.exchanges) == 6 and "left out" in turns[-1].message and "left out" not in turns[0].message
    last = backend.prompts[-1]
    assert last[0].role == "system" and last[-2] == talk.exchanges[-1].asked and len(backend.prompt_ids()) <= 110
    forgotten = talk.exchanges[-1].n_forgotten
    assert 0 < forgotten < 5 and last[1] == talk.exchanges[forgotten].asked


def test_four_conversations_at_once_do_not_mix(small, ids):
    class Echo(WritingBackend):
        def stream(self, conversation, options, *, cancel=None):
            words = conversation[-2].parts[0].text
            yield TextDelta(words[:3], tuple(small.encode_text(words[:3])), 0.1)
            time.sleep(0.001)
            yield TextDelta(words[3:], tuple(small.encode_text(words[3:])), 0.2)
            reply = (*small.encode_text(words[:3]), *small.encode_text(words[3:]), small.ids.eot)
            yield TurnDone("stop", reply, 1, len(reply), 0.3)

    assistant = Assistant(Echo(small, []), options=options())
    talks = [ConversationState() for _ in range(4)]

    def hold(n):
        for turn in range(10):
            collect(assistant.say(talks[n], f"conversation {n} turn {turn}"))

    threads = [threading.Thread(target=hold, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for n, talk in enumerate(talks):
        expected = [f"conversation {n} turn {turn}" for turn in range(10)]
        assert said(talk) == [(words, words) for words in expected]


# --- with a network ---


def test_a_random_model_thinks_within_its_budget_and_goes_on_id_by_id(tokenizer):
    backend = LocalBackend(build_local(tokenizer))
    drawn = GenerationOptions(max_new_tokens=20, temperature=1.0, seed=5, repetition_guard=0)
    talk, assistant = ConversationState("Be brief."), Assistant(backend, options=options(think=6, generation=drawn))
    turn = collect(assistant.say(talk, "hello"))
    thought, reply = talk.exchanges[0].rounds
    encode = backend.loaded.processor.encode
    first, second = encode(thought.prompt).ids, encode(reply.prompt).ids
    assert len(thought.ids) <= 6 and turn.ids == thought.ids + reply.ids
    n_kept = next(n for n in range(6, -1, -1) if second[: len(first) + n] == first + list(thought.ids[:n]))
    closing = backend.loaded.processor.decode(second[len(first) + n_kept :])
    assert closing.endswith("</think>\n\n")
    again = collect(assistant.say(ConversationState("Be brief."), "hello"))
    assert again.ids == turn.ids


def test_a_random_model_reads_its_own_ids_again(tokenizer, tone):
    loaded = build_local(tokenizer)
    backend, encode = LocalBackend(loaded), loaded.processor.encode
    drawn = GenerationOptions(max_new_tokens=12, temperature=1.0, seed=1, repetition_guard=0)
    talk, assistant = ConversationState(), Assistant(backend, options=options(generation=drawn))
    first = collect(assistant.say(talk, tone(8_000), "hello"))
    second = collect(assistant.say(talk, "Another one."))
    ends = loaded.processor.ids.eos
    written = [i for i in first.ids if i not in ends or first.reason != "stop"]
    before = encode(talk.exchanges[0].rounds[0].prompt).ids
    prompt = encode(talk.exchanges[1].rounds[0].prompt).ids
    assert prompt[: len(before) + len(written)] == before + written
    assert second.prompt_tokens == len(prompt)
    assert backend.room(talk.messages) == loaded.model.config.text_config.max_position_embeddings - len(
        encode(talk.messages).ids
    )
