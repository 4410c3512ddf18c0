"""`python -m model say TEXT`: a sound file and one line, or one sentence that says why not."""

from types import SimpleNamespace

import numpy as np
import pytest

from model.__main__ import main
from model.audio import load_waveform, save_waveform
from model.backends import local
from model.events import AudioCodesDelta, TurnDone
from model.token2wav.voice import Voices
from tests.small_voice import build_token2wav, build_voice, random_codes, recording, save_speaker

CODES = random_codes(30)


@pytest.fixture(scope="module")
def token2wav(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    speaker = save_speaker(tmp_path_factory.mktemp("net") / "speaker.onnx")
    return build_token2wav(speaker, voices=Voices(voices=[build_voice().renamed("Grace")]))


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, token2wav):
    """Run the command with a model whose codes are always the same; status, lines, complaints, file."""
    out = tmp_path / "speech.wav"

    def call(*argv, codes=CODES, token2wav=token2wav):
        ids = tuple(900 + code for code in codes)
        delta = (AudioCodesDelta(tuple(codes), ids, 0.1),) if codes else ()
        script = [*delta, TurnDone("stop", ids, 5, len(ids), 0.2)]
        monkeypatch.setattr(local, "stream", lambda *_, **__: iter(script))
        info = SimpleNamespace(name="tiny", path=tmp_path)
        loaded = SimpleNamespace(model=None, processor=None, info=info, token2wav=token2wav)
        status = main(["say", "Hello there.", "--out", str(out), *argv], load=lambda name, device: loaded)
        printed = capsys.readouterr()
        return SimpleNamespace(status=status, out=printed.out, err=printed.err, file=out)

    return call


def test_a_text_becomes_a_sound_file(run, token2wav):
    result = run("--voice", "Grace", "--seed", "4")
    assert result.status == 0 and result.err == "" and result.out.startswith(f"{result.file}: 1.2 s in ")
    expected = token2wav.speak(CODES, "Grace", 4).samples
    assert np.abs(load_waveform(result.file, sample_rate_hz=24_000).samples - expected).max() < 1e-4


def test_a_recording_is_a_voice_too(run, tmp_path):
    path = tmp_path / "me.wav"
    save_waveform(path, recording())
    assert run("--voice", str(path)).status == 0
    save_waveform(path, recording(1.0))
    result = run("--voice", str(path))
    assert result.status == 1 and "1.0 s of sound, expected 3 to 15 s" in result.err


def test_what_goes_wrong_is_one_sentence(run):
    for result, words in (
        (run("--voice", "Nobody"), "none of that name"),
        (run("--voice", "Grace", codes=[]), "no speech codes"),
        (run("--voice", "Grace", token2wav=None), "no folder token2wav"),
    ):
        assert result.status == 1 and words in result.err and result.out == "" and not result.file.exists()
        assert result.err.startswith("say: Could not ") and result.err.count("\n") == 1
