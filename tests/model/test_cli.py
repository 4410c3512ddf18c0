"""One line per input, one sentence per problem, and an exit status that tells."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from model import assistant, generation, speaking
from model.__main__ import COMMANDS, build_parser, main
from model.audio import load_waveform, save_waveform
from model.backends.scripted import ScriptedBackend
from model.cli.ask import asked
from model.errors import CheckpointError
from model.events import AudioDelta, TextDelta, ThoughtDelta, Turn, TurnDone
from model.messages import Text
from model.processing_step_audio_2 import StepAudio2Processor
from model.tokens import TokenIds

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path, tone):
    """Three sounds and a text that only claims to be one."""
    paths = [tmp_path / name for name in ("a.wav", "b.wav", "c.flac")]
    for index, path in enumerate(paths):
        save_waveform(path, tone(8000 * (index + 1)))
    (tmp_path / "text.wav").write_text("no sound here")
    return [str(path) for path in (*paths, tmp_path / "text.wav")]


def fake_model(*, trained=None, **parts):
    """Something that looks like a loaded model from outside."""
    info = SimpleNamespace(name="fake", trained_tasks=trained, revision="", device="cpu", dtype="float32")
    return SimpleNamespace(
        **{"model": None, "processor": None, "has_voice": False, "token2wav": None, **parts}, info=info
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line with a model that answers how long each recording is; status, lines, complaints."""
    batches, prompts = [], []

    def answer(model, processor, conversations, options):
        sounds = [conversation[1].parts[0].waveform for conversation in conversations]
        batches.append(len(sounds))
        prompts.extend(conversations)
        if len(sounds) > 1 and any(sound.duration_s == 1.5 for sound in sounds):
            raise RuntimeError("out of memory")
        return [Turn(f"{s.duration_s}\nseconds", "", (), (1, 2), (), "stop", 9, 2, 0.25) for s in sounds]

    monkeypatch.setattr(generation, "generate_batch", answer)

    def call(*argv, command="transcribe", loaded=None):
        status = main([command, *argv], load=lambda name, device: loaded or fake_model())
        printed = capsys.readouterr()
        out, err = printed.out.splitlines(), printed.err.splitlines()
        return SimpleNamespace(status=status, out=out, err=err, batches=batches, prompts=prompts)

    return call


def test_one_file_gives_its_text(run, files):
    assert (run(files[0]).out, run(files[0]).status) == (["0.5 seconds"], 0)


def test_several_files_give_a_line_each_in_order(run, files):
    result = run(*files[:2])
    assert result.out == [f"{files[0]}: 0.5 seconds", f"{files[1]}: 1.0 seconds"]
    assert result.err == [] and result.status == 0


def test_a_bad_file_fails_and_the_others_are_done(run, files):
    result = run(files[3], "nowhere.wav", files[0])
    assert result.status == 1 and result.out == [f"{files[0]}: 0.5 seconds"]
    assert len(result.err) == 2
    assert "text.wav" in result.err[0] and "text, not sound" in result.err[0]
    assert "nowhere.wav" in result.err[1] and "Check the path" in result.err[1]


def test_json_gives_one_object_per_input(run, files):
    result = run("--json", *files[:1], files[3])
    good, bad = map(json.loads, result.out)
    assert good == {
        "input": files[0],
        "text": "0.5 seconds",
        "duration_s": 0.5,
        "seconds": 0.25,
        "new_tokens": 2,
        "reason": "stop",
        "model": "nano",
    }
    assert set(bad) == {"input", "error", "model"} and result.status == 1


def test_files_go_in_batches(run, files):
    assert run("--batch-size", "1", *files[:2]).batches == [1, 1]


def test_a_batch_that_fails_is_done_one_by_one(run, files):
    result = run(*files[:3])
    assert result.batches == [3, 1, 1, 1] and result.status == 0 and len(result.out) == 3


def test_a_silent_recording_gets_a_note(run, tmp_path, tone):
    quiet = tone(16_000)
    quiet.samples[:] = 0
    save_waveform(tmp_path / "quiet.wav", quiet)
    result = run(str(tmp_path / "quiet.wav"))
    assert result.status == 0 and "note: silent" in result.err[0]


