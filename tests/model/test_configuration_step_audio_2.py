import json
from pathlib import Path

import pytest
from transformers import AutoConfig, GenerationConfig

from model.configuration_step_audio_2 import StepAudio2Config, StepAudio2EncoderConfig, StepAudio2TextConfig
from tests.golden_recipe import read_json

ROOT = Path(__file__).parents[2]


def test_official_layout_is_read_with_nested_fields_and_unknown_ones():
    config = StepAudio2Config(**read_json("config.json"), some_new_field={"a": 1})
    assert isinstance(config.text_config, StepAudio2TextConfig)
    assert isinstance(config.audio_encoder_config, StepAudio2EncoderConfig)
    assert config.text_config.rope_parameters["rope_theta"] == 1e6
    assert config.audio_encoder_config.n_codebook_size == 4096
    assert config.some_new_field == {"a": 1}
    assert config.adapter_hidden_size == 2048
    assert config.full_attention


def test_rope_theta_defaults_to_the_official_million():
    assert StepAudio2TextConfig().rope_parameters["rope_theta"] == 1e6


def test_config_json_round_trip(tmp_path):
    config = StepAudio2Config(**read_json("config.json"), attention_window=4096, adapter_hidden_size=64)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is StepAudio2Config
    assert again.to_dict() == config.to_dict() | {"_name_or_path": str(tmp_path)}


def test_official_folder_with_auto_map_needs_no_remote_code(tmp_path):
    official = read_json("config.json") | {"auto_map": {"AutoConfig": "configuration_step_audio_2.StepAudio2Config"}}
    (tmp_path / "config.json").write_text(json.dumps(official))
    assert type(AutoConfig.from_pretrained(tmp_path)) is StepAudio2Config


@pytest.mark.parametrize("given", [151643, [151643], None])
def test_eos_is_widened_like_the_official_class(given):
    text = StepAudio2TextConfig(vocab_size=158720, eos_token_id=given)
    assert text.eos_token_id == [151643, 151645, 151665]


def test_eos_of_another_tokenizer_is_left_alone():
    assert StepAudio2TextConfig(vocab_size=500, eos_token_id=[3, 7]).eos_token_id == [3, 7]


def test_generation_stops_where_the_config_says():
    config = StepAudio2Config(**read_json("config.json"))
    assert GenerationConfig.from_model_config(config).eos_token_id == [151643, 151645, 151665]


def test_groups_and_kv_heads_are_one_number():
    assert StepAudio2TextConfig(num_attention_groups=2).num_key_value_heads == 2
    assert StepAudio2TextConfig(num_key_value_heads=8).num_attention_groups == 8
    with pytest.raises(ValueError, match="num_attention_groups=2 and num_key_value_heads=4"):
        StepAudio2TextConfig(num_attention_groups=2, num_key_value_heads=4)


def test_widths_that_do_not_meet_are_refused():
    with pytest.raises(ValueError, match="llm_dim=48.*hidden_size=32"):
        StepAudio2Config(text_config={"hidden_size": 32}, audio_encoder_config={"llm_dim": 48})
    with pytest.raises(ValueError, match="n_audio_state=30"):
        StepAudio2EncoderConfig(n_audio_state=30, n_audio_head=4)


def test_window_must_be_positive():
    with pytest.raises(ValueError, match="attention_window=0"):
        StepAudio2Config(**read_json("config.json"), attention_window=0)


def test_tying_may_be_said_by_either_config():
    official = read_json("config.json")
    official["text_config"]["tie_word_embeddings"] = True
    assert StepAudio2Config(**official).tie_word_embeddings
    assert not StepAudio2Config(**read_json("config.json")).tie_word_embeddings


def test_only_our_own_checkpoints_name_what_they_were_trained_for():
    """The app tells its visitors; official files name nothing and count as trained for everything."""
    tasks = {path.stem for path in (ROOT / "model" / "tasks").glob("*.py")}
    named = json.loads((ROOT / "model" / "nano" / "config.json").read_text())["trained_tasks"]
    assert "asr" in named and set(named) <= tasks
    assert StepAudio2Config(**read_json("config.json")).trained_tasks is None
