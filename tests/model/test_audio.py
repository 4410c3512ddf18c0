"""The front end equals the official one, and its lengths are arithmetic."""

import csv
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from model.audio import (
    CHUNK_S,
    CHUNK_SAMPLES,
    TOKEN_RATE_HZ,
    Waveform,
    adaptor_length,
    encoder_length,
    log_mel,
    mel_filters,
    n_audio_tokens,
    n_frames,
    quality_note,
    split_chunks,
    token_time_s,
    usable_length,
)
from model.errors import AudioError

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
FRONTEND = np.load(GOLDEN / "frontend.npz")
RESAMPLING = np.load(GOLDEN / "prompt.npz")
CLIPS = [name.removeprefix("wave__") for name in FRONTEND if name.startswith("wave__")]
RATES = [name.removesuffix("__in") for name in RESAMPLING if name.endswith("__in")]
with (GOLDEN / "token_counts.csv").open() as lines:
    COUNTS = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(lines)]


def wave(samples, rate=16_000):
    return Waveform(np.asarray(samples, np.float32), rate)


def tone(seconds, hz=440.0, rate=16_000, level=0.5):
    return wave(level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate), rate)


def long_wave():
    draw = np.random.default_rng([2507, zlib.crc32(b"wave.long.1")]).standard_normal((404_800,))
    return wave(np.clip(np.rint(1638.4 * draw), -32768, 32767) / 32768)


# --- parity with the official front end ---


@pytest.mark.parametrize("clip", CLIPS)
def test_log_mel_equals_official(clip):
    mel = log_mel(wave(FRONTEND[f"wave__{clip}"] / 32768)).numpy()
    expected = FRONTEND[f"mel__{clip}"]
    assert mel.shape == expected.shape and mel.dtype == np.float32
    np.testing.assert_allclose(mel, expected, rtol=0, atol=1e-5)


