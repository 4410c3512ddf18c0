"""Loading from disk: what works, and a sentence for everything that cannot."""

import dataclasses
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import checkpoint, placement
from model.checkpoint import LoadedModel, audio_path_health_check, load_model
from model.configuration_step_audio_2 import StepAudio2Config
from model.errors import CheckpointError, MemoryShortage
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor
from tests.golden_recipe import read_json
from tests.small_model import small_config


@pytest.fixture(scope="module")
def checkpoints(tokenizer, tmp_path_factory):
    """Saved small models by name: whole, in shards, tied."""
    processor = StepAudio2Processor(tokenizer)
    ids = {"audio_start_token_id": processor.ids.audio_start, "audio_patch_token_id": processor.ids.audio_patch}
    folders = {}
    for name, tied, shard in (("whole", False, "1GB"), ("shards", False, "8KB"), ("tied", True, "1GB")):
        config = small_config(tie_word_embeddings=tied, **ids)
        config.text_config.vocab_size = 400
        torch.manual_seed(0)
        folders[name] = tmp_path_factory.mktemp(name)
        StepAudio2ForCausalLM(config).save_pretrained(folders[name], max_shard_size=shard)
        processor.save_pretrained(folders[name])
    return folders


@pytest.fixture
def folder(checkpoints, tmp_path):
    """A copy of the whole checkpoint that a test may damage."""
    return shutil.copytree(checkpoints["whole"], tmp_path / "checkpoint")


@pytest.fixture
def shards(checkpoints, tmp_path):
    """A copy of the sharded checkpoint that a test may damage."""
    return shutil.copytree(checkpoints["shards"], tmp_path / "checkpoint")


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["whole", "shards", "tied"])
@torch.no_grad()
def test_loads_what_was_saved(checkpoints, name):
    seen = []
    loaded = load_model(checkpoints[name], device="cpu", progress=lambda step, fraction: seen.append((step, fraction)))
    assert isinstance(loaded, LoadedModel)
    expected = StepAudio2ForCausalLM.from_pretrained(checkpoints[name]).eval()
    ids = torch.randint(0, 300, (1, 9))
    assert torch.equal(loaded.model(ids).logits, expected(ids).logits)
    assert loaded.model.generation_config.eos_token_id == expected.generation_config.eos_token_id
    assert not loaded.model.training
    assert (loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight) == (name == "tied")
    assert list(dict.fromkeys(step for step, _ in seen)) == ["find", "check", "load", "prove"]
    assert [fraction for step, fraction in seen if step == "load"][-1] == 1.0


def test_info_says_what_was_loaded(checkpoints, folder):
    (folder / "README.md").write_text("# Card")
    info = load_model(str(folder), device="cpu").info
    assert (info.name, info.path, info.dtype, info.device) == (str(folder), folder, "float32", "cpu")
    assert info.n_parameters == sum(p.numel() for p in StepAudio2ForCausalLM.from_pretrained(folder).parameters())
    assert info.memory_bytes == 4 * info.n_parameters
    assert info.card_path == folder / "README.md" and info.notes == ()
    assert info.health.passed and info.health.logit_shift > checkpoint.MIN_LOGIT_SHIFT
    assert info.revision == load_model(checkpoints["whole"], device="cpu", health_check=False).info.revision
    change_weights(folder, lambda weights: weights["model.norm.weight"].add_(1))
    assert info.revision != load_model(folder, device="cpu", health_check=False).info.revision


def test_info_says_what_the_weights_were_trained_for(checkpoints, folder):
    assert load_model(checkpoints["whole"], device="cpu", health_check=False).info.trained_tasks is None
    change_config(folder, trained_tasks=["asr", "translation"])
    assert load_model(folder, device="cpu", health_check=False).info.trained_tasks == ("asr", "translation")


def test_dtype_can_be_chosen(checkpoints):
    loaded = load_model(checkpoints["whole"], device="cpu", dtype="bfloat16")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert loaded.info.health.passed


def test_file_may_be_replaced_while_the_model_is_in_use(folder):
    loaded = load_model(folder, device="cpu")
    before = loaded.model.lm_head.weight.clone()
    (folder / "model.safetensors").write_bytes(b"\0" * (folder / "model.safetensors").stat().st_size)
    assert torch.equal(loaded.model.lm_head.weight, before)


# --- names and files ----------------------------------------------------------------------------


def test_unknown_name(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder.*Check the spelling"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no such folder"):
        load_model("nanoo")


def test_missing_shard_is_named(shards):
    gone = sorted(shards.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=f"1 of .* weight files missing: {gone.name}.*Download the missing"):
        load_model(shards)


def test_folder_without_weights_or_with_pickles_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no model.safetensors and no .*, but pytorch_model.bin.*pickle"):
        load_model(folder)


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged or incomplete file of 5000 bytes.*Download this file again"):
        load_model(folder)


