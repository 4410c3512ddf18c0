"""The converter writes a voice that speaks as before, says what it wrote, and never writes over anything unasked."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from model.errors import CheckpointError
from model.token2wav import convert as convert_module
from model.token2wav.convert import convert, main
from model.token2wav.loading import load_token2wav
from tests.model.token2wav.official_folder import write_official
from tests.small_voice import build_voice, random_codes

pytest.importorskip("onnxruntime")
OURS = ["flow.safetensors", "hift.safetensors", "speaker.onnx", "speech_tokenizer.safetensors", "token2wav.json"]
CODES = random_codes(6)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("official") / "mini" / "token2wav")


@pytest.fixture(scope="module")
def converted(official, tmp_path_factory):
    return convert(official, tmp_path_factory.mktemp("ours") / "new")


def listed(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_speaks_as_before(official, converted):
    assert listed(converted) == OURS
    before, after = (load_token2wav(folder, device="cpu") for folder in (official, converted))
    assert before.config == after.config
    assert before.speak(CODES, build_voice(), n_steps=1) == after.speak(CODES, build_voice(), n_steps=1)
    assert before.maker.fingerprint == after.maker.fingerprint


def test_names_are_official(official, converted):
    stored = torch.load(official / "flow.pt", weights_only=True)
    ours = load_file(converted / "flow.safetensors")
    assert set(ours) == set(stored) and all(torch.equal(ours[name], stored[name]) for name in ours)
    assert not any(name.startswith("generator.") for name in load_file(converted / "hift.safetensors"))


def test_command_line(official, tmp_path, capsys):
    out = tmp_path / "half"
    assert main([str(official.parent), "--out", str(out), "--dtype", "float16"]) == 0
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == [
        str(out / name)
        for name in (
            "flow.safetensors",
            "hift.safetensors",
            "speech_tokenizer.safetensors",
            "speaker.onnx",
            "token2wav.json",
        )
    ]
    assert {tensor.dtype for tensor in load_file(out / "flow.safetensors").values()} == {torch.float16}
    assert main([str(official), "--out", str(out)]) == 1
    assert "expected none there. Choose an empty folder, or add --force" in capsys.readouterr().err
    assert main([str(official), "--out", str(out), "--force"]) == 0
    assert {tensor.dtype for tensor in load_file(out / "flow.safetensors").values()} == {torch.float32}
    assert main([str(tmp_path / "nowhere"), "--out", str(out)]) == 1
    assert capsys.readouterr().err.startswith("convert: Could not load the voice")


def test_our_own_layout_and_its_voices(converted, tmp_path):
    source = shutil.copytree(converted, tmp_path / "source")
    build_voice(1).save(source / "voices" / "Ana.safetensors")
    out = convert(source, tmp_path / "out", dtype="bfloat16")
    assert listed(out) == [*OURS, "voices/Ana.safetensors"]
    assert load_token2wav(out, device="cpu").voices["Ana"].id == build_voice(1).id
    with pytest.raises(CheckpointError, match="Choose an empty folder"):
        convert(source, source, force=True)
    assert listed(source) == [*OURS, "voices/Ana.safetensors"]


def test_a_conversion_that_broke_off_is_no_voice(official, converted, tmp_path, monkeypatch):
    out = shutil.copytree(converted, tmp_path / "out")
    save = convert_module.save_part
    monkeypatch.setattr(convert_module, "save_part", lambda *args: save(*args) if args[1] == "flow" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(official, out, force=True)
    with pytest.raises(CheckpointError, match="token2wav.json or flow.yaml"):
        load_token2wav(out)


def test_damaged_sources_are_refused(official, tmp_path):
    source = shutil.copytree(official, tmp_path / "source")
    weights = torch.load(source / "hift.pt", weights_only=True)
    weights.pop("generator.conv_pre.bias")
    torch.save(weights, source / "hift.pt")
    with pytest.raises(CheckpointError, match="1 tensors missing: conv_pre.bias"):
        convert(source, tmp_path / "out")


def test_sizes_are_plain_json(converted):
    assert json.loads((converted / "token2wav.json").read_text())["flow"]["vocab_size"] == 729
