"""Any file becomes a Waveform or a sentence that says what is wrong with it."""

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from model import audio_file
from model.audio import Waveform, load_waveform, quality_note, save_waveform
from model.errors import AudioError

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
FFMPEG_KINDS = [("a.m4a", ("-c:a", "aac")), ("a.webm", ("-c:a", "libopus")), ("a.mp4", ("-c:a", "aac"))]


def tone(seconds=1.0, rate=16_000, channels=1, level=0.5):
    """Write-ready sine [time, channel], its level falling from channel to channel."""
    sine = level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return (sine[:, None] / np.arange(1, channels + 1)).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Write samples or bytes under a name; return the path."""

    def _write(name, content, rate=16_000, **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            soundfile.write(path, content, rate, **options)
        return path

    return _write


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr(audio_file.shutil, "which", lambda name: None)


def refusal(source, **options):
    with pytest.raises(AudioError) as caught:
        load_waveform(source, **options)
    message = str(caught.value)
    assert message.startswith("Could not read ") and message.endswith(".") and "\n" not in message
    return message


# --- what is read ---


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_common_formats(write, name):
    sound = load_waveform(write(name, tone()))
    assert sound.sample_rate_hz == 16_000 and sound.duration_s == pytest.approx(1.0, abs=0.1)
    assert np.abs(sound.samples[4000:12000]).max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_wav_subtypes(write, subtype):
    sound = load_waveform(write("a.wav", tone(), subtype=subtype))
    assert sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples[100:15_900], tone()[100:15_900, 0], atol=0.05)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count(write, rate, channels):
    sound = load_waveform(write("a.wav", tone(0.5, rate, channels), rate=rate))
    expected = tone(0.5)[:, 0] * np.mean(1 / np.arange(1, channels + 1))
    assert sound.sample_rate_hz == 16_000 and len(sound.samples) == 8000
    np.testing.assert_allclose(sound.samples[500:7500], expected[500:7500], atol=2e-3)


def test_first_channel_behind_the_parity_switch(write):
    path = write("a.wav", tone(channels=6))
    np.testing.assert_allclose(load_waveform(path, channel="first").samples, tone()[:, 0], atol=1e-4)
    with pytest.raises(AudioError, match='"mean" or "first"'):
        load_waveform(path, channel="left")


def test_path_bytes_and_file_give_the_same(write):
    path = write("a.flac", tone())
    expected = load_waveform(path)
    assert load_waveform(str(path)) == load_waveform(path.read_bytes()) == expected
    with path.open("rb") as file:
        assert load_waveform(file) == expected
    assert load_waveform(io.BytesIO(path.read_bytes())) == expected


def test_wanted_rate(write):
    assert load_waveform(write("a.wav", tone()), sample_rate_hz=24_000).samples.shape == (24_000,)


def test_wav_written_to_a_pipe_has_no_length_and_is_read(write):
    data = bytearray(write("a.wav", tone()).read_bytes())
    position = data.index(b"data") + 4
    data[position : position + 4] = struct.pack("<I", 0xFFFF_FFFF)
    assert load_waveform(bytes(data)).duration_s == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "seconds"), [("a.wav", 0.01), ("a.flac", 0.01)])
def test_ten_milliseconds_are_read_unless_a_minimum_is_asked(write, name, seconds):
    path = write(name, tone(seconds))
    assert quality_note(load_waveform(path)) == "too short: 10 ms"
    assert "found 0.01 s of sound, expected at least 0.1 s" in refusal(path, min_seconds=0.1)


def test_silence_is_read_and_noted(write):
    assert quality_note(load_waveform(write("a.wav", np.zeros(16_000, np.float32)))) == "silent"


@needs_ffmpeg
@pytest.mark.parametrize(("name", "codec"), FFMPEG_KINDS)
def test_ffmpeg_reads_the_rest(write, name, codec):
    path = convert(write("a.wav", tone(2.0, 48_000, 2), rate=48_000), name, codec)
    for source in (path, path.read_bytes()):
        sound = load_waveform(source)
        assert sound.duration_s == pytest.approx(2.0, abs=0.1)
        assert np.abs(sound.samples[8000:24_000]).max() == pytest.approx(0.375, abs=0.05)


def convert(source, name, codec, *options):
    target = source.with_name(name)
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, *codec, *options, target], check=True)
    return target


# --- what is refused ---


def test_missing_file(tmp_path):
    assert "'none.wav': found no such file" in refusal(tmp_path / "none.wav")


def test_folder(tmp_path):
    assert "found a folder" in refusal(tmp_path)


def test_not_a_source():
    assert "type ndarray" in refusal(np.zeros(3, np.float32))


def test_empty_file(write):
    assert "found an empty file (0 bytes)" in refusal(write("a.wav", b""))
    assert "found an empty file" in refusal(b"")


def test_zero_seconds(write):
    assert "found 0.00 s of sound, expected at least 0.01 s" in refusal(write("a.wav", np.zeros(0, np.float32)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_samples(write, bad):
    samples = tone()
    samples[100:103] = bad
    assert "found 3 of 16000 samples that are NaN" in refusal(write("a.wav", samples, subtype="FLOAT"))


@pytest.mark.parametrize("text", ["Dear diary,\n", "#EXTM3U\nfile:///etc/passwd\n", "日记"])
def test_text_named_wav(write, text):
    assert "found text, not sound" in refusal(write("a.wav", text.encode()))


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_truncated_file(write, name):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    data = write(name, noise).read_bytes()
    message = refusal(write(f"cut-{name}", data[: len(data) // 2]))
    assert "header promises" in message or "cut-off file" in message


@needs_ffmpeg
@pytest.mark.parametrize("options", [(), ("-movflags", "+faststart")])
def test_truncated_m4a(write, options):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 80_000).astype(np.float32)
    path = convert(write("a.wav", noise), "a.m4a", ("-c:a", "aac"), *options)
    message = refusal(write("cut.m4a", path.read_bytes()[: path.stat().st_size // 2]))
    assert "header promises" in message or "cannot decode" in message
    assert str(path.parent) not in message


@pytest.mark.parametrize("data", [b"RIFF\x10\0\0\0WAVE", b"\x00\x01\x02\x03" * 200, b"fLaC\0"])
def test_garbage(write, data):
    assert "no known sound format" in refusal(write("a.wav", data))


@pytest.mark.parametrize(
    ("head", "kind"), [(b"\0\0\0\x20ftypM4A ", "MPEG-4 sound (m4a)"), (b"\x1aE\xdf\xa3", "WebM or Matroska sound")]
)
def test_m4a_and_webm_without_ffmpeg(write, no_ffmpeg, head, kind):
    message = refusal(write("a.m4a", head + bytes(600)))
    assert f"found {kind}, which needs ffmpeg, and no ffmpeg" in message and "apt-get install ffmpeg" in message


def test_wav_needs_no_ffmpeg(write, no_ffmpeg):
    assert load_waveform(write("a.wav", tone())).duration_s == 1.0


def test_raw_samples_have_no_format(write, no_ffmpeg):
    assert "no known sound format" in refusal(write("a.raw", bytes(range(32)) * 100))


@pytest.mark.parametrize("rate", [500, 2_000_000])
def test_absurd_rate(write, rate):
    assert f"found a sample rate of {rate} Hz" in refusal(write("a.wav", tone(), rate=rate))


# --- three hours, refused from the header ---


@pytest.fixture
def nothing_is_decoded(monkeypatch):
    def fail(*args, **options):
        raise AssertionError("decoding has begun")

    monkeypatch.setattr(audio_file, "_decode_blocks", fail)
    monkeypatch.setattr(audio_file.subprocess, "run", fail)


def test_three_hour_wav(tmp_path, nothing_is_decoded):
    n_bytes = 3 * 3600 * 16_000 * 2
    path = tmp_path / "long.wav"
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", n_bytes + 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16,
                       b"data", n_bytes)  # fmt: skip
    with path.open("wb") as file:
        file.write(head)
        file.truncate(n_bytes + len(head))  # a sparse file: nothing is stored
    assert "found 10800 s of sound, expected at most 1800 s" in refusal(path)


def test_three_hour_flac(write, nothing_is_decoded):
    data = bytearray(write("a.flac", tone(0.1)).read_bytes())
    total = 3 * 3600 * 16_000
    data[21:26] = bytes([data[21] & 0xF0 | total >> 32]) + struct.pack(">I", total & 0xFFFF_FFFF)
    assert "found 10800 s of sound" in refusal(bytes(data))


@needs_ffmpeg
def test_long_m4a_is_refused_by_its_header(write, monkeypatch):
    path = convert(write("a.wav", tone(3.0)), "a.m4a", ("-c:a", "aac"))
    monkeypatch.setattr(audio_file, "_decode_blocks", None)
    assert "found 3 s of sound, expected at most 2 s" in refusal(path, max_seconds=2)


@needs_ffmpeg
def test_webm_without_length_is_bounded_while_decoding(write):
    source = write("a.wav", tone(5.0))
    data = subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-c:a", "libopus", "-f", "webm", "-"],
                          check=True, capture_output=True).stdout  # fmt: skip
    assert load_waveform(data).duration_s == pytest.approx(5.0, abs=0.1)
    assert "s of sound, expected at most 2 s" in refusal(data, max_seconds=2)


def test_header_that_promises_too_little_is_bounded(write, monkeypatch):
    monkeypatch.setattr(audio_file, "_check_header", lambda *args: None)
    assert "more than 1 s of sound, expected at most 0.5 s" in refusal(write("a.wav", tone(1.0)), max_seconds=0.5)


@needs_ffmpeg
def test_slow_ffmpeg_is_stopped(write, monkeypatch):
    monkeypatch.setattr(audio_file, "_FFMPEG_LIMIT_S", 0.001)
    path = convert(write("a.wav", tone()), "a.m4a", ("-c:a", "aac"))
    assert "still working after 0.001 s" in refusal(path)


def test_full_disk(write, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audio_file.tempfile, "TemporaryDirectory", full)
    assert "No space left on device" in refusal(write("a.wav", tone()))


# --- writing ---


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_saved_sound_is_read_again(tmp_path, name):
    sound = Waveform(tone()[:, 0], 16_000)
    save_waveform(tmp_path / name, sound)
    np.testing.assert_allclose(load_waveform(tmp_path / name).samples, sound.samples, atol=1 / 32768)


def test_louder_than_full_scale_is_clipped(tmp_path):
    save_waveform(tmp_path / "a.wav", Waveform(np.full(100, 3, np.float32), 16_000))
    np.testing.assert_allclose(load_waveform(tmp_path / "a.wav").samples, 1.0, atol=1 / 32768)


@pytest.mark.parametrize("name", ["a.doc", "none/a.wav", "a"])
def test_unwritable_path(tmp_path, name):
    with pytest.raises(AudioError, match=r"Could not write .*\.wav, \.flac or \.ogg"):
        save_waveform(tmp_path / name, Waveform(tone()[:, 0], 16_000))