def test_damaged_index(shards):
    (shards / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged model.safetensors.index.json"):
        load_model(shards)


def test_missing_unexpected_and_misshapen_tensors_are_named(folder):
    def damage(weights):
        del weights["encoder.conv1.bias"], weights["lm_head.weight"]
        weights["encoder.ln_post.weight"] = torch.zeros(4)
        weights["model.norm.weight"] = torch.zeros(5)

    change_weights(folder, damage)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert "2 tensors missing: encoder.conv1.bias, lm_head.weight" in caught.value.found
    assert "1 tensors unexpected: encoder.ln_post.weight" in caught.value.found
    assert "1 tensors of another shape: model.norm.weight (5,) instead of (16,)" in caught.value.found


def test_long_lists_of_names_are_cut(folder):
    change_weights(folder, lambda weights: [weights.pop(name) for name in list(weights)[:12]])
    with pytest.raises(CheckpointError, match="12 tensors missing: .* and 8 more"):
        load_model(folder)


# --- config and tokenizer -----------------------------------------------------------------------


def test_config_missing_or_damaged(folder):
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(CheckpointError, match="damaged config.json"):
        load_model(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="damaged config.json"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no config.json"):
        load_model(folder)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"model_type": "qwen2"}, "model_type 'qwen2'.*expected model_type 'step_audio_2'"),
        ({"text_config": None}, "text_config of type NoneType"),
        ({"audio_encoder_config": {"llm_dim": 17}}, "llm_dim=17.*hidden_size=16"),
        ({"adapter_hidden_size": "wide"}, "fields that make no model"),
        ({"adapter_hidden_size": 9}, r"adapter.linear1.weight \(8, 16\) instead of \(9, 16\)"),
    ],
)
def test_config_of_another_model(folder, fields, message):
    change_config(folder, **fields)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_tokenizer_of_another_model(folder):
    change_config(folder, audio_start_token_id=10)
    with pytest.raises(CheckpointError, match="match the tokenizer.*Use the tokenizer that came with"):
        load_model(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_model(folder)


# --- size ---------------------------------------------------------------------------------------


def test_model_that_does_not_fit_is_refused_before_allocation(checkpoints, monkeypatch):
    monkeypatch.setattr(placement, "available_bytes", lambda device: 100 * 2**20)
    monkeypatch.setattr(checkpoint, "read_weights", lambda *_: pytest.fail("it started to load"))
    with pytest.raises(MemoryShortage, match=r"on cpu: found 0.1 GiB of free memory, expected at least 0.3 GiB"):
        load_model(checkpoints["whole"], device="cpu")


def test_mini_is_measured_without_allocating_it(tmp_path):
    text = {"vocab_size": 158720, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
    text |= {"num_attention_heads": 28, "num_key_value_heads": 4}
    audio = {"n_audio_state": 1280, "n_audio_head": 20, "n_audio_layer": 32, "llm_dim": 3584}
    StepAudio2Config(text_config=text, audio_encoder_config=audio).save_pretrained(tmp_path)
    empty = checkpoint.build_empty(tmp_path)
    n = sum(parameter.numel() for parameter in empty.parameters())
    assert n == sum(math.prod(shape) for shape in read_json("mini_llm_shapes.json.gz").values())
    assert round(n / 1e9, 3) == 8.315
    save_file({"lm_head.weight": torch.zeros(158720, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"831 tensors missing.*lm_head.weight \(158720, 1\) instead of"):
        checkpoint.check_weights(tmp_path, empty)


# --- hearing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("severed", ["adapter.linear2.weight", "adapter.conv.weight", "encoder.after_norm.weight"])
def test_model_that_does_not_hear_is_refused(folder, severed):
    change_weights(folder, lambda weights: weights[severed].zero_())
    with pytest.raises(CheckpointError, match="prove that the model .* hears: found a logit shift of 0.0000"):
        load_model(folder, device="cpu")
    assert load_model(folder, device="cpu", health_check=False).info.health is None


def test_broken_numbers_do_not_pass(checkpoints):
    loaded = load_model(checkpoints["whole"], device="cpu")
    loaded.model.adapter.linear2.bias.data[0] = float("nan")
    assert not audio_path_health_check(loaded.model, loaded.processor).passed


def test_sound_that_is_encoded_but_never_merged_does_not_pass(checkpoints, monkeypatch):
    loaded = load_model(checkpoints["whole"], device="cpu")
    monkeypatch.setattr(StepAudio2ForCausalLM, "merge_audio", lambda self, ids, embeds, features: embeds)
    report = audio_path_health_check(loaded.model, loaded.processor)
    assert (report.passed, report.logit_shift) == (False, 0.0)


def test_records_cannot_be_changed(checkpoints):
    loaded = load_model(checkpoints["whole"], device="cpu")
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.info.name = "other"
