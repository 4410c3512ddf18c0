"""Sizes of the voice: read from our file and from the official one, refused where they make no voice."""

import dataclasses
import json

import pytest

from model.errors import CheckpointError
from model.token2wav.config import (
    EstimatorConfig,
    FlowConfig,
    FlowEncoderConfig,
    HiftConfig,
    Token2WavConfig,
    TokenizerConfig,
)
from model.token2wav.tagged_yaml import parse_tagged_yaml
from tests.golden_recipe import read_json

OFFICIAL_YAML = """
width: 512
mels: !ref <n_mels>
n_mels: 80
flow: !new:stepaudio2.flow.CausalMaskedDiffWithXvec
  input_size: !ref <width>
  output_size: !ref <mels>
  spk_embed_dim: 192
  output_type: 'mel'
  vocab_size: 6561
  encoder: !new:stepaudio2.transformer.UpsampleConformerEncoderV2
    input_size: 512
    output_size: 512
    input_layer: 'linear'
    pre_lookahead_len: 3
    num_blocks: 6
    num_up_blocks: 4
    up_stride: 2
    up_scale_factor: 2
    attention_heads: 8
    pos_enc_layer_type: 'rel_pos_espnet'
    selfattention_layer_type: 'rel_selfattn'
    key_bias: true
    linear_units: 2048
    dropout_rate: 0.1
    normalize_before: True
  decoder: !new:stepaudio2.flow.CausalConditionalCFM
    inference_cfg_rate: 0.7
    estimator: !new:stepaudio2.flow.DiT
      in_channels: 320
      out_channels: 80
      mlp_ratio: 4.0
      depth: 16
      num_heads: 8
      head_dim: 64
      hidden_size: 512
sampler: !name:os.system [anything, !apply:os.abort {}]
"""


def small() -> Token2WavConfig:
    golden = read_json("token2wav_config.json")
    flow = FlowConfig.from_dict(golden["flow"])
    flow = dataclasses.replace(flow, vocab_size=729)
    tokenizer = dataclasses.replace(TokenizerConfig.from_dict(golden["s3tokenizer"]), fsq_digits=6)
    return Token2WavConfig(flow, HiftConfig.from_dict(golden["hift"]), tokenizer)


def test_mini_is_the_default():
    mini = Token2WavConfig.mini()
    assert mini == Token2WavConfig() == Token2WavConfig.from_dict({})
    assert (mini.flow.pad_code, mini.flow.frames_per_code, mini.flow.lookahead_codes) == (6561, 2, 3)
    assert (mini.hift.samples_per_frame, mini.tokenizer.n_codes) == (480, 6561)


@pytest.mark.parametrize("config", [Token2WavConfig.mini(), small()])
def test_round_trip_through_json_and_disk(config, tmp_path):
    assert Token2WavConfig.from_dict(config.to_dict()) == config
    config.save(tmp_path)
    assert Token2WavConfig.from_folder(tmp_path) == config
    assert hash(config) == hash(Token2WavConfig.from_folder(tmp_path))


def test_golden_sizes_are_read():
    golden = read_json("token2wav_config.json")
    flow = FlowConfig.from_dict(golden["flow"])
    assert (flow.encoder.output_size, flow.encoder.num_blocks, flow.decoder.estimator.depth) == (64, 2, 2)
    assert HiftConfig.from_dict(golden["hift"]).base_channels == 32
    assert TokenizerConfig.from_dict(golden["s3tokenizer"]).n_audio_state == 128


def test_official_yaml_is_read_without_importing_anything(tmp_path):
    (tmp_path / "flow.yaml").write_text(OFFICIAL_YAML, encoding="utf-8")
    assert Token2WavConfig.from_folder(tmp_path) == Token2WavConfig.mini()
    (tmp_path / "flow.yaml").write_text(OFFICIAL_YAML.replace("depth: 16", "depth: 3"), encoding="utf-8")
    assert Token2WavConfig.from_folder(tmp_path).flow.decoder.estimator.depth == 3


