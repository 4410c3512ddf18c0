"""Edits change their span and nothing else, to the sample; no click, exact lengths, the same every time."""

import json

import numpy as np
import pytest

from analysis import edits
from analysis.edits import FADE_S, KINDS, Edit, cut, exchange, mute, noise, pitch, replace, stretch
from model.audio import Waveform
from model.errors import AudioError

RATE = 16_000
START, STOP = 8000, 16_000
SPAN = (START / RATE, STOP / RATE)
FADE = round(FADE_S * RATE)


def tone(hz: float = 200.0, seconds: float = 2.0, size: float = 0.5, rate: int = RATE) -> Waveform:
    t = np.arange(round(seconds * rate)) / rate
    return Waveform((size * np.sin(2 * np.pi * hz * t)).astype(np.float32), rate)


def peak_hz(samples: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


def steepest(sound: Waveform) -> float:
    return float(np.abs(np.diff(sound.samples)).max())


OTHER = tone(350.0, 1.0)
SAME_LENGTH = {
    "mute": lambda s: mute(s, *SPAN),
    "noise": lambda s: noise(s, *SPAN, seed=1),
    "white noise over it": lambda s: noise(s, *SPAN, snr_db=10, colour="white"),
    "pitch": lambda s: pitch(s, *SPAN, semitones=5),
    "replace": lambda s: replace(s, *SPAN, other=OTHER),
}


@pytest.mark.parametrize("name", SAME_LENGTH)
def test_samples_outside_the_span_are_the_same_bits(name):
    sound = tone()
    changed = SAME_LENGTH[name](sound)
    assert len(changed.samples) == len(sound.samples) and changed.sample_rate_hz == RATE
    np.testing.assert_array_equal(changed.samples[:START], sound.samples[:START])
    np.testing.assert_array_equal(changed.samples[STOP:], sound.samples[STOP:])
    assert np.abs(changed.samples[START + FADE : STOP - FADE] - sound.samples[START + FADE : STOP - FADE]).max() > 0.05


@pytest.mark.parametrize(
    ("edit", "samples"),
    [
        (lambda s: cut(s, *SPAN), 32_000 - 8000),
        (lambda s: cut(s, 0.0, 0.5), 24_000),
        (lambda s: cut(s, 1.5), 24_000),
        (lambda s: stretch(s, *SPAN, factor=1.5), 32_000 + 4000),
        (lambda s: stretch(s, *SPAN, factor=0.5), 32_000 - 4000),
        (lambda s: replace(s, *SPAN, other=OTHER, other_start_s=0.25, other_end_s=1.0), 32_000 - 8000 + 12_000),
        (lambda s: replace(s, 0.0, other=OTHER, other_end_s=OTHER.duration_s), 16_000),
        (lambda s: exchange(s, (0.1, 0.3), (1.0, 1.7)), 32_000),
    ],
)
def test_lengths_are_exact(edit, samples):
    assert len(edit(tone()).samples) == samples


@pytest.mark.parametrize("phase", range(4))
def test_no_edit_leaves_a_click(phase):
    """Span edges at any place in the wave: no step is steeper than the tones and the fades themselves are."""
    span = (0.5 + phase / 1600, 1.0 + phase / 1333)
    sound = tone()
    for edit in (
        lambda s: mute(s, *span),
        lambda s: cut(s, *span),
        lambda s: cut(s, 0.0, span[0]),
        lambda s: cut(s, span[0]),
        lambda s: stretch(s, *span, factor=1.4),
        lambda s: replace(s, *span, other=tone(150.0)),
        lambda s: exchange(s, (0.1, 0.2 + phase / 1500), span),
    ):
        changed = edit(sound)
        assert steepest(changed) < steepest(sound) + 0.5 * np.pi / 2 / FADE + 1e-3
        assert np.abs(changed.samples[[0, -1]]).max() < 0.05  # new beginnings and ends fade too


def test_mute_is_silence_and_noise_is_as_loud_as_what_it_replaces():
    sound = tone()
    assert not mute(sound, *SPAN).samples[START + FADE : STOP - FADE].any()
    assert not mute(sound).samples.any()
    for colour in ("speech", "white"):
        replaced = noise(sound, *SPAN, colour=colour).samples[START:STOP]
        assert replaced.std() == pytest.approx(sound.samples[START:STOP].std(), rel=0.1)
    added = noise(sound, *SPAN, snr_db=20).samples[START:STOP] - sound.samples[START:STOP]
    assert 20 * np.log10(sound.samples[START:STOP].std() / added.std()) == pytest.approx(20, abs=0.5)


def test_noise_has_the_spectrum_of_the_sound_unless_white():
    sound = tone(400.0)
    assert peak_hz(noise(sound, seed=3).samples) == pytest.approx(400, abs=2)
    white = noise(sound, seed=3, colour="white").samples
    halves = np.split(np.abs(np.fft.rfft(white))[1:] ** 2, 2)
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.1)


