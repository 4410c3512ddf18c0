"""The Translation tab without a browser."""

import threading
from dataclasses import replace

import gradio as gr
import pytest

from demo.audio_input import Example
from demo.audio_turn import accept, paced, stop
from demo.tabs.translation import Translated, direction_of, translate, translated_html, updates
from demo.texts import Texts
from demo.transcript import Transcript
from model.events import AudioDelta, TextDelta, TurnDone
from model.tasks import prompts
from tests.demo.fakes import WORDS, ready_workbench, replay_engine, tone
from tests.demo.task_fakes import BACK, TRANSLATION, task_engine


@pytest.fixture
def bench():
    return ready_workbench(task_engine())


def last(frames):
    return list(frames)[-1]


def prompts_of(bench):
    return [conversation[0].parts[0].text for conversation, _ in bench.engine.backend.calls]


@pytest.mark.parametrize(
    ("target", "words", "prompt"), [("zh", TRANSLATION, prompts.TRANSLATE_TO_ZH), ("en", BACK, prompts.TRANSLATE_TO_EN)]
)
def test_both_directions_stream_and_end_in_a_run(bench, clip, texts, target, words, prompt):
    frames = list(translate(bench, "me", clip, texts, target, False))
    shown = [frame.transcript.text for frame in frames]
    assert all(later.startswith(earlier) for earlier, later in zip(shown, shown[1:]))
    assert frames[-1].transcript.text == "".join(words) and frames[-1].phase == "done"
    assert bench.runs.owned_by("me") == (frames[-1].run,) and "".join(words)[:4] in frames[-1].run.title
    assert prompts_of(bench) == [prompt] and frames[-1].source is None


def test_what_was_said_comes_after_the_translation_and_its_run(bench, clip, texts):
    frames = list(translate(bench, "me", clip, texts))
    assert prompts_of(bench) == [prompts.TRANSLATE_TO_ZH, prompts.ASR]
    assert frames[-1].source.text == "".join(WORDS) and frames[-1].source.phase == "done"
    assert frames[-1].transcript.text == "".join(TRANSLATION) and not frames[-1].is_under_way
    with_view = [number for number, frame in enumerate(frames) if frame.view is not None]
    heard_words = [number for number, frame in enumerate(frames) if frame.source and frame.source.text]
    assert len(with_view) == 1 and with_view[0] < heard_words[0], "the view is sent once, before the words said"
    assert all(frame.run is not None for frame in frames[with_view[0] :])
    assert all(frame.is_under_way for frame in frames[:-1])


def test_no_frame_with_a_view_is_left_out_on_the_way_to_the_page(bench, clip, texts):
    frames = list(paced(translate(bench, "me", clip, texts), least_s=60))
    assert sum(frame.view is not None for frame in frames) == 1 and frames[-1].source.text == "".join(WORDS)


def test_stop_keeps_the_words_of_both(clip, texts):
    bench = ready_workbench(task_engine(pause_s=0.02))
    frames = translate(bench, "me", clip, texts)
    for frame in frames:
        if frame.source and frame.source.text:
            break
    stop(bench, "me", Translated)
    stopped = last(frames)
    assert stopped.transcript.text == "".join(TRANSLATION) and stopped.transcript.phase == "done"
    assert stopped.source.phase == "stopped" and stopped.source.text and not stopped.is_under_way


def test_a_turn_stopped_in_the_queue_asks_nothing(bench, clip, texts):
    assert accept(bench, "me", clip, Translated).phase == "starting"
    assert stop(bench, "me", Translated).phase == "stopped"
    assert [frame.phase for frame in translate(bench, "me", clip, texts)] == ["stopped"]
    assert not bench.engine.backend.calls


def test_when_only_the_words_said_fail_the_translation_stands(clip, texts):
    class Breaks:
        info = {}

        def stream(self, conversation, options, *, cancel=None):
            if conversation[0].parts[0].text == prompts.ASR:
                raise RuntimeError("secret path /home/x")
            yield TextDelta("好", (1,), 0.1)
            yield TurnDone("stop", (1, 2), 5, 2, 0.2)

    engine = replay_engine()
    bench = ready_workbench(type(engine)(Breaks(), engine.capture, engine.facts))
    frame = last(translate(bench, "me", clip, texts))
    assert frame.transcript.phase == "done" and frame.transcript.text == "好"
    assert frame.source.phase == "failed" and "secret" not in str(frame.source.problem) and not frame.is_under_way


