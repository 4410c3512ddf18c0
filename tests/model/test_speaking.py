"""Codes become sound in the middle of a turn: whole, in order, at once cancelled, and nobody's error is swallowed."""

import itertools
import threading

import numpy as np
import pytest

from model.backends.scripted import ScriptedBackend
from model.errors import AudioError, ConversationError
from model.events import AudioCodesDelta, AudioDelta, StageTiming, TextDelta, TurnDone, collect
from model.messages import Control, Text
from model.options import GenerationOptions
from model.speaking import MAX_CHARACTERS, CodeSpeaker, check_text, speak, voiced
from model.token2wav.voice import Voices
from tests.small_voice import build_token2wav, build_voice, random_codes

FAST = {"n_steps": 1, "first_chunk": 4, "chunk": 8}


@pytest.fixture(scope="module")
def token2wav():
    return build_token2wav(voices=Voices(voices=[build_voice()]))


def script(codes, per_event=4):
    """A spoken turn: a word before every group of codes."""
    events, t_s = [StageTiming("prefill", 0.0, 0.001, 0.001)], 0.001
    for place in range(0, len(codes), per_event):
        t_s += 0.0001
        group = tuple(codes[place : place + per_event])
        events += [TextDelta("la ", (7,), t_s, spoken=True), AudioCodesDelta(group, tuple(900 + c for c in group), t_s)]
    ids = tuple(i for event in events for i in getattr(event, "ids", ()))
    return [*events, TurnDone("stop", (*ids, 2), 5, len(ids) + 1, t_s)]


def backend(codes, **options):
    return ScriptedBackend(script(codes, **options))


# --- the sound ---


@pytest.mark.parametrize("per_event", [1, 4, 100])
def test_the_sound_of_a_turn_is_that_of_its_codes(token2wav, per_event):
    codes = random_codes(30)
    turn = collect(speak(backend(codes, per_event=per_event), token2wav, "hello", "invented 0", **FAST))
    assert turn.waveform == token2wav.speak(codes, build_voice(), **FAST)
    assert turn.codes == tuple(codes) and turn.reason == "stop" and turn.text.startswith("la ")


def test_sound_follows_the_codes_that_complete_it(token2wav):
    events = list(speak(backend(random_codes(60)), token2wav, "hello", build_voice(), **FAST))
    kinds = [type(event) for event in events]
    first, last = kinds.index(AudioDelta), len(kinds) - 1 - kinds[::-1].index(AudioDelta)
    codes_before = sum(len(e.codes) for e in events[:first] if isinstance(e, AudioCodesDelta))
    assert codes_before - 4 < token2wav.codes_to_first_sound(4, 8) <= codes_before
    assert kinds[-1] is TurnDone and last == len(kinds) - 2 and kinds.count(AudioDelta) > 4
    assert [e.stage for e in events if isinstance(e, StageTiming)][:2] == ["voice", "prefill"]
    pieces = [e for e, sound in itertools.pairwise(events) if isinstance(sound, AudioDelta)]
    assert all(isinstance(e, StageTiming) and e.stage == "sound" for e in pieces)


def test_one_slice_of_many_codes_gives_many_pieces(token2wav):
    speaker = CodeSpeaker(token2wav, build_voice(), **FAST)
    made = [e for e in speaker.add(random_codes(60)) if isinstance(e, AudioDelta)]
    assert len(made) > 4 and speaker.timing.n_codes == 60


def test_times_go_forward_on_one_clock(token2wav):
    events = list(speak(backend(random_codes(40)), token2wav, "hello", build_voice(2), **FAST))
    times = [event.t_s for event in events if not isinstance(event, TextDelta | AudioCodesDelta)]
    assert times == sorted(times) and times[0] > 0
    voice = events[0]
    assert (
        isinstance(voice, StageTiming) and events[1].start_s >= voice.end_s
    )  # the reply begins after the voice is read


def test_the_seed_is_that_of_the_sound(token2wav):
    codes = random_codes(20)
    turns = [
        collect(speak(backend(codes), token2wav, "hi", build_voice(), GenerationOptions(seed=s), **FAST))
        for s in (1, 1, 2)
    ]
    assert turns[0].waveform == turns[1].waveform != turns[2].waveform