def test_noise_is_the_same_for_the_same_seed():
    sound = tone()
    assert noise(sound, *SPAN, seed=4) == noise(sound, *SPAN, seed=4) != noise(sound, *SPAN, seed=5)


@pytest.mark.parametrize("semitones", [-12, -5, 3, 12])
def test_pitch_moves_by_semitones(semitones):
    shifted = pitch(tone(), *SPAN, semitones=semitones).samples[START + 800 : STOP - 800]
    assert peak_hz(shifted) == pytest.approx(200 * 2 ** (semitones / 12), abs=2.5)
    assert shifted.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.7, 3.0])
def test_stretch_keeps_the_pitch(factor):
    stretched = stretch(tone(), *SPAN, factor=factor).samples
    inside = stretched[START + 800 : START + round(8000 * factor) - 800]
    assert peak_hz(inside) == pytest.approx(200, abs=5)
    assert inside.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    np.testing.assert_array_equal(stretched[START + round(8000 * factor) :], tone().samples[STOP:])


def test_a_very_short_span_can_be_stretched():
    assert len(stretch(tone(), 0.5, 0.51, factor=2).samples) == 32_000 + 160


def test_exchange_moves_whole_spans():
    t = np.linspace(0, 1, 32_000, dtype=np.float32)
    changed = exchange(Waveform(t, RATE), (0.2, 0.4), (1.0, 1.5), fade_s=0).samples
    pieces = (t[:3200], t[16_000:24_000], t[6400:16_000], t[3200:6400], t[24_000:])
    np.testing.assert_array_equal(changed, np.concatenate(pieces))


def test_replace_takes_the_rate_and_the_level_of_the_sound():
    loud, quiet = tone(size=0.5), tone(350, 1.0, size=0.05, rate=24_000)
    inside = slice(START + FADE, STOP - FADE)
    assert replace(loud, *SPAN, other=quiet).samples[inside].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    kept = replace(loud, *SPAN, other=quiet, match_level=False).samples[inside]
    assert kept.std() == pytest.approx(0.05 / np.sqrt(2), rel=0.02) and peak_hz(kept) == pytest.approx(350, abs=3)
    click = np.zeros(16_000, np.float32)
    click[4000] = 1.0  # to be as loud as the tone it would have to exceed full scale
    assert np.abs(replace(loud, *SPAN, other=Waveform(click, RATE)).samples).max() <= 1.0


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda s: mute(s, 3.0, 4.0), "a span from 3 to 4 s of 2.00 s of sound"),
        (lambda s: mute(s, 1.0, 0.5), "at least one sample"),
        (lambda s: mute(s, float("nan"), 0.5), "times in seconds"),
        (lambda s: cut(s), "a span that is all of it"),
        (lambda s: pitch(s, semitones=99), "semitones = 99"),
        (lambda s: stretch(s, factor=0), "factor = 0"),
        (lambda s: exchange(s, (0.1, 0.5), (0.4, 0.8)), "which overlap"),
        (lambda s: replace(s, *SPAN, other=OTHER, other_start_s=5.0), "take a piece of a sound"),
        (lambda s: Edit("blur"), "the kind 'blur'"),
        (lambda s: Edit("replace"), "no other sound"),
    ],
)
def test_what_makes_no_sense_is_refused(edit, sentence):
    with pytest.raises(AudioError, match=sentence):
        edit(tone())


def test_times_beyond_the_end_are_cut_to_the_sound():
    assert mute(tone(), 1.5, 9.0) == mute(tone(), 1.5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_does_what_its_function_does(kind):
    settings = {"other": OTHER} if kind == "replace" else {}
    edit = Edit(kind, *SPAN, settings=settings)
    assert edit(tone()) == getattr(edits, kind)(tone(), *SPAN, **settings)
    json.dumps(edit.to_dict())
    assert edit.label == f"{kind} 0.50-1.00 s" and (edit.seed == 0) == (kind == "noise")


def test_the_record_of_a_replacement_names_the_other_sound():
    one, two = (Edit("replace", settings={"other": sound}).to_dict() for sound in (OTHER, tone()))
    assert one["settings"]["other"].startswith("sha256:") and one != two
    assert Edit("mute").label == "mute all" and Edit("mute", 0.5).label == "mute 0.50-end"
