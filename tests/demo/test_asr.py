"""The ASR tab without a browser: its handlers are plain functions."""

import math
import shutil
import struct
import subprocess
import threading
import time
import wave

import numpy as np
import pytest
import soundfile

from demo.audio_input import examples
from demo.audio_turn import Frame, accept, hear, paced, run_title, stop
from demo.settings import Settings
from demo.tabs.asr import transcribe
from demo.transcript import Transcript
from demo.workbench import Workbench
from model.errors import CheckpointError
from model.events import TextDelta, TurnDone
from tests.demo.fakes import WORDS, ready_workbench, replay_engine, script, tone


def last(frames):
    return list(frames)[-1]


def test_words_stream_and_end_in_a_run(workbench, clip, texts):
    frames = list(transcribe(workbench, "me", clip, texts))
    shown = [frame.transcript.text for frame in frames]
    assert all(later.startswith(earlier) for earlier, later in zip(shown, shown[1:]))
    assert {text for text in shown if text} >= {"".join(WORDS[: i + 1]) for i in range(len(WORDS))}
    assert frames[-1].transcript.phase == "done" and frames[-1].transcript.text == "".join(WORDS)
    assert frames[-1].transcript.sound_s == pytest.approx(1.5)
    assert workbench.runs.owned_by("me") == (frames[-1].run,)
    assert "turn on the kitchen" in frames[-1].run.title
    assert frames[-1].run.trace.meta.clips == ("clip.wav",)


def test_the_phases_come_in_order(workbench, clip, texts):
    phases = [frame.transcript.phase for frame in transcribe(workbench, "me", clip, texts)]
    changes = [phase for phase, before in zip(phases, [None, *phases]) if phase != before and phase != "queued"]
    assert list(dict.fromkeys(changes)) == ["listening", "writing", "looking", "done"]
    assert phases[-1] == "done" and phases.count("done") == 1


def test_the_model_is_asked_with_the_recording_at_16_khz(clip, texts):
    engine = replay_engine()
    last(transcribe(ready_workbench(engine), "me", clip, texts))
    (conversation, options), *rest = engine.backend.calls
    sounds = [part for message in conversation for part in message.parts if hasattr(part, "waveform")]
    assert not rest and len(sounds) == 1 and sounds[0].waveform.sample_rate_hz == 16_000
    assert options.temperature == 0 and options.max_new_tokens == 256


def test_two_sessions_never_see_each_other(workbench, clip, texts):
    mine, yours = (last(transcribe(workbench, who, clip, texts)) for who in ("me", "you"))
    assert workbench.runs.owned_by("me") == (mine.run,) and workbench.runs.owned_by("you") == (yours.run,)


# --- stop -----------------------------------------------------------------------------------------


def test_stop_works_within_a_second_keeps_the_words_and_stops_the_model(clip, texts):
    words = [f" word{i}" for i in range(400)]
    engine = replay_engine(script(words), pause_s=0.02)
    workbench = ready_workbench(engine)
    frames = transcribe(workbench, "me", clip, texts)
    for frame in frames:
        if frame.transcript.n_tokens >= 3:
            break
    began = time.monotonic()
    assert stop(workbench, "me") is None, "the turn itself shows that it was stopped"
    shown = last(frames)
    assert time.monotonic() - began < 1.0
    assert shown.transcript.phase == "stopped" and shown.transcript.text.startswith(" word0 word1 word2")
    assert shown.run is None
    assert not workbench.runs.owned_by("me"), "half a turn is no run"
    assert stop(workbench, "me") is None


def test_stop_does_not_wait_for_a_model_in_the_middle_of_a_long_step(clip, texts):
    release = threading.Event()

    class Stuck:
        info = {}

        def stream(self, conversation, options, *, cancel=None):
            release.wait(10)
            yield TurnDone("cancelled", (), 1, 0, 0.0)

    engine = replay_engine()
    workbench = ready_workbench(type(engine)(Stuck(), engine.capture, engine.facts))
    frames = transcribe(workbench, "me", clip, texts)
    for frame in frames:
        if frame.transcript.waited_s > 0.15:
            break
    began = time.monotonic()
    stop(workbench, "me")
    assert last(frames).transcript.phase == "stopped"
    assert time.monotonic() - began < 0.5
    release.set()


def test_a_turn_stopped_in_the_queue_never_asks_the_model(clip, texts):
    engine = replay_engine()
    workbench = ready_workbench(engine)
    accept(workbench, "me", clip)
    assert stop(workbench, "me").transcript.phase == "stopped"
    assert [frame.transcript.phase for frame in transcribe(workbench, "me", clip, texts)] == ["stopped"]
    assert not engine.backend.calls
    assert last(transcribe(workbench, "me", clip, texts)).transcript.phase == "done"


