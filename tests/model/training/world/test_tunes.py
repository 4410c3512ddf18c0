"""Tunes: notes begin when they should, go where they should, and sound like their instrument."""

import numpy as np
import pytest

from model.training.world import tunes
from model.training.world.tunes import Tune

RATE = 16_000


def strongest_hz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 16_384))
    return np.argmax(spectrum) * RATE / 16_384


@pytest.mark.parametrize("tempo", tunes.TEMPOS)
@pytest.mark.parametrize("direction", tunes.DIRECTIONS)
def test_notes_begin_and_move_as_labelled(direction, tempo):
    sound, starts = tunes.play(Tune("flute", direction, tempo, 4, 0), np.random.default_rng(1))
    pitches = [strongest_hz(sound.samples[int((s + 0.05) * RATE) :][:2200]) for s in starts]
    steps = np.diff(np.log2(pitches) * 12)
    expected = {"rising": (1.5, 5), "falling": (-5, -1.5), "level": (-0.3, 0.3)}[direction]
    assert all(expected[0] < step < expected[1] for step in steps) and len(starts) == 4
    low, high = tunes.TEMPOS[tempo]
    assert np.all((np.diff(starts) >= low) & (np.diff(starts) <= high))
    for start in starts:
        before, after = (np.abs(sound.samples[int(t * RATE) :][:160]).max() for t in (start - 0.015, start + 0.04))
        assert after > before


def test_instruments_differ_in_spectrum_and_decay():
    def sound(name):
        return tunes.play(Tune(name, "level", "slow", 2, 0), np.random.default_rng(0))[0].samples[1600:9600]

    def centroid(x):
        power = np.abs(np.fft.rfft(x)) ** 2
        return (np.fft.rfftfreq(len(x), 1 / RATE) * power).sum() / power.sum()

    def sustain(x):
        return np.sqrt(np.mean(x[4800:6400] ** 2) / np.mean(x[480:1600] ** 2))

    values = {name: (centroid(sound(name)), sustain(sound(name))) for name in tunes.INSTRUMENTS}
    assert values["bell"][0] > 2 * values["piano"][0] and values["organ"][0] > 1.15 * values["flute"][0]
    assert values["drum"][1] < 0.2 < values["piano"][1] < 0.7 < values["flute"][1]


def test_training_and_tests_share_no_key():
    rng = np.random.default_rng(0)
    train = {Tune.draw(rng, held_out=False).key for _ in range(200)}
    assert not train & {Tune.draw(rng, held_out=True).key for _ in range(200)}
    assert "direction" not in Tune("drum", "level", "slow", 2, 0).labels()
    with pytest.raises(ValueError, match="Could not play"):
        Tune("kazoo", "rising", "slow", 2, 0)