def test_the_prompt_is_that_of_the_task(token2wav):
    asked = backend([])
    list(speak(asked, token2wav, "  read me ", build_voice()))
    (conversation, options) = asked.calls[0]
    assert conversation[0].parts[0] == Text("以自然的语速读出下面的文字。\nread me")
    assert isinstance(conversation[0].parts[-1], Control) and options.max_new_tokens == 2048


def test_a_turn_without_codes_has_no_sound_and_costs_nothing(token2wav):
    speaker = CodeSpeaker(token2wav, "nobody")
    turn = collect(voiced(script([]), speaker))
    assert turn.waveform is None and turn.reason == "stop" and speaker.timing is None


# --- the end ---


def test_cancel_ends_within_a_block(token2wav):
    cancel, pieces = threading.Event(), []
    for event in speak(backend(random_codes(400)), token2wav, "hello", build_voice(), cancel=cancel, **FAST):
        if isinstance(event, AudioDelta):
            pieces.append(event)
            cancel.set()
    assert len(pieces) == 1 and event.reason == "cancelled" and isinstance(event, TurnDone)


def test_cancel_while_the_last_sound_is_made_counts(token2wav):
    cancel = threading.Event()
    speaker = CodeSpeaker(token2wav, build_voice(), cancel=cancel, **FAST)
    events = script(random_codes(5))
    step = speaker.finish

    def finish():
        cancel.set()
        return step()

    speaker.finish = finish
    assert list(voiced(events, speaker))[-1].reason == "cancelled"


def test_a_slice_of_many_codes_is_cancelled_between_blocks(token2wav):
    cancel = threading.Event()
    speaker, made = CodeSpeaker(token2wav, build_voice(), cancel=cancel, **FAST), 0
    for event in speaker.add(random_codes(500)):
        made += isinstance(event, AudioDelta)
        cancel.set()
    assert made <= 1 and speaker.cancelled and not list(speaker.finish()) and not list(speaker.add([1]))


def test_closing_the_turn_closes_the_backend(token2wav):
    closed = []

    class Slow(ScriptedBackend):
        def stream(self, *args, **kwargs):
            try:
                yield from super().stream(*args, **kwargs)
            finally:
                closed.append(True)

    turn = speak(Slow(script(random_codes(40))), token2wav, "hello", build_voice(), **FAST)
    next(e for e in turn if isinstance(e, AudioDelta))
    turn.close()
    assert closed == [True]


# --- what goes wrong ---


def test_codes_of_another_checkpoint_end_the_turn_with_a_sentence(token2wav):
    turn = speak(backend([1, 2, 3, 4, 6000]), token2wav, "hello", build_voice(), **FAST)
    seen = []
    with pytest.raises(AudioError, match="code 6000"):
        seen.extend(turn)  # keeps what came before the exception
    assert seen[-1].reason == "error" and "code 6000" in seen[-1].message
    assert seen[-1].ids == (7, 901, 902, 903, 904, 7, 6900)


def test_an_error_of_the_backend_is_told_once(token2wav):
    def broken():
        yield from script(random_codes(8))[:-1]
        yield TurnDone("error", (), 0, 0, 1.0, "no memory")
        raise RuntimeError("no memory")

    seen = []
    with pytest.raises(RuntimeError, match="no memory"):
        seen.extend(voiced(broken(), CodeSpeaker(token2wav, build_voice(), **FAST)))
    assert [e.reason for e in seen if isinstance(e, TurnDone)] == ["error"]


def test_a_voice_that_is_not_there_is_told_before_anything_is_written(token2wav):
    asked = backend([1])
    with pytest.raises(AudioError, match="none of that name"):
        list(speak(asked, token2wav, "hello", "nobody"))
    assert not asked.calls


@pytest.mark.parametrize("text", ["", " \n", "...!", "a" * (MAX_CHARACTERS + 1)])
def test_texts_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConversationError, match=f"expected a text of 1 to {MAX_CHARACTERS} characters"):
        check_text(text)


def test_texts_of_any_script_are_fine():
    assert check_text(" 今天 ") == "今天" and check_text("3") == "3" and len(check_text("a" * MAX_CHARACTERS)) == 300


def test_sound_is_finite_and_audible(token2wav):
    sound = collect(speak(backend(random_codes(30)), token2wav, "hello", build_voice(), **FAST)).waveform
    assert np.isfinite(sound.samples).all() and np.abs(sound.samples).max() > 0
