"""Pitch, loudness and rate on sounds whose answer is known, and beside another implementation."""

import warnings

import numpy as np
import pytest

from analysis.prosody import FLOOR_DB, Prosody, loudness_db, measure_prosody, pitch_hz
from model.audio import Waveform
from model.checkpoint import syllables
from model.errors import AudioError

RATE = 16_000


def voice(seconds=1.0, hz=140.0, slope=0.0, level=0.3):
    """A buzz of ten harmonics whose pitch moves by `slope` Hz a second."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (hz * time_s + 0.5 * slope * time_s**2)
    return level * sum(np.sin(k * phase) / k for k in range(1, 11)) / 1.5


def beats(per_second, seconds=4.0, hz=150.0):
    """A voice whose loudness swells and falls so many times a second, deep enough to be heard as syllables."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    return voice(seconds, hz) * (0.05 + np.sin(np.pi * per_second * time_s) ** 2)


def heard(samples, rate=RATE):
    return measure_prosody(Waveform(np.asarray(samples, np.float32), rate))


@pytest.mark.parametrize("hz", [70.0, 95.5, 140.0, 233.0, 410.0])
def test_a_steady_voice_has_its_pitch(hz):
    inner = pitch_hz(voice(0.6, hz))[6:-6]
    assert np.isfinite(inner).all() and np.abs(inner / hz - 1).max() < 0.005


def test_a_gliding_voice_is_followed():
    prosody = heard(voice(1.5, 120.0, slope=80.0))
    inner = slice(8, -8)
    expected = 120 + 80 * prosody.time_s[inner]
    assert np.abs(prosody.pitch_hz[inner] / expected - 1).max() < 0.02