def test_long_wave_equals_official():
    first, rest = (log_mel(chunk).numpy().astype(np.float64) for chunk in split_chunks(long_wave()))
    np.testing.assert_allclose(first[:, FRONTEND["long0_cols"]], FRONTEND["long0_mel_cols"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(rest, FRONTEND["long1_mel"], rtol=0, atol=1e-5)
    for name, mel in (("long0", first), ("long1", rest)):
        np.testing.assert_allclose(mel.mean(1), FRONTEND[f"{name}_row_mean"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(mel.mean(0), FRONTEND[f"{name}_col_mean"], rtol=0, atol=2e-6)
        frames, total, squares, low, high = FRONTEND[f"{name}_stats"]
        assert mel.shape[1] == frames
        np.testing.assert_allclose([mel.sum(), (mel**2).sum()], [total, squares], rtol=0, atol=0.1)
        np.testing.assert_allclose([mel.min(), mel.max()], [low, high], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", RATES)
def test_resampling_equals_official(case):
    _, old, new = case.split("_")
    out = wave(RESAMPLING[f"{case}__in"] / 32768, int(old)).resample(int(new))
    assert out.sample_rate_hz == int(new) and out.samples.dtype == np.float32
    np.testing.assert_allclose(out.samples, RESAMPLING[f"{case}__out"], rtol=0, atol=1e-5)


def test_mel_filters_equal_librosa():
    librosa = pytest.importorskip("librosa")
    for n_mels in (80, 128):
        assert np.array_equal(mel_filters(n_mels), librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels))
    ours = mel_filters(80, sample_rate_hz=24_000, n_fft=1920, max_hz=8_000)
    assert np.array_equal(ours, librosa.filters.mel(sr=24_000, n_fft=1920, n_mels=80, fmax=8_000))


# --- lengths ---


def test_there_are_200_counts():
    assert len(COUNTS) == 200


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: str(row["samples"]))
def test_token_counts_equal_official(row):
    chunks = split_chunks(wave(np.zeros(row["samples"])))
    sizes = [len(chunk.samples) for chunk in chunks]
    assert len(sizes) == row["chunks"] and sum(map(n_audio_tokens, sizes)) == row["total_tokens"]
    if sizes:
        frames = n_frames(sizes[-1])
        found = (frames, usable_length(frames), n_audio_tokens(sizes[-1]))
        assert found == (row["last_mel_frames"], row["last_wav_len"], row["last_tokens"])


def test_lengths_follow_the_layers_for_a_thousand_durations():
    """Count what each layer leaves, position by position, instead of by the closed formula."""
    for n_samples in np.random.default_rng(0).integers(0, CHUNK_SAMPLES + 1, 1000):
        frames = n_frames(int(n_samples))
        strided = len(range(0, max(0, usable_length(frames)), 2))  # convolution with stride 2
        pooled = strided // 2  # pairs
        tokens = len(range(0, pooled, 2))  # convolution with stride 2
        assert encoder_length(usable_length(frames)) == pooled
        assert adaptor_length(pooled) == n_audio_tokens(int(n_samples)) == tokens


@pytest.mark.parametrize("seconds", [0.02, 0.5, 3.3])
def test_frame_count_is_the_mel_s(seconds):
    clip = tone(seconds)
    assert log_mel(clip).shape == (128, n_frames(len(clip.samples)))


@pytest.mark.parametrize("n_samples", [-1, CHUNK_SAMPLES + 1])
def test_chunks_over_25_s_are_not_counted(n_samples):
    with pytest.raises(AudioError, match="split_chunks"):
        n_audio_tokens(n_samples)


def test_chunks_join_to_the_whole():
    sound = long_wave()
    chunks = split_chunks(sound)
    assert [len(chunk.samples) for chunk in chunks] == [CHUNK_SAMPLES, 4800]
    assert np.array_equal(np.concatenate([chunk.samples for chunk in chunks]), sound.samples)
    assert split_chunks(wave([])) == []


def test_chunks_want_16_khz():
    with pytest.raises(AudioError, match="24000 Hz.*resample"):
        split_chunks(wave([0.0], 24_000))


def test_token_times_are_cells_around_their_centre():
    starts, ends = zip(*map(token_time_s, range(313)))
    assert starts[0] == 0 and starts[1:] == pytest.approx(ends[:-1])
    centres = (np.array(starts[1:]) + ends[1:]) / 2
    np.testing.assert_allclose(centres, np.arange(1, 313) / TOKEN_RATE_HZ + 0.01)
    assert token_time_s(3, chunk_index=2) == pytest.approx(np.add(token_time_s(3), 2 * CHUNK_S))


# --- log-mel ---


def test_batch_of_equal_lengths_equals_singles():
    clips = [tone(0.5, 300), tone(0.5, 900, level=0.01)]
    batch = log_mel(torch.tensor(np.stack([clip.samples for clip in clips])))
    for row, clip in zip(batch, clips):
        torch.testing.assert_close(row, log_mel(clip), rtol=0, atol=1e-5)


def test_mel_for_the_speech_tokenizer_has_no_pad():
    assert log_mel(tone(1.0), pad_samples=0).shape == (128, 100)


@pytest.mark.parametrize(("samples", "pad"), [(np.zeros(0, np.float32), 479), (np.zeros(200, np.float32), 0)])
def test_mel_of_nothing_is_refused(samples, pad):
    with pytest.raises(AudioError, match="at least one sample"):
        log_mel(samples, pad_samples=pad)


def test_mel_refuses_other_rates_and_integers():
    with pytest.raises(AudioError, match=r"16000 Hz.*resample\(16000\)"):
        log_mel(tone(0.1, rate=8000))
    with pytest.raises(AudioError, match="int16.*32768"):
        log_mel(np.zeros(1600, np.int16))


# --- waveform ---


@pytest.mark.parametrize(
    ("samples", "rate", "found"),
    [
        ([0.0, 0.1], 16_000, "type list"),
        (np.zeros(3, np.int16), 16_000, "dtype int16"),
        (np.zeros(3, np.float16), 16_000, "dtype float16"),
        (np.zeros(3), 16_000, "dtype float64"),
        (np.zeros((2, 3), np.float32), 16_000, r"shape \(2, 3\)"),
        (np.array([0, np.nan, np.inf], np.float32), 16_000, "2 samples that are NaN or infinite"),
        (np.zeros(3, np.float32), 0, "sample rate of 0"),
        (np.zeros(3, np.float32), 16_000.0, "sample rate of 16000.0"),
        (np.zeros(3, np.float32), True, "sample rate of True"),
    ],
)
def test_waveform_refuses(samples, rate, found):
    with pytest.raises(AudioError, match=found):
        Waveform(samples, rate)


def test_waveform_compares_by_content():
    assert tone(0.1) == tone(0.1) != tone(0.1, 441)
    assert len({tone(0.1), tone(0.1)}) == 1 and tone(0.1) != "a tone"


@pytest.mark.parametrize(("start", "end", "length"), [(0, 1, 16_000), (0.25, 0.5, 4000), (-1, 9, 16_000), (2, 3, 0)])
def test_slice_stays_inside(start, end, length):
    assert len(tone(1.0).slice_s(start, end).samples) == length


def test_slice_backwards_is_refused():
    with pytest.raises(AudioError, match="not after the end"):
        tone(1.0).slice_s(0.5, 0.4)


@pytest.mark.parametrize("rate", [0, -8000, 16_000.5])
def test_resampling_to_no_rate_is_refused(rate):
    with pytest.raises(AudioError, match="positive whole number"):
        tone(0.1).resample(rate)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 44_101, 48_000, 192_000])
def test_a_tone_stays_the_same_tone(rate):
    """Away from the ends, any rate gives the sine that 16 kHz would have recorded."""
    out = tone(0.5, rate=rate).resample(16_000)
    expected = tone(0.5).samples
    assert abs(len(out.samples) - len(expected)) <= 1
    np.testing.assert_allclose(out.samples[500:7500], expected[500:7500], atol=2e-3)


def test_resampling_nothing_and_to_the_same_rate():
    assert len(wave([]).resample(8000).samples) == 0
    assert tone(0.1).resample(16_000) == tone(0.1)


@pytest.mark.parametrize(
    ("sound", "note"),
    [
        (tone(1.0), None),
        (wave(np.zeros(16_000)), "silent"),
        (tone(1.0, level=2e-3), "very quiet"),
        (wave(np.clip(tone(1.0, level=3).samples, -1, 1)), "clipped"),
        (tone(0.01), "too short: 10 ms"),
        (wave([]), "too short: 0 ms"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_quality_note(sound, note):
    assert quality_note(sound) == note


def test_importing_stays_light():
    """The app imports this module: torch, librosa and scipy must wait until they are needed."""
    code = "import sys, model.audio; sys.exit(any(name in sys.modules for name in ('torch', 'librosa', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