def test_our_file_goes_before_the_official_one(tmp_path):
    (tmp_path / "flow.yaml").write_text(OFFICIAL_YAML, encoding="utf-8")
    small().save(tmp_path)
    assert Token2WavConfig.from_folder(tmp_path) == small()


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("token2wav.json", "{", "cannot be parsed"),
        ("flow.yaml", "a: [", "cannot be parsed"),
        ("flow.yaml", "!!python/object/apply:os.getcwd []", "cannot be parsed"),
        ("flow.yaml", "just words", "expected a mapping"),
        ("flow.yaml", "a: !ref <a>\nflow: {input_size: !ref <a>}", "a value such as 512"),
        ("flow.yaml", "flow: {input_size: !ref <nothing>}", "found input_size='<nothing>'"),
        ("token2wav.json", json.dumps({"flow": {"encoder": {"key_bias": False}}}), "key_bias=True, the only kind"),
        ("token2wav.json", json.dumps({"flow": {"encoder": {"input_layer": "conv2d"}}}), "input_layer='linear'"),
        ("token2wav.json", json.dumps({"flow": {"vocab_size": "many"}}), "a value such as 6561"),
        ("token2wav.json", json.dumps({"flow": {"vocab_size": True}}), "a value such as 6561"),
        ("token2wav.json", json.dumps({"flow": {"vocab_size": 2.5}}), "a value such as 6561"),
        ("token2wav.json", json.dumps({"flow": []}), "expected a mapping"),
        ("token2wav.json", json.dumps({"hift": {"upsample_rates": 8}}), "a list of numbers"),
        ("token2wav.json", json.dumps({"hift": {"base_channels": 36}}), "base_channels=36"),
        ("token2wav.json", json.dumps({"hift": 3}), "HiftConfig"),
        ("token2wav.json", json.dumps({"hift": {"causal": 1}}), "a value such as False"),
    ],
)
def test_damaged_file_is_refused(tmp_path, name, text, match):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=match):
        Token2WavConfig.from_folder(tmp_path)


def test_folder_without_sizes_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="token2wav.json or flow.yaml"):
        Token2WavConfig.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: FlowEncoderConfig(num_blocks=0), "sizes above 0"),
        (lambda: FlowEncoderConfig(input_size=256), "equal widths"),
        (lambda: FlowEncoderConfig(attention_heads=7), "an even width for each head"),
        (lambda: EstimatorConfig(in_channels=240), "four times the mel bins"),
        (lambda: EstimatorConfig(mlp_ratio=-1.0), "sizes above 0"),
        (lambda: FlowConfig(input_size=64), "the encoder's input_size=512"),
        (lambda: FlowConfig(output_size=64), "the estimator's out_channels=80"),
        (lambda: FlowConfig.from_dict({"decoder": {"inference_cfg_rate": -0.5}}), "0 or more"),
        (lambda: HiftConfig(upsample_rates=(8, 5)), "2 entries"),
        (lambda: HiftConfig(resblock_kernel_sizes=(3, 7)), "2 entries"),
        (lambda: HiftConfig(upsample_rates=(8, 0, 3)), "sizes above 0"),
        (lambda: HiftConfig(base_channels=36), "a multiple of 8"),
        (lambda: HiftConfig(upsample_kernel_sizes=(16, 11, 8)), "more by an even number"),
        (lambda: HiftConfig(resblock_kernel_sizes=(3, 7, 10)), "odd kernels"),
        (lambda: HiftConfig(istft_hop_len=5), "an even number of hops"),
        (lambda: TokenizerConfig(fsq_levels=4), "an odd number"),
        (lambda: TokenizerConfig(n_audio_head=3), "an even width for each head"),
        (lambda: TokenizerConfig(fsmn_kernel_size=30), "an odd number"),
        (lambda: Token2WavConfig(tokenizer=TokenizerConfig(fsq_digits=6)), "6561 codes, as the flow has"),
        (lambda: Token2WavConfig(hift=HiftConfig(in_channels=100)), "80 bins, as the flow makes"),
        (lambda: Token2WavConfig(hift=HiftConfig(sampling_rate=22050)), "22050 samples per second"),
    ],
)
def test_sizes_that_make_no_voice_are_refused(build, match):
    with pytest.raises(CheckpointError, match=match):
        build()


def test_references_are_looked_up_and_nothing_else():
    text = "{a: !ref <b>, b: !ref <c>, c: 5, d: [!ref <a>], e: !ref <a> * 2, f: !ref <g>, g: !ref <f>, h: !ref <d>}"
    values = parse_tagged_yaml(text)
    circle = {values.pop("f"), values.pop("g")}
    assert circle <= {"<f>", "<g>"}
    assert values == {"a": 5, "b": 5, "c": 5, "d": [5], "e": "<a> * 2", "h": "<d>"}


def test_shared_and_circular_parts_do_no_harm():
    bomb = "\n".join(f"k{n}: &k{n} [" + ", ".join([f"*k{n - 1}"] * 9 if n else ["1"]) + "]" for n in range(40))
    assert parse_tagged_yaml(bomb)["k0"] == [1]
    circle = parse_tagged_yaml("&a {b: *a}")
    assert circle["b"] is circle
