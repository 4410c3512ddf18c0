"""Engines: words get their spelling back, and what is missing is said."""

import numpy as np
import pytest

from model.errors import StepAudioError
from model.training import engines as e
from model.training import voices as v


def test_words_get_their_spelling_back():
    spoken = [e.WordTime("it", 0, 1), e.WordTime("'s", 1, 2), e.WordTime("fine", 2, 3)]
    assert e.match_words("It's fine.", spoken) == (e.WordTime("It's", 0, 2), e.WordTime("fine", 2, 3))
    assert e.match_words("It's so fine.", spoken) is None


def test_every_engine_but_concatenation_is_here():
    assert set(e.ENGINES) | {v.CONCATENATION} == set(v.ENGINES)


@pytest.mark.parametrize("name", ["pico-en-US", "rhvoice-slt", "festival-ked_diphone"])
def test_a_missing_program_is_said(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    voice = v.find_voice(name)
    with pytest.raises(StepAudioError, match="Install"):
        e.ENGINES[voice.engine]("hello", voice, e.Prosody())


def test_prosody_is_drawn_within_what_people_vary():
    for seed in range(50):
        drawn = e.Prosody.draw(np.random.default_rng(seed))
        assert 0.8 <= drawn.rate <= 1.25 and 0.88 <= drawn.pitch <= 1.12 and 0.94 <= drawn.size <= 1.06