def test_a_fast_model_does_not_flood_the_page(texts):
    words = "".join("abcdefghij")
    frames = [Frame(Transcript("writing", words[: i + 1])) for i in range(10)]
    done = [Frame(Transcript("looking", words)), Frame(Transcript("done", words))]
    shown = list(paced((frame for frame in [*frames, *done]), least_s=60))
    assert [frame.transcript.phase for frame in shown] == ["writing", "looking", "done"]
    assert shown[0].transcript.text == "a" and shown[-1].transcript.text == words
    assert list(paced((frame for frame in frames), least_s=60)) == [frames[0], frames[-1]], "the last is never left out"
    assert list(paced((frame for frame in frames), least_s=0)) == frames


def test_pacing_passes_on_that_the_page_was_left():
    closed = []

    def frames():
        try:
            while True:
                yield Frame(Transcript("writing"))
        finally:
            closed.append(True)

    shown = paced(frames())
    next(shown)
    shown.close()
    assert closed == [True]


def test_leaving_the_page_stops_the_model(clip, texts):
    engine = replay_engine(script([" w"] * 400), pause_s=0.01)
    workbench = ready_workbench(engine)
    frames = transcribe(workbench, "me", clip, texts)
    while not next(frames).transcript.text:
        pass
    turn = workbench.sessions._turns["me"]
    frames.close()
    assert turn.cancel.is_set() and stop(workbench, "me") is None


def test_stopping_one_session_leaves_the_other_alone(clip, texts):
    workbench = ready_workbench(pause_s=0.01)
    mine = transcribe(workbench, "me", clip, texts)
    next(mine)
    assert stop(workbench, "you") is None
    assert last(mine).transcript.phase == "done"


# --- what can go wrong ----------------------------------------------------------------------------


def write_wav(path, samples, rate=16_000, subtype="PCM_16"):
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def no_recording(folder):
    return None


def empty_file(folder):
    path = folder / "empty.wav"
    path.touch()
    return path


def zero_seconds(folder):
    return write_wav(folder / "zero.wav", np.zeros(0, np.float32))


def ten_milliseconds(folder):
    return write_wav(folder / "blip.wav", tone(0.01).samples)


def silence(folder):
    return write_wav(folder / "silence.wav", np.zeros(32_000, np.float32))


def with_nan(folder):
    samples = tone(1.0).samples.copy()
    samples[100:110] = math.nan
    return write_wav(folder / "nan.wav", samples, subtype="FLOAT")


def text_named_wav(folder):
    path = folder / "notes.wav"
    path.write_text("dear diary, <b>today</b>\n" * 50)
    return path


def cut_short(folder):
    path = write_wav(folder / "cut.wav", tone(3.0).samples)
    path.write_bytes(path.read_bytes()[:20_000])
    return path


def three_hours(folder):
    """A header that promises three hours, so that nothing large is written."""
    path = folder / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8_000)
        file.writeframes(b"\x80" * 8_000)
    size = 3 * 3600 * 8_000
    with path.open("r+b") as file:
        file.seek(4)
        file.write(struct.pack("<I", size + 36))
        file.seek(40)
        file.write(struct.pack("<I", size))
        file.truncate(size + 44)
    return path


def deleted(folder):
    return folder / "gone.wav"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_recording, "no recording yet"),
        (empty_file, "empty file"),
        (zero_seconds, "0.00 s of sound"),
        (ten_milliseconds, "0.01 s of sound"),
        (silence, "silent"),
        (with_nan, "NaN"),
        (text_named_wav, "text, not sound"),
        (cut_short, "cut short"),
        (three_hours, "at most 1800 s"),
        (deleted, "gone.wav"),
    ],
)
def test_bad_input_gets_a_sentence_and_the_app_goes_on(make, says, workbench, clip, tmp_path, texts):
    path = make(tmp_path)
    frame = last(transcribe(workbench, "me", path and str(path), texts))
    assert frame.transcript.phase == "failed" and frame.run is None
    assert says in str(frame.transcript.problem)
    assert str(tmp_path) not in str(frame.transcript.problem) or make is deleted
    assert last(transcribe(workbench, "me", clip, texts)).transcript.phase == "done"


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (192_000, 2), (44_100, 6)])
def test_odd_rates_and_many_channels_are_fine(rate, channels, workbench, tmp_path, texts):
    samples = np.repeat(tone(1.0, rate=rate).samples[:, None], channels, axis=1)
    path = write_wav(tmp_path / "odd.wav", samples, rate)
    frame = last(transcribe(workbench, "me", str(path), texts))
    assert frame.transcript.phase == "done" and frame.transcript.sound_s == pytest.approx(1.0)