def test_a_model_that_cannot_be_loaded_is_one_sentence(capsys, files):
    def refuse(name, device):
        raise CheckpointError("load 'x'", found="nothing", expected="a folder", todo="Check the path.")

    assert main(["transcribe", files[0]], load=refuse) == 1
    assert (
        capsys.readouterr().err == "transcribe: Could not load 'x': found nothing, expected a folder. Check the path.\n"
    )


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["transcribe"],
        ["transcribe", "a.wav", "--batch-size", "0"],
        ["sing", "a.wav"],
        ["translate", "a.wav"],
        ["translate", "a.wav", "--to", "fr"],
        ["ask", "a.wav"],
        ["ask", "a.wav", "--question", " "],
        ["say", "Hello."],
        ["say", "Hello.", "--out", "hello.mp3"],
        ["say", "Hello.", "--out", "nowhere/hello.wav"],
        ["chat"],
    ],
)
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    assert exit_info.value.code == 2 and "usage:" in capsys.readouterr().err


def test_every_command_has_the_common_flags():
    (commands,) = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert set(commands.choices) == set(COMMANDS) == {"transcribe", "translate", "ask", "say", "chat"}
    for parser in commands.choices.values():
        assert {"--model", "--device", "--seed", "--json"} <= set(parser._option_string_actions)


# --- translate, ask -------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "prompt"), [("zh", "翻译成中文"), ("en", "翻译成英文")])
def test_translate_asks_for_the_language(run, files, language, prompt):
    result = run(*files[:2], "--to", language, command="translate")
    assert result.status == 0 and result.batches == [2] and len(result.out) == 2
    assert all(prompt in conversation[0].parts[0].text for conversation in result.prompts)


def test_ask_puts_the_question_behind_the_sound(run, files):
    result = run(files[0], files[3], "--question", " Who speaks? ", "--json", command="ask")
    good, bad = map(json.loads, result.out)
    assert good["text"] == "0.5 seconds" and "text, not sound" in bad["error"] and result.status == 1
    assert result.prompts[0][1].parts[1] == Text("Who speaks?")


def test_a_multiple_choice_question_gets_its_own_prompt(tone):
    chosen = asked(tone(8000), "Which? [a, b] Output the final answer in <RESPONSE> </RESPONSE>.")
    assert "expert in audio analysis" in chosen[0].parts[0].text
    assert "expert" not in asked(tone(8000), "Who speaks?")[0].parts[0].text


def test_a_model_that_was_not_trained_for_it_is_asked_all_the_same(run, files):
    result = run(files[0], "--to", "zh", command="translate", loaded=fake_model(trained=("asr",)))
    assert result.status == 0 and result.out == ["0.5 seconds"]
    assert result.err == ["translate: note: fake was trained for asr, so the answer will not be of use"]
    assert run(files[0], loaded=fake_model(trained=("asr",))).err == []


# --- say ------------------------------------------------------------------------------------------


@pytest.fixture
def voiced(monkeypatch, tone):
    """A model with a voice called Ana; what it was asked to say and how."""
    calls = []

    def speak(backend, token2wav, text, voice, options):
        calls.append((text, voice, options.seed))
        yield TextDelta(text, (), 0.1, spoken=True)
        if text != "mute":
            yield AudioDelta(tone(12_000, rate=24_000), 0.2)
        yield TurnDone("stop", (), 0, 0, 0.3)

    monkeypatch.setattr(speaking, "speak", speak)
    voices = SimpleNamespace(names=("Ana",))
    token2wav = SimpleNamespace(voices=voices, make_voice=lambda source, name: (name, source))
    return fake_model(has_voice=True, token2wav=token2wav), calls


def test_say_writes_a_sound_file(run, voiced, tmp_path):
    loaded, calls = voiced
    out = tmp_path / "hello.wav"
    result = run("Hello.", "--voice", "Ana", "--out", str(out), "--seed", "3", command="say", loaded=loaded)
    assert result.status == 0 and result.out == ["Hello."] and calls == [("Hello.", "Ana", 3)]
    assert f"{out}, in the voice Ana" in result.err[0]
    assert load_waveform(out, sample_rate_hz=24_000).duration_s == 0.5


def test_say_takes_the_first_voice_or_a_recording(run, voiced, files, tmp_path):
    loaded, calls = voiced
    out = str(tmp_path / "a.flac")
    told = run("Hi.", "--out", out, "--json", command="say", loaded=loaded).out
    assert json.loads(told[0])["voice"] == "Ana" and json.loads(told[0])["duration_s"] == 0.5
    run("Hi.", "--voice", files[0], "--out", out, command="say", loaded=loaded)
    assert calls[1][1] == ("recording", files[0])


