"""A voice is what its recording holds, remembered by content, saved and found again; bad recordings are told."""

import dataclasses
import io

import numpy as np
import pytest
import soundfile
import torch

from model.audio import Waveform, log_mel, save_waveform
from model.errors import AudioError, CheckpointError
from model.token2wav.features import fit_to_codes, prompt_mel
from model.token2wav.recording import check_recording, examine
from model.token2wav.speaker import SpeakerEncoder
from model.token2wav.voice import MAX_FILE_BYTES, Voice, VoiceMaker, Voices, fingerprint
from tests.small_voice import CONFIG, build_parts, build_voice, recording, save_speaker

RATE = 24_000


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    speaker = SpeakerEncoder(save_speaker(tmp_path_factory.mktemp("speaker") / "speaker.onnx"))
    return VoiceMaker(build_parts()["tokenizer"], speaker)


@pytest.fixture
def counted(maker, monkeypatch):
    """A maker that remembers nothing yet, and the list of recordings that its tokenizer has heard."""
    fresh, heard = VoiceMaker(maker.tokenizer, maker.speaker, keep=2), []
    encode = maker.tokenizer.encode
    monkeypatch.setattr(fresh.tokenizer, "encode", lambda sound: heard.append(sound) or encode(sound))
    return fresh, heard


def noise(seconds, level=0.1, seed=0, rate=RATE):
    samples = level * np.random.default_rng(seed).standard_normal(int(seconds * rate))
    return Waveform(samples.astype(np.float32), rate)