def test_m4a_without_ffmpeg_names_what_to_install(workbench, tmp_path, texts, monkeypatch):
    path = tmp_path / "voice.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + b"\x00" * 500)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    frame = last(transcribe(workbench, "me", str(path), texts))
    assert "ffmpeg" in str(frame.transcript.problem) and "WAV" in str(frame.transcript.problem)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_m4a_with_ffmpeg_works(workbench, clip, tmp_path, texts):
    path = tmp_path / "voice.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", clip, str(path)], check=True)
    assert last(transcribe(workbench, "me", str(path), texts)).transcript.phase == "done"


@pytest.mark.parametrize(("gain", "says"), [(0.004, "very quiet"), (40.0, "clipped")])
def test_poor_recordings_are_transcribed_with_a_warning(gain, says, workbench, tmp_path, texts):
    path = write_wav(tmp_path / "poor.wav", np.clip(tone(1.0).samples * gain, -1, 1))
    frame = last(transcribe(workbench, "me", str(path), texts))
    assert frame.transcript.phase == "done" and says in frame.transcript.note


def test_a_model_that_did_not_load_says_why(clip, texts):
    def load(settings, progress):
        raise CheckpointError("load 'x'", found="no shard 2 of 3", expected="all shards", todo="Copy it again.")

    workbench = Workbench(Settings(lang="en"), load)
    workbench.start()
    for _ in range(2):
        frame = last(transcribe(workbench, "me", clip, texts))
        assert frame.transcript.phase == "failed" and "no shard 2 of 3" in str(frame.transcript.problem)


def test_an_error_in_the_middle_keeps_the_words(clip, texts):
    class Breaks:
        info = {}

        def stream(self, conversation, options, *, cancel=None):
            yield TextDelta("half", (1,), 0.1)
            yield TurnDone("error", (1,), 5, 1, 0.2, message="it broke")
            raise RuntimeError("secret path /home/x")

    engine = replay_engine()
    workbench = ready_workbench(type(engine)(Breaks(), engine.capture, engine.facts))
    frame = last(transcribe(workbench, "me", clip, texts))
    assert frame.transcript.phase == "failed" and frame.transcript.text == "half"
    assert "secret" not in str(frame.transcript.problem)


def test_when_only_the_look_inside_fails_the_words_stand(clip, texts):
    workbench = ready_workbench(capture_error=MemoryError())
    frame = last(transcribe(workbench, "me", clip, texts))
    assert frame.transcript.phase == "done" and frame.transcript.text == "".join(WORDS) and frame.run is None
    assert "memory" in str(frame.transcript.problem)


def test_a_click_is_answered_at_once_with_what_it_waits_for(clip, texts):
    assert accept(Workbench(Settings()), "me", None).transcript.phase == "empty"
    release = threading.Event()

    def load(settings, progress):
        release.wait(10)
        return replay_engine(script([" w"] * 50), pause_s=0.02)

    workbench = Workbench(Settings(), load)
    workbench.start()
    assert accept(workbench, "me", clip).transcript.phase == "model"
    release.set()
    frames = transcribe(workbench, "you", clip, texts)
    while not next(frames).transcript.text:
        pass
    assert accept(workbench, "me", clip).transcript.phase == "queued", "somebody else is being served"
    frames.close()
    deadline = time.monotonic() + 5
    while workbench.is_busy and time.monotonic() < deadline:
        time.sleep(0.01)
    assert accept(workbench, "me", clip).transcript.phase == "starting"


# --- small things ---------------------------------------------------------------------------------


def test_hearing_speaks_the_visitors_language(tmp_path):
    from demo.texts import Texts

    problem = hear(str(silence(tmp_path)), 60, Texts("zh")).problem
    assert "没有声音" in problem.title


def test_titles_are_short_and_on_one_line():
    from datetime import datetime

    now = datetime(2026, 1, 2, 14, 2, 7)
    assert run_title(" turn on\nthe light ", now) == "14:02:07 · turn on the light"
    assert run_title("", now) == "14:02:07 · –"
    assert len(run_title("long " * 50, now)) < 62


def test_examples_are_found_with_their_captions(tmp_path):
    write_wav(tmp_path / "b_light.wav", tone(0.2).samples)
    write_wav(tmp_path / "a.flac", tone(0.2).samples)
    (tmp_path / "a.txt").write_text("A synthetic voice, English\nmore\n", encoding="utf-8")
    (tmp_path / "readme.md").write_text("no sound")
    assert [(item.path.name, item.caption) for item in examples(tmp_path)] == [
        ("a.flac", "A synthetic voice, English"),
        ("b_light.wav", "b light"),
    ]
    assert examples(tmp_path / "nowhere") == []
