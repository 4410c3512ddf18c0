"""Reading aloud as plain functions: scripted codes, sound of small random networks, no gradio."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from demo.session import new_session
from demo.settings import Settings
from demo.speech import Recording, Speech
from demo.spoken import Spoken
from demo.tabs.speech import AUTO, EXAMPLES, Wish, offer, offer_updates, read_aloud, voice_of, wish_of
from demo.texts import WORDS, Texts
from demo.workbench import Workbench
from model.audio import Waveform, save_waveform
from model.errors import CheckpointError
from model.events import TurnDone
from model.speaking import MAX_CHARACTERS, check_text
from tests.demo.fakes import ready_workbench, replay_engine, speaking_engine, spoken_script


@pytest.fixture(scope="module")
def speaking():
    return ready_workbench(speaking_engine())


def frames(workbench, wish, texts=None):
    return list(read_aloud(workbench, new_session(), wish, texts or Texts("en")))


def last(workbench, wish):
    return frames(workbench, wish)[-1]


# --- a turn ---------------------------------------------------------------------------------------


def test_a_text_is_read_from_the_first_sound_to_the_mel(speaking):
    seen = frames(speaking, Wish("Turn on the light."))
    done = seen[-1]
    assert done.phase == "done" and done.problem is None and done.text == "turn on the kitchen light"
    assert len(done.codes) == 60 and done.n_codes == 729 and done.sound_s == pytest.approx(60 / 25)
    assert done.mel["columns"] == 120 and done.feed.is_done and done.first_s < done.total_s
    growing = [picture for picture in seen if picture.phase == "speaking"]
    assert growing and not growing[0].feed.is_done and growing[0].sound_s < done.sound_s
    assert len({picture.feed.id for picture in seen}) == 1


def test_the_turn_is_the_tasks(speaking):
    backend = speaking.engine.backend
    backend.calls.clear()
    frames(speaking, Wish("  Turn on the light. ", seed=5))
    ((conversation, options),) = backend.calls
    assert conversation[0].parts[0].text.endswith("\nTurn on the light.") and options.seed == 5


def test_the_same_seed_gives_the_same_sound(speaking):
    one, again, other = (last(speaking, Wish("hi", seed=seed)).feed.pieces for seed in (1, 1, 2))
    assert one == again != other


def test_the_voice_makes_a_difference(speaking):
    grace, lan, fitting, chinese = (
        last(speaking, wish).feed.pieces
        for wish in (Wish("hi", voice="Grace"), Wish("hi", voice="Lan"), Wish("hi"), Wish("你好"))
    )
    assert grace == fitting != lan == chinese


def test_stop_is_heard_within_a_tick_and_keeps_the_sound():
    workbench = ready_workbench(speaking_engine(spoken_script(400), pause_s=0.02))
    session, seen = new_session(), []
    for picture in read_aloud(workbench, session, Wish("hi"), Texts("en")):
        seen.append(picture)
        if picture.phase == "speaking" and not workbench.sessions.stop(session).cancel.wait(0):
            pytest.fail("stop did not reach the turn")
    assert seen[-1].phase == "stopped" and 0 < seen[-1].sound_s < 16 and seen[-1].feed.is_done
    deadline = time.monotonic() + 5
    while workbench.is_busy and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not workbench.is_busy, "the model thread is free again"


def test_a_model_without_codes_says_so():
    workbench = ready_workbench(speaking_engine([TurnDone("stop", (2,), 5, 1, 0.1)]))
    done = last(workbench, Wish("hi"))
    assert done.phase == "done" and done.sound_s == 0 and done.mel is None


def test_codes_of_another_model_are_words_on_the_page():
    script = spoken_script(8)
    codes = script[2]
    script[2] = type(codes)((1, 2, 3, 4000), codes.ids, codes.t_s)
    failed = last(ready_workbench(speaking_engine(script)), Wish("hi"))
    assert failed.phase == "failed" and "code 4000" in failed.problem.detail


# --- wishes that cannot be met ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "title"),
    [
        (Wish(""), "There is nothing to read"),
        (Wish(" ...\n"), "There is nothing to read"),
        (Wish("a" * (MAX_CHARACTERS + 1)), "This text is too long"),
        (Wish("hi", "own"), "There is no recording yet"),
        (Wish("hi", "own", recording="x.wav"), "Please confirm that you may use this voice"),
    ],
)
def test_what_is_missing_is_told_before_the_model_is_asked(wish, title):
    workbench = ready_workbench(speaking_engine())
    (shown,) = frames(workbench, wish)
    assert shown.phase == "failed" and shown.problem.title == title
    assert not workbench.engine.backend.calls


def test_a_voice_that_is_gone_is_told(speaking):
    failed = last(speaking, Wish("hi", voice="Nobody"))
    assert failed.phase == "failed" and "none of that name" in failed.problem.detail


def test_a_model_that_cannot_speak_never_pretends():
    failed = last(ready_workbench(replay_engine()), Wish("hi"))
    assert failed.phase == "failed" and not failed.sound_s and "cannot make sound" in failed.problem.detail


def test_every_example_can_be_read():
    assert all(check_text(text) == text for text in EXAMPLES)
    assert str(MAX_CHARACTERS) in WORDS["speech_text_info"][0] and str(MAX_CHARACTERS) in WORDS["speech_text_info"][1]


# --- a voice of one's own ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloning(tmp_path_factory):
    """A workbench that makes voices of recordings."""
    pytest.importorskip("onnxruntime")
    from tests.small_voice import build_token2wav, save_speaker

    token2wav = build_token2wav(save_speaker(tmp_path_factory.mktemp("net") / "speaker.onnx"))
    return ready_workbench(speaking_engine(token2wav=token2wav))


def own(path):
    return Wish("hi", "own", recording=str(path), has_consent=True)


def test_a_recording_becomes_a_voice_once(cloning, tmp_path, monkeypatch):
    from tests.small_voice import recording

    path = tmp_path / "me.wav"
    save_waveform(path, recording())
    tokenizer, heard = cloning.engine.speech.load().maker.tokenizer, []
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda sound: heard.append(sound) or encode(sound))
    first, again = last(cloning, own(path)), last(cloning, own(path.rename(tmp_path / "again.wav")))
    assert first.phase == "done" and first.feed.pieces == again.feed.pieces and len(heard) == 1
    assert cloning.engine.speech.load().voices.names == (), "it is kept under no name"


def silence():
    return np.zeros(24_000 * 4, np.float32)


def hiss():
    return (0.1 * np.random.default_rng(0).standard_normal(24_000 * 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: hiss()[:24_000], "1.0 s of sound"),
        (silence, "silence"),
        (hiss, "steady sound"),
        (lambda: np.tile(hiss(), 4), "16 s of sound"),
    ],
)
def test_bad_recordings_are_words_on_the_page(cloning, tmp_path, make, found):
    path = tmp_path / "bad.wav"
    save_waveform(path, Waveform(make(), 24_000))
    failed = last(cloning, own(path))
    assert failed.phase == "failed" and failed.problem.title == "This sound cannot be used"
    assert found in failed.problem.detail and failed.problem.advice


# --- what the tab offers ----------------------------------------------------------------------------


def test_voices_are_offered_in_the_visitors_language(speaking):
    english, chinese = offer(speaking, Texts("en")), offer(speaking, Texts("zh"))
    assert [value for _, value in english.voices] == [AUTO, "Grace", "Lan"] and english.notice == ""
    assert english.voices[1][0] == "Grace · Woman, clear" and chinese.voices[2][0] == "Lan · 女声，明亮"
    assert english.sources == ("builtin", "own") and english.can_speak


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (replay_engine, "has no voice"),
        (lambda: speaking_engine(cards=(), makes_voices=False), "no built-in voice"),
        (lambda: speaking_engine(problem=_broken()), "no file for flow"),
    ],
)
def test_why_a_model_cannot_read_is_said(engine, words, texts):
    offered = offer(ready_workbench(engine()), texts)
    assert not offered.can_speak and words in offered.notice and offered.voices == () == offered.sources
    *_, own_block, go = offer_updates(offered, "own")
    assert go["interactive"] is False and own_block["visible"] is False


def _broken():
    return CheckpointError("load the voice", found="no file for flow", expected="one", todo="Copy it again.")


def test_a_model_that_never_learned_to_read_says_so_and_may_be_asked(texts):
    engine = speaking_engine()
    engine = replace(engine, facts=replace(engine.facts, trained_tasks=("asr",)))
    offered = offer(ready_workbench(engine), texts)
    assert "never learned" in offered.notice and offered.can_speak


def test_only_what_there_is_is_offered(texts):
    only_own = offer(ready_workbench(speaking_engine(cards=())), texts)
    assert only_own.sources == ("own",) and only_own.voices == ()
    _, source, _, builtin, own_block, go = offer_updates(only_own, "builtin")
    assert source["value"] == "own" and not source["visible"]
    assert not builtin["visible"] and own_block["visible"] and go["interactive"]
    only_builtin = offer(ready_workbench(speaking_engine(makes_voices=False)), texts)
    assert only_builtin.sources == ("builtin",)


def test_while_the_model_loads_one_may_write(texts):
    gate = threading.Event()
    workbench = Workbench(Settings(lang="en"), lambda settings, progress: gate.wait(5) and speaking_engine())
    workbench.start()
    offered = offer(workbench, texts)
    assert offered.can_speak and "still loading" in offered.notice
    pictures = read_aloud(workbench, new_session(), Wish("hi"), texts)
    assert next(p for p in pictures if p.phase == "model")
    gate.set()
    assert list(pictures)[-1].phase == "done"


def test_the_right_voice_is_chosen():
    speech = speaking_engine().speech
    assert voice_of(speech, Wish("hi")) == "Grace" and voice_of(speech, Wish("你好")) == "Lan"
    assert voice_of(speech, Wish("hi", voice="Lan")) == "Lan"
    assert voice_of(speech, Wish("hi", "own", recording="a.wav")) == Recording("a.wav")


def test_emptied_fields_count_as_not_chosen():
    assert wish_of(None, "builtin", None, None, None, None) == Wish("")
    assert wish_of("a", "own", "x", "r.wav", True, -3.0) == Wish("a", "own", "x", "r.wav", True, 0)


def test_speech_without_anything_is_not_ready():
    assert not Speech(lambda: None).is_ready and Speech(lambda: None, makes_voices=True).is_ready
    assert Spoken().is_under_way is False