def wav(samples, rate=RATE):
    """Return the bytes of a sound file, [time] or [time, channel]."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


# --- what a voice is made of ---


def test_parts_are_measured_at_their_rates(maker):
    sound = recording(3.21)
    voice = maker.make(sound, name="me", transcript="a b", description="low", licence="mine")
    low = sound.resample(16_000)
    codes = maker.tokenizer.encode_mel(log_mel(low, pad_samples=0))
    assert torch.equal(voice.codes, codes) and len(codes) == 81
    assert torch.equal(voice.mel, fit_to_codes(prompt_mel(sound), 81)) and voice.mel.shape == (80, 162)
    assert torch.equal(voice.speaker, maker.speaker.embed(low)[0])
    assert (voice.name, voice.transcript, voice.description, voice.licence) == ("me", "a b", "low", "mine")
    assert voice.duration_s == 3.24 and voice.tokenizer == maker.fingerprint
    assert {name: tuple(part.shape) for name, part in voice.prompt().items()} == {
        "prompt_codes": (1, 81),
        "prompt_mel": (1, 80, 162),
        "speaker": (1, 192),
    }


def test_parity_takes_the_official_channels(counted):
    maker, _ = counted
    left, right = recording().samples, noise(3.2, 0.01).samples
    file = wav(np.stack([left, right], axis=1))
    mean = (left + right) / 2
    expected = maker.make(wav(mean), name="x")
    plain = maker.make(file, name="x")
    assert torch.allclose(plain.mel, expected.mel, atol=1e-4) and torch.equal(plain.codes, expected.codes)
    official = maker.make(file, name="x", parity=True)
    first = Waveform(left, RATE).resample(16_000)
    assert torch.equal(official.codes, maker.tokenizer.encode(first))
    assert torch.equal(official.speaker, maker.speaker.embed(first)[0])
    assert torch.equal(official.mel, plain.mel)
    assert official.id != plain.id


def test_a_voice_made_in_inference_mode_is_an_ordinary_value(counted):
    with torch.inference_mode():
        voice = counted[0].make(recording(), name="me")
    assert not any(part.is_inference() for part in (voice.codes, voice.mel, voice.speaker))


# --- remembered by content ---


def test_the_same_sound_is_measured_once(counted, tmp_path):
    maker, heard = counted
    path = tmp_path / "a.wav"
    save_waveform(path, recording())
    first = maker.make(path, name="first", transcript="words")
    again = maker.make(path.rename(tmp_path / "b.wav"), name="again")
    with (tmp_path / "b.wav").open("rb") as file:
        maker.make(file, name="open file")
    assert len(heard) == 1
    assert again.codes is first.codes and again.id == first.id
    assert (again.name, again.transcript) == ("again", "")
    maker.make(recording(3.3), name="other")
    maker.make(recording(3.4), name="third")
    assert len(heard) == 3
    maker.make(path.with_name("b.wav"), name="first")
    assert len(heard) == 4  # two are kept


# --- bad recordings ---


def mostly_silent():
    samples = np.zeros(6 * RATE, np.float32)
    samples[:12_000] = recording(0.5).samples
    return Waveform(samples, RATE)


def clipped():
    return Waveform(np.clip(30 * recording().samples, -1, 1), RATE)


def tone():
    return Waveform((0.3 * np.sin(np.arange(4 * RATE) / 20)).astype(np.float32), RATE)


BAD = {
    "one second": (lambda: recording(1.0), "found 1.0 s of sound, expected 3 to 15 s. Record a few sentences"),
    "ten minutes": (lambda: noise(600, rate=16_000), "found 600.0 s of sound, expected 3 to 15 s. Cut out"),
    "empty": (lambda: Waveform(np.zeros(0, np.float32), RATE), "found 0.0 s of sound"),
    "silence": (lambda: Waveform(np.zeros(4 * RATE, np.float32), RATE), "found silence.*microphone"),
    "nearly silence": (lambda: noise(4, 3e-4), "found hardly a sound .*record louder"),
    "mostly silence": (mostly_silent, r"found 0.\d s of speech, the rest silent.*without long pauses"),
    "clipped": (clipped, "found clipped sound.*undistorted.*quieter"),
    "noise": (lambda: noise(4), "found steady sound: only 1 dB.*quiet place"),
    "tone": (tone, "found steady sound"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_recordings_are_told(maker, make, message):
    with pytest.raises(AudioError, match=f"make a voice of the recording.*: {message}"):
        maker.make(make(), name="me")


def test_clipping_is_seen_at_other_rates(maker):
    loud = Waveform(np.clip(30 * recording(rate_hz=44_100).samples, -1, 1), 44_100)
    with pytest.raises(AudioError, match="clipped"):
        maker.make(loud, name="me")


def test_long_files_are_refused_by_their_header(maker, monkeypatch):
    file = wav(np.zeros(600 * 8000, np.float32), 8000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(AudioError, match="600 s of sound, expected at most 15 s"):
        maker.make(file, name="me")


def test_stereo_and_other_rates_are_fine(maker):
    sound = recording(3.2, 44_100).samples
    stereo = maker.make(wav(np.stack([sound, 0.5 * sound], axis=1), 44_100), name="me")
    assert stereo.duration_s == 3.2


def test_what_is_no_sound_is_told(maker):
    with pytest.raises(AudioError, match="text, not sound"):
        maker.make(b"hello, this is no sound at all", name="me")


def test_report_of_a_good_recording():
    report = check_recording(recording())
    assert report == examine(recording()) and report.problem is None
    assert report.duration_s == pytest.approx(3.2)
    assert 1 < report.heard_s <= 3.2 and report.range_db > 20 and report.clipped_share == 0


def test_speech_in_loud_noise_is_noise():
    speech = recording(4)
    clean, noisy = (Waveform(speech.samples + noise(4, level).samples, RATE) for level in (0.001, 0.15))
    assert examine(clean).problem is None
    assert "steady sound" in examine(noisy).problem[0]


# --- values ---


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("name", "", "such a name"),
        ("name", "../up", "such a name"),
        ("codes", torch.zeros(8), r"codes as torch.float32 \[8\]"),
        ("codes", [1, 2], "codes as list"),
        ("codes", torch.full((8,), -1), "code -1"),
        ("mel", torch.zeros(80, 17), "17 frames for 8 codes"),
        ("mel", torch.full((80, 16), torch.nan), "mel with NaN"),
        ("mel", torch.zeros(80, 0), "not empty"),
        ("speaker", torch.zeros(192), "zeros"),
    ],
)
def test_bad_parts_are_refused(part, value, message):
    with pytest.raises(AudioError, match=message):
        dataclasses.replace(build_voice(), **{part: value})


def test_id_names_the_content():
    voice = build_voice()
    assert voice.renamed("other", description="x").id == voice.id
    assert dataclasses.replace(voice, speaker=voice.speaker + 1).id != voice.id
    with pytest.raises(dataclasses.FrozenInstanceError):
        voice.name = "x"


def test_fingerprint_survives_half_precision():
    tokenizer = build_parts()["tokenizer"]
    before = fingerprint(tokenizer)
    for kind in (torch.float16, torch.bfloat16):
        assert fingerprint(tokenizer.to(kind).float()) == before
    torch.nn.init.normal_(tokenizer.encoder.conv1.weight)
    assert fingerprint(tokenizer) != before
    assert CONFIG.tokenizer.n_codes == 729


# --- on disk ---


def test_round_trip(tmp_path):
    voice = build_voice().renamed("Ana (low)", transcript="今天", licence="CC0")
    path = voice.save(tmp_path / "new" / "a.safetensors")
    read = Voice.load(path)
    assert [getattr(read, each.name) for each in dataclasses.fields(Voice) if each.type is str] == [
        getattr(voice, each.name) for each in dataclasses.fields(Voice) if each.type is str
    ]
    assert read.id == voice.id
    path.write_bytes(b"\0" * path.stat().st_size)
    assert read.id == dataclasses.replace(read).id == voice.id  # what was read does not change with the file
    assert [each.name for each in path.parent.iterdir()] == ["a.safetensors"]


def test_bad_files_are_told(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="read the voice .*No such file"):
        Voice.load(path)
    path.write_bytes(b"hello")
    with pytest.raises(CheckpointError, match="read the voice"):
        Voice.load(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="format None with weight"):
        Voice.load(path)
    parts = {"codes": torch.zeros(2).long(), "mel": torch.zeros(80, 5), "speaker": torch.ones(192)}
    save_file(parts, path, {"format": "step-audio-voice-1", "name": "x"})
    with pytest.raises(CheckpointError, match="found 5 frames for 2 codes"):
        Voice.load(path)
    save_file(parts, path, {"format": "step-audio-voice-1"})
    with pytest.raises(CheckpointError, match="name"):
        Voice.load(path)
    path.write_bytes(b"\0" * (MAX_FILE_BYTES + 1))
    with pytest.raises(CheckpointError, match="a file of 4 MiB"):
        Voice.load(path)


# --- library ---


def test_library_reads_its_folder_when_asked(tmp_path):
    library = Voices(tmp_path / "voices")
    assert library.names == () and len(library) == 0
    with pytest.raises(AudioError, match="voice 'Ana': found none of that name, expected no voice at all"):
        library["Ana"]
    library.add(build_voice().renamed("Ana"))
    build_voice(1).save(tmp_path / "voices" / "Ben.safetensors")
    (tmp_path / "voices" / ".Cid.safetensors.partial").write_bytes(b"")
    (tmp_path / "voices" / ".Dan.safetensors").write_bytes(b"")
    assert library.names == ("Ana", "Ben") and [voice.name for voice in library] == ["Ana", "Ben"]
    assert library["Ben"].id == build_voice(1).id and library["Ben"] is library["Ben"]
    assert "Ben" in library and "Cid" not in library and "../voices/Ana" not in library
    with pytest.raises(AudioError, match="expected Ana, Ben"):
        library["../voices/Ana"]
    library.add(build_voice(2).renamed("Ben"))
    assert Voices(tmp_path / "voices")["Ben"].id == build_voice(2).id


def test_library_without_a_folder():
    library = Voices(voices=[build_voice()])
    assert library.names == ("invented 0",) and library["invented 0"] is build_voice()
    library.add(build_voice(1))
    assert len(library) == 2