def test_nothing_given_silence_and_nonsense_are_told(bench, clip, texts, tmp_path):
    import numpy as np
    import soundfile

    assert "no recording yet" in str(last(translate(bench, "me", None, texts)).transcript.problem)
    silent = tmp_path / "silence.wav"
    soundfile.write(silent, np.zeros(16_000, np.float32), 16_000)
    frame = last(translate(bench, "me", str(silent), texts))
    assert "silent" in str(frame.transcript.problem) and frame.source is None and not frame.is_under_way
    assert last(translate(bench, "me", clip, texts, "klingon", False)).target == "zh"


def test_two_sessions_never_see_each_other(bench, clip, texts):
    mine, yours = (last(translate(bench, who, clip, texts)) for who in ("me", "you"))
    assert bench.runs.owned_by("me") == (mine.run,) and bench.runs.owned_by("you") == (yours.run,)


def test_leaving_the_page_stops_the_model(clip, texts):
    bench = ready_workbench(task_engine(pause_s=0.02))
    frames = translate(bench, "me", clip, texts)
    while not next(frames).transcript.text:
        pass
    turn = bench.sessions._turns["me"]
    frames.close()
    assert isinstance(turn.cancel, threading.Event) and turn.cancel.is_set()


# --- pictures -------------------------------------------------------------------------------------


def test_an_empty_tab_teaches_in_both_languages():
    empty = Translated.at("empty")
    assert "Press Translate" in translated_html(empty, Texts("en"))
    assert "按“翻译”" in translated_html(empty, Texts("zh"))


def test_both_texts_stand_side_by_side_and_are_escaped(texts):
    frame = Translated(Transcript("done", "<b>x</b>"), target="en", source=Transcript("done", "<i>你</i>"))
    shown = translated_html(frame, texts)
    assert "<b>" not in shown and "<i>你" not in shown and "&lt;b&gt;x" in shown
    assert shown.index("Said, Chinese") < shown.index("Translation, English")
    waiting = translated_html(Translated(Transcript("writing", "x"), target="zh", source=Transcript()), texts)
    assert "Written down after the translation" in waiting


def test_the_buttons_follow_both_texts(texts):
    busy = Translated(Transcript("done", "x"), target="zh", source=Transcript("listening"))
    _, go, halt, *_ = updates(busy, texts)
    assert go["interactive"] is False and halt["interactive"] is True
    _, go, halt, *_ = updates(Translated(Transcript("done", "x"), target="zh"), texts)
    assert go["interactive"] is True and halt["interactive"] is False


def test_examples_choose_their_direction(tmp_path):
    assert direction_of(Example(tmp_path, "Turn off the television")) == ["zh"]
    assert direction_of(Example(tmp_path, "北京明天天气怎么样")) == ["en"]


# --- speaking -------------------------------------------------------------------------------------


@pytest.fixture
def speaking():
    """A workbench that speaks by a script: two pieces of sound, in the voice that suits the language."""
    used = []

    class Speech:
        problem, cards = None, ("Lan",)

        def answer(self, backend, conversation, language, options, cancel):
            used.append((language, options.max_new_tokens))
            for event in backend.stream(conversation, options, cancel=cancel):
                if isinstance(event, TurnDone):
                    yield AudioDelta(tone(0.5, rate=24_000), 0.2)
                    yield AudioDelta(tone(0.25, rate=24_000), 0.3)
                yield event

    engine = task_engine()
    bench = ready_workbench(replace(engine, speech=Speech()))
    return bench, used


def test_a_spoken_translation_is_words_and_sound(speaking, clip, texts):
    bench, used = speaking
    frames = list(translate(bench, "me", clip, texts, "zh", True, True))
    assert used == [("zh", 1024)] and prompts_of(bench)[0] == prompts.TRANSLATE_TO_ZH_SPOKEN
    fed = [frame.feed for frame in frames if frame.feed is not None]
    assert fed[-1].duration_s == pytest.approx(0.75) and fed[-1].is_done
    assert frames[-1].feed is None, "the player is left alone while the words said are written"
    assert frames[-1].source.text == "".join(WORDS)
    assert updates(frames[-1], texts)[3] == gr.skip() and updates(frames[0], texts, is_new=True)[3] == {}


def test_without_a_voice_nothing_is_spoken(bench, clip, texts):
    assert not bench.can_say
    list(translate(bench, "me", clip, texts, "zh", False, True))
    assert prompts_of(bench) == [prompts.TRANSLATE_TO_ZH]
