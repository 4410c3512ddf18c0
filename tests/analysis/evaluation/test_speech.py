"""How well a model speaks: whose voice is nearest, who is understood, and what silence counts as."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.evaluation import speech
from model.audio import Waveform
from model.training.corpus import Clip

TONE = Waveform(np.zeros(1600, np.float32), 16_000)


def _spoken(text, sound=TONE, voice="A", language="en"):
    row = SimpleNamespace(clip=Clip("x", "test", language, text))
    return speech.Spoken(row, voice, sound, TONE)


def test_silence_counts_as_every_word_missed(monkeypatch):
    monkeypatch.setattr(speech, "listen", lambda sound: "turn left")
    ours, theirs = speech.understood([_spoken("Turn left."), _spoken("Turn left.", sound=None)])
    assert ours.value == pytest.approx(50) and theirs.value == 0 and ours.note == "1 without sound"
    assert ours.bar == "<= 10.0 %"


def test_the_nearest_voice_is_told_by_direction_not_length():
    voices = [SimpleNamespace(speaker=torch.tensor([1.0, 0.0])), SimpleNamespace(speaker=torch.tensor([0.0, 9.0]))]
    assert speech.nearest_voice(TONE, voices, lambda sound: np.array([[0.5, 0.1]])) == 0
    assert speech.nearest_voice(TONE, voices, lambda sound: np.array([[0.5, 0.6]])) == 1


def test_similarity_is_the_share_that_found_its_own_voice():
    voices = [SimpleNamespace(name=n, speaker=torch.tensor(v)) for n, v in (("A", [1.0, 0.0]), ("B", [0.0, 1.0]))]
    maker = SimpleNamespace(speaker=SimpleNamespace(embed=lambda sound: torch.tensor([[1.0, 0.2]])))
    loaded = SimpleNamespace(token2wav=SimpleNamespace(maker=maker, voices=voices))
    metric = speech.similar(loaded, [_spoken("a", voice="A"), _spoken("b", voice="B"), _spoken("c", sound=None)])
    assert metric.value == pytest.approx(100 / 3) and metric.baseline.startswith("50.0 %")


def test_a_model_without_a_voice_has_no_rows(tmp_path):
    assert speech.tts(SimpleNamespace(has_voice=False), tmp_path) == []


@pytest.mark.slow
def test_the_recogniser_hears_an_engine():
    pytest.importorskip("pocketsphinx")
    from analysis.evaluation.recogniser import listen
    from model.training.engines import ESPEAK, engine_installed
    from model.training.synthesis import synthesize
    from model.training.voices import find_voice

    if not engine_installed(ESPEAK):
        pytest.skip("espeak-ng is not installed")
    assert listen(synthesize("Turn left.", find_voice("flite-kal16"), rng=np.random.default_rng(0)).waveform)
