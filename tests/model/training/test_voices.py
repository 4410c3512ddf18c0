"""The list of voices: splits that keep the scores honest, and what a machine without any engine sees."""

import pytest

from model.training import voices as v


def test_names_are_unique_and_found():
    names = [voice.name for voice in v.VOICES]
    assert len(set(names)) == len(names)
    assert all(v.find_voice(name).name == name for name in names)
    with pytest.raises(KeyError, match="Known voices"):
        v.find_voice("nobody")


def test_held_out_engines_are_never_trained_on():
    trained = {(x.engine, x.speaker) for x in v.VOICES if x.split == v.TRAIN}
    held_out = [x for x in v.VOICES if x.split == v.HELD_OUT_ENGINE]
    assert {x.language for x in held_out} == {"en", "zh"}
    assert all((x.engine, x.speaker) not in trained for x in held_out)
    assert v.FESTIVAL not in {engine for engine, _ in trained}


def test_english_held_out_voices_are_never_trained_on():
    trained = {x.speaker for x in v.VOICES if x.split == v.TRAIN and x.language == "en"}
    held_out = {x.speaker for x in v.VOICES if x.split == v.HELD_OUT_VOICE and x.language == "en"}
    assert held_out == {"rms", "clb"} and not held_out & trained


def test_virtual_mandarin_voices_lie_outside_the_trained_ranges():
    mandarin = [x for x in v.VOICES if x.engine == v.CONCATENATION]
    for held in (x for x in mandarin if x.split == v.HELD_OUT_VOICE):
        for trained in (x for x in mandarin if x.split == v.TRAIN):
            for axis in ("formant", "pitch"):
                low, high = getattr(held, axis)
                assert high < getattr(trained, axis)[0] or low > getattr(trained, axis)[1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_espeak_is_at_most_a_tenth_of_training(language):
    # Even when only Debian's main section is installed: flite and espeak-ng in English, recordings in Mandarin.
    weights = dict.fromkeys(v.ENGINES, 0.0)
    for voice in v.VOICES:
        if voice.split == v.TRAIN and voice.language == language:
            weights[voice.engine] += voice.weight
    main_only = weights[v.ESPEAK] + weights[v.FLITE] + weights[v.CONCATENATION]
    assert weights[v.ESPEAK] / main_only <= 0.101


def test_nothing_installed_means_no_voice(monkeypatch):
    monkeypatch.setattr(v, "engine_installed", lambda engine: engine == v.CONCATENATION)
    assert v.available_voices() == ()
    names = {x.name for x in v.available_voices(split=v.TRAIN, inventories=["yuetan"])}
    assert names == {"concatenation-yuetan", "concatenation-yuetan-male"}
