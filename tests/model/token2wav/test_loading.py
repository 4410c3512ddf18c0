"""A folder becomes something that speaks: official names and ours, and a sentence for everything that cannot."""

import json
import math
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import placement
from model.checkpoint import NANO_DIR, LoadedModel, ModelInfo
from model.errors import CheckpointError, MemoryShortage, OptionsError
from model.token2wav import loading
from model.token2wav.config import Token2WavConfig
from model.token2wav.loading import FLOW, TOKENIZER, VOCODER, count, find_files, load_token2wav, save_part
from tests.golden_recipe import read_json
from tests.model.token2wav.official_folder import write_official, write_ours
from tests.small_voice import CONFIG, build_token2wav, build_voice, random_codes, recording

pytest.importorskip("onnxruntime")
CODES = random_codes(6)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same weights in both layouts."""
    root = tmp_path_factory.mktemp("voices")
    return {"official": write_official(root / "official"), "ours": write_ours(root / "ours")}


@pytest.fixture
def folder(folders, tmp_path):
    """A copy in our layout that a test may damage."""
    return shutil.copytree(folders["ours"], tmp_path / "voice")


def change(path, edit):
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


# --- both layouts ---


@pytest.mark.parametrize("layout", ["official", "ours"])
def test_both_layouts_speak_alike(folders, layout):
    seen = []
    loaded = load_token2wav(folders[layout], device="cpu", progress=lambda *told: seen.append(told))
    assert loaded.config == CONFIG
    assert loaded.speak(CODES, build_voice(), n_steps=1) == build_token2wav().speak(CODES, build_voice(), n_steps=1)
    assert loaded.make_voice(recording(), name="me").tokenizer == loaded.maker.fingerprint
    assert [part for part, _ in seen] == ["flow", "vocoder", "tokenizer", "speaker", "speaker"]
    assert [fraction for _, fraction in seen] == sorted(fraction for _, fraction in seen) and seen[-1][1] == 1.0
    info = loaded.info
    assert (info.path, info.device, info.dtype) == (folders[layout], "cpu", "float32")
    assert info.memory_bytes == 4 * info.n_parameters
    networks = loaded.flow, loaded.vocoder, loaded.maker.tokenizer
    assert not any(network.training or any(x.requires_grad for x in network.parameters()) for network in networks)


def test_the_checkpoint_around_it_will_do(folders, tmp_path):
    shutil.copytree(folders["ours"], tmp_path / "token2wav")
    assert find_files(tmp_path).folder == tmp_path / "token2wav"


def test_layouts_may_be_mixed_and_ours_come_first(folders, tmp_path):
    mixed = shutil.copytree(folders["official"], tmp_path / "mixed")
    shutil.copy(folders["ours"] / "hift.safetensors", mixed)
    names = {part: path.name for part, path in find_files(mixed).paths.items()}
    assert names == {
        "flow": "flow.pt",
        "vocoder": "hift.safetensors",
        "tokenizer": "speech_tokenizer_v2_25hz.onnx",
        "speaker": "campplus.onnx",
    }


def test_vocoder_names_may_begin_with_generator(folders):
    stored = torch.load(folders["official"] / "hift.pt", weights_only=True)
    assert all(name.startswith("generator.") for name in stored)
    assert set(find_files(folders["official"]).read(VOCODER)) == {name.removeprefix("generator.") for name in stored}


def test_old_torch_files_are_read(folders, tmp_path):
    old = shutil.copytree(folders["official"], tmp_path / "old")
    weights = torch.load(old / "flow.pt", weights_only=True)
    torch.save(weights, old / "flow.pt", _use_new_zipfile_serialization=False)
    read = find_files(old).read(FLOW)
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_half_precision_in_files_and_in_memory(folder):
    plain = load_token2wav(folder, device="cpu")
    for part in (FLOW, VOCODER, TOKENIZER):
        save_part(folder, part, find_files(folder).read(part), torch.float16)
    stored = load_token2wav(folder, device="cpu")
    kinds = {x.dtype for network in (stored.flow, stored.vocoder, stored.maker.tokenizer) for x in network.parameters()}
    assert kinds == {torch.float32}
    assert stored.maker.fingerprint == plain.maker.fingerprint
    light = load_token2wav(folder, device="cpu", dtype="bfloat16")
    assert {x.dtype for x in light.flow.parameters()} == {torch.bfloat16}
    assert {x.dtype for x in light.vocoder.parameters()} == {torch.float32}
    assert light.info.dtype == "bfloat16" and light.info.memory_bytes < stored.info.memory_bytes
    assert light.speak(CODES, build_voice(), n_steps=1).duration_s == pytest.approx(0.24)
    with pytest.raises(OptionsError, match="dtype='int8'"):
        load_token2wav(folder, dtype="int8")


def test_voices_come_with_the_folder(folder):
    build_voice(1).save(folder / "voices" / "Ana.safetensors")
    loaded = load_token2wav(folder, device="cpu")
    assert loaded.voices.names == ("Ana",)
    assert loaded.speak(CODES, "Ana", n_steps=1) == loaded.speak(CODES, build_voice(1), n_steps=1)


def test_without_tokenizer_and_speaker_it_speaks(folder):
    (folder / "speech_tokenizer.safetensors").unlink()
    (folder / "speaker.onnx").unlink()
    loaded = load_token2wav(folder, device="cpu")
    assert loaded.maker is None and loaded.speak(CODES, build_voice(), n_steps=1).duration_s > 0


def test_files_may_be_replaced_while_in_use(folder):
    loaded = load_token2wav(folder, device="cpu")
    before = loaded.speak(CODES, build_voice(), n_steps=1)
    for name in ("flow", "hift", "speech_tokenizer"):
        path = folder / f"{name}.safetensors"
        path.write_bytes(b"\0" * path.stat().st_size)
    assert loaded.speak(CODES, build_voice(), n_steps=1) == before


def test_sizes_of_mini():
    n_flow = sum(math.prod(shape) for shape in read_json("mini_flow_shapes.json.gz").values())
    n_hift = sum(math.prod(shape) for shape in read_json("mini_hift_shapes.json").values())
    dtypes = {FLOW: torch.float16, VOCODER: torch.float32}
    assert count(Token2WavConfig.mini(), dtypes) == (n_flow + n_hift, 2 * n_flow + 4 * n_hift)


# --- what cannot be loaded ---


def test_no_folder_and_no_sizes(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        load_token2wav(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="token2wav.json or flow.yaml"):
        load_token2wav(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["flow"], "no file for flow, expected flow.safetensors or flow.pt"),
        (["flow", "hift"], "no file for flow and vocoder"),
        (["speech_tokenizer"], "no file for tokenizer, expected speech_tokenizer.safetensors or speech_tokenizer_v2"),
        (["speaker"], "no file for speaker, expected speaker.onnx or campplus.onnx"),
    ],
)
def test_missing_files_are_named(folder, names, message):
    for name in names:
        next(folder.glob(f"{name}.*")).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_token2wav(folder)


def test_missing_unexpected_and_misshapen_tensors_are_named(folder):
    def damage(weights):
        del weights["encoder_proj.bias"]
        weights["encoder_proj.other"] = torch.zeros(1)
        weights["input_embedding.weight"] = torch.zeros(730, 32)

    change(folder / "flow.safetensors", damage)
    with pytest.raises(CheckpointError) as caught:
        load_token2wav(folder, device="cpu")
    assert "1 tensors missing: encoder_proj.bias" in caught.value.found
    assert "1 tensors unexpected: encoder_proj.other" in caught.value.found
    assert "input_embedding.weight (730, 32) instead of (729, 32)" in caught.value.found


def test_sizes_that_do_not_match(folder):
    sizes = json.loads((folder / "token2wav.json").read_text())
    sizes["hift"]["base_channels"] = 32
    (folder / "token2wav.json").write_text(json.dumps(sizes))
    with pytest.raises(CheckpointError, match="hift.safetensors' with the sizes of the voice: .*of another shape"):
        load_token2wav(folder, device="cpu")


def test_damaged_files(folders, tmp_path):
    for layout, name, message in (
        ("ours", "hift.safetensors", "damaged or incomplete"),
        ("official", "flow.pt", "that torch does not read"),
        ("official", "hift.pt", "that torch does not read"),
        ("official", "speech_tokenizer_v2_25hz.onnx", "speech_tokenizer"),
        ("official", "campplus.onnx", "speaker network"),
    ):
        copy = shutil.copytree(folders[layout], tmp_path / name)
        (copy / name).write_bytes((copy / name).read_bytes()[:3000])
        with pytest.raises(CheckpointError, match=message):
            load_token2wav(copy, device="cpu")


class Payload:
    """Opens a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_file_is_not_run(folders, tmp_path):
    copy = shutil.copytree(folders["official"], tmp_path / "evil")
    torch.save({"weight": Payload(tmp_path / "was here")}, copy / "flow.pt")
    with pytest.raises(CheckpointError, match="does not read.*can run code"):
        load_token2wav(copy, device="cpu")
    assert not (tmp_path / "was here").exists()
    torch.save({"state": {"weight": torch.zeros(1)}}, copy / "flow.pt")
    with pytest.raises(CheckpointError, match="type dict, not of tensors alone"):
        load_token2wav(copy, device="cpu")


