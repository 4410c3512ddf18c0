"""A list of voices is read off file headers; what is no voice is left out."""

import pytest

from model.errors import CheckpointError
from model.token2wav import voice as voice_file
from model.token2wav.voices import VoiceCard, VoiceChoice, read_card, read_cards, suited, voice_choice
from tests.model.token2wav.official_folder import write_ours
from tests.small_voice import build_voice


@pytest.fixture
def folder(tmp_path):
    """Two voices, and things that are none."""
    place = tmp_path / "voices"
    english = {"transcript": "hello there", "description": "low\n低", "licence": "CC0"}
    build_voice().renamed("anything", **english).save(place / "Grace.safetensors")
    build_voice(1, 50).renamed("Lan", transcript="你好", description="bright").save(place / "Lan.safetensors")
    (place / "Broken.safetensors").write_bytes(b"hello")
    (place / "notes.txt").write_text("hello")
    return place


def test_cards_say_what_is_written_on_the_voices(folder):
    grace, lan = read_cards(folder)
    assert grace == VoiceCard("Grace", "hello there", "low\n低", "CC0", 8 / 25)
    assert (grace.language, lan.language, lan.duration_s, VoiceCard("x").language) == ("en", "zh", 2.0, "")
    assert (grace.described("en"), grace.described("zh"), lan.described("zh")) == ("low", "低", "bright")
    assert VoiceCard("x").described() == ""


def test_no_number_of_a_voice_is_read(folder, monkeypatch):
    monkeypatch.setattr(voice_file, "safe_open", lambda *_, **__: pytest.fail("a voice was read"))
    assert [card.name for card in read_cards(folder)] == ["Grace", "Lan"]


def test_a_folder_that_is_not_there_has_no_voices(tmp_path):
    assert read_cards(tmp_path / "voices") == ()


def test_bad_files_are_told(folder):
    with pytest.raises(CheckpointError, match="written on the voice .*Broken"):
        read_card(folder / "Broken.safetensors")
    with pytest.raises(CheckpointError, match="No such file"):
        read_card(folder / "Nobody.safetensors")
    large = folder / "Large.safetensors"
    large.write_bytes(b"\0" * (voice_file.MAX_FILE_BYTES + 1))
    with pytest.raises(CheckpointError, match="4 MiB"):
        read_card(large)


def test_other_safetensors_are_no_voices(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"codes": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="format None"):
        read_card(tmp_path / "a.safetensors")
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="codes"):
        read_card(tmp_path / "a.safetensors")


def test_the_voice_that_suits_a_text_speaks_its_language(folder):
    cards = read_cards(folder)
    assert suited(cards, "turn on the light").name == "Grace" and suited(cards, "打开灯").name == "Lan"
    assert suited(cards[:1], "打开灯").name == "Grace" and suited((), "hello") is None


def test_a_checkpoint_tells_its_choice(tmp_path, folder):
    pytest.importorskip("onnxruntime")
    place = write_ours(tmp_path / "nano" / "token2wav")
    assert voice_choice(place.parent) == VoiceChoice((), makes_voices=True)
    folder.rename(place / "voices")
    for name in ("speaker.onnx", "speech_tokenizer.safetensors"):
        (place / name).unlink()
    choice = voice_choice(place)
    assert [card.name for card in choice.cards] == ["Grace", "Lan"] and not choice.makes_voices
    with pytest.raises(CheckpointError, match="no such folder"):
        voice_choice(tmp_path / "nowhere")
