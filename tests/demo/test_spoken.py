"""The picture of reading aloud: a pure step for each event, drawn without trusting any text."""

from dataclasses import replace

import numpy as np
import pytest

from demo.errors import Problem
from demo.player import Feed
from demo.spoken import Spoken, advance, spoken_html, with_mel
from demo.transcript import ENDINGS
from model.audio import Waveform
from model.events import AudioCodesDelta, AudioDelta, StageTiming, TextDelta, TurnDone
from tests.demo.fakes import tone


def sound(n=4800):
    return Waveform(tone(1.0, rate=24_000).samples[:n], 24_000)


EVENTS = [
    StageTiming("voice", 0.0, 0.2, 0.2),
    StageTiming("prefill", 0.2, 0.3, 0.3),
    TextDelta("hel", (1,), 0.3, spoken=True),
    AudioCodesDelta((5, 6, 7, 8), (905, 906, 907, 908), 0.31),
    TextDelta("lo", (2,), 0.32, spoken=True),
    AudioCodesDelta((1,), (901,), 0.33),
    StageTiming("sound", 0.33, 0.43, 0.43),
    AudioDelta(sound(), 0.43),
    StageTiming("sound", 0.43, 0.48, 0.48),
    AudioDelta(sound(), 0.48),
    TurnDone("stop", (1, 2), 3, 2, 0.5),
]


def seen_after(n, start=None):
    seen = start or Spoken("starting", feed=Feed())
    for event in EVENTS[:n]:
        seen = advance(seen, event)
    return seen


def test_events_build_the_picture():
    done = seen_after(len(EVENTS))
    assert (done.text, done.codes, done.words) == ("hello", (5, 6, 7, 8, 1), (("hel", 0), ("lo", 4)))
    assert (done.phase, done.first_s, done.total_s) == ("done", 0.43, 0.5)
    assert done.made_s == pytest.approx(0.15) and done.sound_s == 0.4 and done.real_time_factor == pytest.approx(1.25)
    assert done.feed.is_done and len(done.feed.pieces) == 2


def test_phases_follow_the_turn():
    phases = [seen_after(n).phase for n in range(len(EVENTS) + 1)]
    assert phases == ["starting", *["writing"] * 7, *["speaking"] * 3, "done"]


@pytest.mark.parametrize("reason", ENDINGS)
def test_every_ending_has_a_phase_and_ends_the_sound(reason):
    seen = advance(seen_after(8), TurnDone(reason, (), 0, 0, 1.0))
    assert seen.phase == ENDINGS[reason] and seen.feed.is_done and not seen.is_under_way


def test_stop_keeps_what_was_said():
    stopped = seen_after(8).stopped()
    assert stopped.phase == "stopped" and stopped.feed.is_done and stopped.sound_s == 0.2
    done = seen_after(len(EVENTS))
    assert done.stopped() is done
    assert Spoken.at("stopped").stopped().value == {}


def test_values_of_the_view_grow():
    early, late = seen_after(4).value, with_mel(seen_after(len(EVENTS))).value
    assert early["id"] == seen_after(4, Spoken(feed=None)).value.get("id", early["id"])
    assert (early["codes"], early["pieces"], early["mel"]) == ([5, 6, 7, 8], [], None)
    assert late["words"] == [["hello", 0]] and late["digits"] == 8 and late["mel"]["columns"] == 20 and late["done"]
    assert Spoken().value == {}


def test_a_turn_without_sound_says_so(texts):
    seen = advance(Spoken("writing", feed=Feed()), TurnDone("stop", (), 0, 0, 0.1))
    assert with_mel(seen) is seen and "no speech codes" in spoken_html(seen, texts)
    assert "no speech codes" not in spoken_html(seen_after(len(EVENTS)), texts)


def test_the_panel_shows_phase_words_and_times(texts):
    page = spoken_html(seen_after(len(EVENTS)), texts)
    assert 'data-phase="done"' in page and 'aria-busy="false"' in page and ">hello<" in page
    for value in ("430 ms", "400 ms", "150 ms", "1.25", "500 ms", ">5<"):
        assert value in page
    assert 'aria-busy="true"' in spoken_html(seen_after(5), texts)
    assert 'data-phase="empty"' in spoken_html(Spoken(), texts)


def test_nothing_from_elsewhere_is_markup(texts):
    seen = replace(seen_after(8), text="<img src=x>", problem=Problem("<b>t</b>", "<b>d</b>"))
    page = spoken_html(seen, texts)
    assert "<img" not in page and "<b>" not in page and "&lt;img" in page


def test_failure_keeps_the_words(texts):
    seen = seen_after(8).failed(Problem("Title", "Detail"))
    page = spoken_html(seen, texts)
    assert seen.phase == "failed" and seen.feed.is_done and "hello" in page and "Detail" in page
    assert Spoken.at("starting").failed(Problem("a", "b")).feed is None


def test_a_sound_of_a_few_samples_has_no_mel():
    seen = Spoken(feed=Feed().add(Waveform(np.zeros(100, np.float32), 24_000)).finish(), phase="done")
    assert with_mel(seen).mel is None