def test_noise_and_silence_have_no_pitch():
    rng = np.random.default_rng(0)
    assert np.isfinite(pitch_hz(rng.normal(0, 0.1, RATE))).mean() < 0.05
    assert not np.isfinite(pitch_hz(np.zeros(RATE))).any()
    half = heard(np.concatenate([voice(0.5), np.zeros(RATE // 2)]))
    assert np.isfinite(half.pitch_hz[5:45]).all() and not np.isfinite(half.pitch_hz[56:]).any()


def test_loudness_is_that_of_the_samples():
    time_s = np.arange(RATE) / RATE
    full = loudness_db(np.sin(2 * np.pi * 400 * time_s))
    assert full[10:-10] == pytest.approx(-3.01, abs=0.02)
    assert loudness_db(0.1 * np.sin(2 * np.pi * 400 * time_s))[10:-10] == pytest.approx(-23.01, abs=0.02)
    assert (loudness_db(np.zeros(800)) == FLOOR_DB).all()


@pytest.mark.parametrize("per_second", [2, 4, 6])
def test_swells_are_counted(per_second):
    prosody = heard(beats(per_second))
    assert len(prosody.nuclei_s) == 4 * per_second
    assert prosody.nuclei_s == pytest.approx((np.arange(4 * per_second) + 0.5) / per_second, abs=0.03)
    assert prosody.rate_per_s == pytest.approx(per_second, rel=0.35)
    assert prosody.rate_per_s[100:-100] == pytest.approx(per_second, rel=0.05)
    assert prosody.summary["rate_per_s"] == pytest.approx(per_second, rel=0.02)


def test_a_voice_that_slows_down_slows_down():
    rate = heard(np.concatenate([beats(6, 2.0), beats(2, 2.0)])).rate_per_s
    assert rate[100] > 5 and rate[300] < 3


def test_clicks_without_voice_are_no_syllables():
    rng = np.random.default_rng(1)
    clicks = np.zeros(2 * RATE)
    for k in range(8):
        clicks[2000 + 4000 * k :][:200] = rng.normal(0, 0.3, 200)
    assert len(heard(clicks).nuclei_s) == 0


def test_more_sound_changes_nothing_before_it():
    whole = voice(2.0, 150.0, slope=30)
    short, long = pitch_hz(whole[:RATE]), pitch_hz(whole)
    assert np.allclose(short[:90], long[:90], equal_nan=True)
    assert np.allclose(loudness_db(whole[:RATE])[:98], loudness_db(whole)[:98])


def test_the_numbers_of_a_summary():
    summary = heard(np.concatenate([voice(1.0, 100.0), voice(1.0, 200.0)])).summary
    assert 100 <= summary["pitch_hz"] <= 200
    assert summary["pitch_range_semitones"] == pytest.approx(12, abs=0.2)
    assert summary["voiced_share"] > 0.9
    nothing = heard(np.zeros(RATE)).summary
    assert nothing["voiced_share"] == 0 and np.isnan(nothing["pitch_hz"]) and np.isnan(nothing["rate_per_s"])


def test_another_rate_gives_the_same_curves():
    time_s = np.arange(48_000) / 48_000
    buzz = 0.2 * sum(np.sin(2 * np.pi * 130 * k * time_s) / k for k in range(1, 9))
    assert np.nanmedian(heard(buzz, 48_000).pitch_hz) == pytest.approx(130, rel=0.003)


def test_the_table_has_a_row_for_each_frame():
    prosody = heard(np.concatenate([voice(0.3), np.zeros(4800)]))
    rows = prosody.table()
    assert len(rows) == len(prosody.time_s) and rows[10]["time_s"] == 0.1
    assert rows[15]["pitch_hz"] == pytest.approx(140, abs=1) and rows[-1]["pitch_hz"] is None


def test_nothing_and_uneven_curves_are_refused():
    with pytest.raises(AudioError, match="no samples"):
        heard(np.zeros(0))
    some = np.zeros(3, np.float32)
    with pytest.raises(AudioError, match="lengths"):
        Prosody(np.zeros(2), some, some, some, np.zeros(0), 0.02)


@pytest.mark.slow
def test_pitch_agrees_with_librosa():
    """`librosa.yin` on the made-up syllables with which a model is proved to hear."""
    librosa = pytest.importorskip("librosa")
    samples = syllables(3.0).samples
    ours = measure_prosody(Waveform(samples, RATE)).pitch_hz
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = librosa.yin(samples, fmin=60, fmax=500, sr=RATE, frame_length=1024, hop_length=160)
    both = min(len(ours), len(theirs))
    voiced = np.isfinite(ours[:both])
    assert voiced.sum() > 50
    assert np.median(np.abs(ours[:both][voiced] / theirs[:both][voiced] - 1)) < 0.01
    assert (np.abs(ours[:both][voiced] / theirs[:both][voiced] - 1) < 0.05).mean() > 0.9


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swells():
    waveform = Waveform(np.concatenate([beats(3, 2.0), np.zeros(RATE)]).astype(np.float32), RATE)
    return measure_prosody(waveform), waveform


def test_the_picture_has_four_lanes_on_one_axis(swells):
    from analysis.figures.prosody import prosody

    measured, waveform = swells
    figure = prosody(
        measured, waveform, labels={"sound": "声音", "pitch": "p", "loudness": "l", "rate": "r", "time": "秒"}
    )
    pitch = next(
        trace for trace in figure.data if trace.hovertemplate and trace.hovertemplate.endswith("<extra>p</extra>")
    )
    assert np.array_equal(pitch.y, measured.pitch_hz, equal_nan=True) and not pitch.connectgaps
    assert [axis.matches for axis in (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.xaxis3)] == ["x4"] * 3
    assert tuple(figure.layout.xaxis4.range) == (0, 3.0) and figure.layout.yaxis.title.text == "声音"
    marks = next(trace for trace in figure.data if trace.mode == "markers")
    assert list(marks.x) == list(measured.nuclei_s) and len(marks.x) == 6


def test_a_long_recording_is_thinned_out_and_keeps_its_peaks(swells):
    from analysis.figures.prosody import MAX_POINTS, envelope, prosody

    samples = np.zeros(200 * RATE, np.float32)
    samples[77_777] = 0.5
    time_s, low, high = envelope(Waveform(samples, RATE))
    assert len(time_s) <= MAX_POINTS and high.max() == 1.0 and low.min() == 0.0
    assert time_s[high.argmax()] == pytest.approx(77_777 / RATE, abs=0.2)
    waveform = Waveform(np.tile(swells[1].samples, 8), RATE)
    assert max(len(trace.x) for trace in prosody(measure_prosody(waveform), waveform).data) <= MAX_POINTS + 1


def test_the_picture_is_printed(swells, tmp_path):
    from analysis.figures.prosody import print_prosody

    path = tmp_path / "prosody.png"
    print_prosody(*swells).savefig(path)
    assert path.stat().st_size > 10_000


def test_silence_can_be_drawn():
    from analysis.figures.prosody import prosody

    silent = Waveform(np.zeros(RATE, np.float32), RATE)
    assert prosody(measure_prosody(silent), silent, dark=True).layout.yaxis2.range == (45.0, 515.0)
