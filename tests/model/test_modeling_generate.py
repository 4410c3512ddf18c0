"""transformers' own `generate` on sound: encoded once, any sampler, any batch; and saving to disk."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GenerationConfig

from model.configuration_step_audio_2 import StepAudio2Config
from model.modeling_step_audio_2 import AudioEncoder, StepAudio2ForCausalLM
from tests.golden_recipe import read_json, read_mels, read_prompt
from tests.small_model import batch_of_two, small_config

STOP = {"eos_token_id": 2, "pad_token_id": 0}


@pytest.fixture
def small_model():
    torch.manual_seed(0)
    return StepAudio2ForCausalLM(small_config()).eval()


@pytest.fixture
def encoder_calls(monkeypatch):
    calls, forward = [], AudioEncoder.forward
    monkeypatch.setattr(AudioEncoder, "forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    return calls


@pytest.mark.parametrize(
    "how, n_rows",
    [
        ({"do_sample": False}, 2),
        ({"do_sample": False, "use_cache": False}, 2),
        ({"do_sample": True, "top_k": 5, "num_return_sequences": 3}, 6),
        ({"num_beams": 3}, 2),
        ({"num_beams": 2, "use_cache": False}, 2),
        ({"do_sample": False, "cache_implementation": "static"}, 2),
        ({"do_sample": False, "output_attentions": True, "output_hidden_states": True}, 2),
    ],
)
def test_sound_is_encoded_once_whatever_the_sampler(small_model, encoder_calls, how, n_rows):
    inputs = batch_of_two()
    output = small_model.generate(**inputs, max_new_tokens=5, return_dict_in_generate=True, **STOP, **how)
    assert len(encoder_calls) == 1
    assert output.sequences.shape[0] == n_rows
    assert output.sequences.shape[1] <= inputs["input_ids"].shape[1] + 5


def test_without_cache_gives_the_same_ids(small_model):
    inputs = batch_of_two() | STOP | {"max_new_tokens": 12}
    for how in ({"do_sample": False}, {"num_beams": 3}):
        cached = small_model.generate(**inputs, **how)
        assert torch.equal(cached, small_model.generate(**inputs, use_cache=False, **how))


def test_beams_and_samples_of_a_batch_keep_their_own_clips(tiny_model):
    """Rows with two clips and one clip: copying clips one by one, not row by row, would mix them up."""
    clips, prompt = ["clip_3p3", "one_second", "odd"], read_prompt("two_clips")
    mels, lens = read_mels(clips)
    two, one = prompt["input_ids"][0], read_prompt("batch_left")["input_ids"][0]
    n_pad = max(len(two) - len(one), 0)
    one = torch.cat([torch.full((n_pad,), 151643), one])[-len(two) :]
    assert (one == 151688).sum() == 1
    batch = torch.stack([two, one])
    mask = torch.ones_like(batch)
    mask[1] = (one != 151643).long()
    settings = {"num_beams": 2, "max_new_tokens": 4, "eos_token_id": 151665, "pad_token_id": 151643}
    together = tiny_model.generate(input_ids=batch, attention_mask=mask, wavs=mels, wav_lens=lens, **settings)
    features = tiny_model.get_audio_features(mels, lens)
    first = tiny_model.generate(input_ids=two[None], audio_features=features[:2], **settings)
    real = mask[1].bool()
    second = tiny_model.generate(input_ids=one[real][None], audio_features=features[2:], **settings)
    assert together[0].tolist() == first[0].tolist()
    assert together[1, len(two) :].tolist() == second[0, int(real.sum()) :].tolist()


def test_a_conversation_goes_on_from_its_cache(small_model, encoder_calls):
    mels, lens = read_mels(["one_second", "odd"])
    turn = [10, *[12] * 13, 11, 5, 6]
    first = small_model.generate(
        input_ids=torch.tensor([turn]), wavs=mels[:1], wav_lens=lens[:1], max_new_tokens=3, do_sample=False,
        return_dict_in_generate=True, **STOP,
    )  # fmt: skip
    longer = torch.cat([first.sequences, torch.tensor([[5, 10, *[12] * 7, 11, 6]])], dim=1)
    features = small_model.get_audio_features(mels, lens)
    settings = {"audio_features": features, "max_new_tokens": 4, "do_sample": False, **STOP}
    again = small_model.generate(input_ids=longer, **settings)
    continued = small_model.generate(input_ids=longer, past_key_values=first.past_key_values, **settings)
    assert continued.tolist() == again.tolist()


def test_official_call_style(small_model):
    settings = GenerationConfig(max_new_tokens=3, do_sample=False, **STOP)
    inputs = batch_of_two()
    mask = torch.ones_like(inputs["input_ids"])
    output = small_model.generate(**inputs, attention_mask=mask, generation_config=settings, tokenizer=None)
    assert output.shape[1] <= mask.shape[1] + 3


def save_and_load(model, folder, **kwargs):
    model.save_pretrained(folder, **kwargs)
    loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(loaded) is StepAudio2ForCausalLM
    return loaded


def stored_names(folder):
    names = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names += file.keys()
    return names


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard", ["5GB", "8KB"])
@torch.no_grad()
def test_saved_and_loaded_model_is_the_same(tmp_path, tied, shard):
    model = StepAudio2ForCausalLM(small_config(tie_word_embeddings=tied)).eval()
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    loaded = save_and_load(model, tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "8KB")
    assert ("lm_head.weight" in stored_names(tmp_path)) != tied
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    inputs = batch_of_two()
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    again = loaded.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_stored_names_are_the_official_ones(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    assert sorted(stored_names(tmp_path)) == sorted(read_json("tiny_shapes.json.gz")["llm"])
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "step_audio_2"
    assert saved["architectures"] == ["StepAudio2ForCausalLM"]


def test_dtype_and_window_can_be_chosen_when_loading(tmp_path, small_model):
    small_model.save_pretrained(tmp_path)
    loaded = StepAudio2ForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, attention_window=16)
    assert loaded.dtype == torch.bfloat16 and loaded.encoder.conv1.weight.dtype == torch.bfloat16
    assert loaded.model.layers[0].self_attn.sliding_window == 16
    assert isinstance(loaded.config, StepAudio2Config) and not loaded.config.full_attention
