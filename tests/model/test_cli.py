"""One line per input, one sentence per problem, and an exit status that tells."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from model import generation
from model.__main__ import main
from model.audio import save_waveform
from model.errors import CheckpointError
from model.events import Turn
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


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line with a model that answers how long each recording is; status, lines, complaints."""
    batches = []

    def answer(model, processor, conversations, options):
        sounds = [conversation[1].parts[0].waveform for conversation in conversations]
        batches.append(len(sounds))
        if len(sounds) > 1 and any(sound.duration_s == 1.5 for sound in sounds):
            raise RuntimeError("out of memory")
        return [Turn(f"{s.duration_s}\nseconds", "", (), (1, 2), (), "stop", 9, 2, 0.25) for s in sounds]

    monkeypatch.setattr(generation, "generate_batch", answer)

    def call(*argv):
        status = main(["transcribe", *argv], load=lambda name, device: SimpleNamespace(model=None, processor=None))
        printed = capsys.readouterr()
        return SimpleNamespace(
            status=status, out=printed.out.splitlines(), err=printed.err.splitlines(), batches=batches
        )

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


@pytest.mark.parametrize("argv", [[], ["transcribe"], ["transcribe", "a.wav", "--batch-size", "0"], ["sing", "a.wav"]])
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    assert exit_info.value.code == 2 and "usage:" in capsys.readouterr().err


def test_with_a_real_network(tiny_model, tokenizer, files, capsys):
    processor = StepAudio2Processor(tokenizer, ids=TokenIds.official())
    loaded = SimpleNamespace(model=tiny_model, processor=processor)
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