def test_say_without_a_voice_is_one_sentence(run, voiced, tmp_path):
    out = str(tmp_path / "a.wav")
    result = run("Hi.", "--out", out, command="say")
    assert result.status == 1 and result.out == [] and "writes but has no voice" in result.err[0]
    result = run("mute", "--out", out, command="say", loaded=voiced[0])
    assert result.status == 1 and "an answer without speech" in result.err[0] and not Path(out).exists()


# --- chat -----------------------------------------------------------------------------------------


@pytest.fixture
def talk(monkeypatch, run):
    """Run `chat` with a script in place of the model; the conversations it was given are kept."""

    def call(script, *argv):
        backend = ScriptedBackend(script)
        made = lambda loaded, options: assistant.Assistant(backend, options=options)  # noqa: E731
        monkeypatch.setattr(assistant.Assistant, "from_model", made)
        return run(*argv, command="chat"), backend.calls

    return call


def wrote(text, reason="stop"):
    return [TextDelta(text, (), 0.1), TurnDone(reason, (), 0, 0, 0.2)]


def test_chat_is_one_conversation(talk, files):
    result, calls = talk(lambda conversation, options: wrote(f"Answer {len(conversation)}"), *files[:2])
    assert result.status == 0 and len(result.out) == 2
    (first, _), (second, _) = calls
    assert len(second) == len(first) + 2 and second[: len(first) - 1] == first[:-1]


def test_chat_goes_on_after_a_turn_that_failed(talk, files):
    def script(conversation, options):
        if len(calls_so_far) == 0:
            calls_so_far.append(1)
            raise RuntimeError("out of memory")
        return wrote("Fine.")

    calls_so_far = []
    result, _ = talk(script, files[0], files[3], files[1])
    assert result.status == 1 and result.out == [f"{files[1]}: Fine."]
    assert "out of memory" in result.err[0] and "text, not sound" in result.err[1]


def test_chat_shows_what_tools_said(talk, files):
    def script(conversation, options):
        if conversation[-2].role == "input":
            return wrote("It is noon.")
        assert any(message.role == "tool_json_schemas" for message in conversation)
        return wrote("<tool_call>function\nget_date_time\n{}</tool_call>")

    result, _ = talk(script, files[0], "--tools", "--offline", "--json")
    told = json.loads(result.out[0])
    (call,) = told["tool_calls"]
    assert told["text"] == "It is noon." and call["name"] == "get_date_time" and not call["failed"] and call["result"]
    result, _ = talk(script, files[0], "--tools", "--offline")
    assert result.out == ["It is noon."] and "get_date_time {}: " in result.err[0]


def test_chat_thinks_when_told_to(talk, files):
    def script(conversation, options):
        if options.think:
            return [ThoughtDelta("A tone.", (), 0.1), TurnDone("stop", (), 0, 0, 0.2)]
        return wrote("I hear a tone.")

    result, calls = talk(script, files[0], "--think", "--json")
    told = json.loads(result.out[0])
    assert (told["thought"], told["text"]) == ("A tone.", "I hear a tone.") and len(calls) == 2
    result, _ = talk(script, files[0], "--think")
    assert result.out == ["I hear a tone."] and result.err == [f"chat: {files[0]}: thought: A tone."]
    result, calls = talk(script, files[0])
    assert len(calls) == 1 and "thought" not in " ".join(result.err)


def test_chat_has_no_tools_unless_asked(talk, files):
    _, calls = talk(wrote("Hm."), files[0], "--seed", "5", "--max-new-tokens", "7")
    conversation, options = calls[0]
    assert all(message.role != "tool_json_schemas" for message in conversation)
    assert (options.seed, options.max_new_tokens) == (5, 7)


def test_with_a_real_network(tiny_model, tokenizer, files, capsys):
    processor = StepAudio2Processor(tokenizer, ids=TokenIds.official())
    loaded = fake_model(model=tiny_model, processor=processor)
    argv = ["transcribe", "--json", "--max-new-tokens", "4", *files[:3]]
    assert main(argv, load=lambda name, device: loaded) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [result["duration_s"] for result in results] == [0.5, 1.0, 1.5]
    assert all(result["new_tokens"] == 4 and "cut after 4 tokens" in result["note"] for result in results)


def test_help_needs_no_model():
    command = [sys.executable, "-X", "importtime", "-m", "model", "transcribe", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "FILE" in done.stdout and "--batch-size" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "torch" not in imported and "transformers" not in imported