def test_what_does_not_fit_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(placement, "available_bytes", lambda device: 2**20)
    monkeypatch.setattr(loading, "load_file", lambda *_: pytest.fail("it started to load"))
    with pytest.raises(MemoryShortage, match="0.0 GiB of free memory"):
        load_token2wav(folder, device="cpu")


# --- as part of a loaded model ---


def loaded_model(path):
    info = ModelInfo("x", Path(path), "", "float32", "cpu", 0, 0, None, None)
    return LoadedModel(None, None, info)


def test_a_loaded_model_reads_its_voice_once(folders, tmp_path, monkeypatch):
    model, calls = loaded_model(tmp_path), []
    assert model.token2wav is None and not model.has_voice
    shutil.copytree(folders["ours"], tmp_path / "token2wav")
    assert model.has_voice and "token2wav" not in repr(model)
    load = loading.load_token2wav
    monkeypatch.setattr(
        loading, "load_token2wav", lambda *args, **options: calls.append(options) or load(*args, **options)
    )
    got = []
    threads = [threading.Thread(target=lambda: got.append(model.token2wav)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [{"device": "cpu"}] and len({id(each) for each in got}) == 1
    assert got[0].speak(CODES, build_voice(), n_steps=1).duration_s > 0


def test_a_loaded_model_names_what_its_voice_misses(folders, tmp_path):
    shutil.copytree(folders["ours"], tmp_path / "token2wav")
    change(tmp_path / "token2wav" / "flow.safetensors", lambda weights: weights.pop("encoder_proj.bias"))
    with pytest.raises(CheckpointError, match="missing: encoder_proj.bias"):
        _ = loaded_model(tmp_path).token2wav


@pytest.mark.slow
@pytest.mark.skipif(not (NANO_DIR / "token2wav/flow.safetensors").exists(), reason="nano has no voice yet")
def test_nano_speaks_with_each_of_its_voices():
    nano = load_token2wav(NANO_DIR, device="cpu")
    assert len(nano.voices) > 0
    for voice in nano.voices:
        assert nano.speak(CODES, voice).duration_s > 0
