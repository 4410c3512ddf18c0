"""What later turns read of replies: whole ones as they are, broken ones made whole, nothing of what came to nothing."""

from model.messages import AudioCodes, Control, Message, RawIds, Text, ToolCall, ToolResult
from model.reply_history import Written, replied, so_far
from model.tokens import TTS_START, TokenIds

IDS = TokenIds.official()
CODE = IDS.first_code
RESULT = (Message("input", (ToolResult("noon"),)),)
GROUPS = (7, *[CODE] * 4, 8, *[CODE] * 4)


def test_the_end_of_the_turn_is_written_by_the_template():
    assert replied([Written("stop", (5, 6, IDS.eot), 6, False, text="a")]) == (Message("assistant", (RawIds((5, 6)),)),)


def test_an_id_that_was_shown_is_no_end():
    assert replied([Written("stop", (5, 6), 6, False, text="a")])[0].parts == (RawIds((5, 6)),)


def test_an_answer_of_nothing_is_an_answer():
    assert replied([Written("stop", (IDS.eot,), None, False)]) == (Message("assistant", (RawIds(()),)),)


def test_a_broken_spoken_reply_keeps_whole_groups():
    written = Written("cancelled", (*GROUPS, 9, CODE), CODE, True, spoken_text="abc", codes=(0,) * 9)
    (message,) = replied([written], IDS)
    assert message.parts == (Control(TTS_START), RawIds((*GROUPS, IDS.tts_end)))


def test_without_the_ids_of_the_model_it_is_packed_anew():
    written = Written("cancelled", (*GROUPS, 9, CODE), CODE, True, spoken_text="abc", codes=(0,) * 9)
    assert replied([written])[0].parts == (AudioCodes((0,) * 9, "abc"),)


def test_speech_that_has_ended_stays_whole():
    ids = (*GROUPS, IDS.tts_end, 5)
    written = Written("length", ids, 5, True, spoken_text="ab", text="c", codes=(0,) * 8)
    assert replied([written], IDS)[0].parts == (Control(TTS_START), RawIds(ids))


def test_a_cycle_goes_and_what_was_before_stays():
    written = Written("repetition", (1, 2, *[3] * 12), 3, False, text="a b" + "c" * 12)
    assert replied([written], repetition_window=12)[0].parts == (RawIds((1, 2)),)
    assert replied([Written("repetition", (3,) * 12, 3, False, text="c" * 12)], repetition_window=12) == ()


def test_calls_that_were_answered_stay_and_the_last_one_in_vain_goes():
    call = Written(
        "stop", (4, IDS.eot), 4, False, text="Wait.", calls=(ToolCall("x"),), tried_to_call=True, results=RESULT
    )
    answer = Written("stop", (5, IDS.eot), 5, False, text="Noon.")
    whole = (Message("assistant", (RawIds((4,)),)), *RESULT)
    assert so_far([call]) == whole and replied([call, answer]) == (*whole, Message("assistant", (RawIds((5,)),)))
    nothing = Written("cancelled", (), None, False)
    assert replied([call, nothing]) == (Message("assistant", (Text("Wait."),)),)


def test_nothing_answered_is_nothing():
    silent_call = Written("stop", (4, IDS.eot), 4, False, calls=(ToolCall("x"),), tried_to_call=True, results=RESULT)
    assert replied([]) == replied([Written("cancelled", (), None, False)]) == replied([silent_call]) == ()


def test_without_ids_a_reply_is_its_words_and_calls():
    call = ToolCall("x", {"q": "y"})
    written = Written("stop", (), None, False, text="Wait.", calls=(call,), tried_to_call=True, results=RESULT)
    assert so_far([written]) == (Message("assistant", (Text("Wait."), call)), *RESULT)
