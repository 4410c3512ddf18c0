from functools import reduce

import pytest

from demo.errors import Problem
from demo.texts import Texts
from demo.transcript import ENDINGS, UNDER_WAY, Transcript, advance, failed, stopped, transcript_html
from model.events import TextDelta, ThoughtDelta, TurnDone
from tests.demo.fakes import WORDS, script


def test_events_add_up_to_the_words_and_their_times():
    seen = reduce(advance, script(), Transcript("listening", sound_s=2.0))
    assert seen.text == "".join(WORDS) and seen.phase == "done"
    assert seen.encode_s == pytest.approx(0.05) and seen.first_s == pytest.approx(0.1)
    assert seen.n_tokens == len(WORDS)
    assert seen.speed == pytest.approx(1 / 0.03)
    assert seen.total_s == pytest.approx(0.34) and seen.sound_s == 2.0


def test_the_first_word_has_no_speed_yet():
    assert advance(Transcript(), TextDelta("a", (1,), 0.1)).speed is None
    together = advance(advance(Transcript(), TextDelta("a", (1,), 0.1)), TextDelta("b", (2,), 0.1))
    assert together.speed is None, "two tokens at one moment must not divide by zero"


def test_other_events_change_nothing():
    seen = Transcript("listening")
    assert advance(seen, ThoughtDelta("hm", (1,), 0.1)) is seen


@pytest.mark.parametrize(("reason", "phase"), ENDINGS.items())
def test_every_reason_to_end_is_told(reason, phase):
    assert advance(Transcript("writing"), TurnDone(reason, (), 1, 0, 1.0)).phase == phase


@pytest.mark.parametrize("phase", UNDER_WAY)
def test_every_phase_can_be_drawn_and_stopped(phase, texts):
    seen = Transcript(phase, text="half a", waited_s=2.34)
    shown = transcript_html(seen, texts)
    assert 'aria-busy="true"' in shown and "half a" in shown and "2.3 s" in shown
    after = stopped(seen)
    assert after.phase == "stopped" and after.text == "half a", "words already found stay"
    assert 'aria-busy="false"' in transcript_html(after, texts)


def test_a_finished_turn_cannot_be_stopped_any_more():
    assert stopped(Transcript("done")).phase == "done"


def test_words_are_never_markup(texts):
    hostile = '<img src=x onerror="alert(1)"> ![](http://x/y.png)'
    shown = transcript_html(Transcript("done", text=hostile, note="<b>"), texts)
    assert "<img" not in shown and "&lt;img" in shown and "<b>" not in shown


def test_an_error_keeps_the_words_and_is_announced(texts):
    shown = transcript_html(failed(Transcript("writing", text="half"), Problem("T", "D", "A")), texts)
    assert 'role="alert"' in shown and "half" in shown
    assert "No words" not in transcript_html(failed(Transcript(), Problem("T", "D")), texts)


def test_no_words_is_said_in_words(texts):
    assert "No words were heard" in transcript_html(Transcript("done"), texts)
    assert "No words" not in transcript_html(Transcript("stopped"), texts)


def test_the_empty_state_teaches_in_both_languages():
    assert "Record or drop" in transcript_html(Transcript(), Texts("en"))
    assert "录音" in transcript_html(Transcript(), Texts("zh"))


def test_times_read_well(texts):
    shown = transcript_html(Transcript("done", "a", sound_s=61.04, encode_s=0.0312, first_s=0.9996, total_s=1.0), texts)
    assert "61.0 s" in shown and "31 ms" in shown and "1.0 s" in shown and "–" in shown
