"""A model of a few thousand parameters with its own ids, for tests that need any weights but not the golden ones."""

import torch

from model.configuration_step_audio_2 import StepAudio2Config
from tests.golden_recipe import read_mels


def small_config(**changes) -> StepAudio2Config:
    """Return a config that builds in milliseconds: 200 ids, width 16."""
    text = {"vocab_size": 200, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "eos_token_id": 2, "pad_token_id": 0}
    audio_encoder = {"n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1, "llm_dim": 16}
    ids = {"audio_start_token_id": 10, "audio_patch_token_id": 12, "adapter_hidden_size": 8}
    return StepAudio2Config(text_config=text, audio_encoder_config=audio_encoder, **ids | changes)


def batch_of_two() -> dict[str, torch.Tensor]:
    """Return inputs with one clip in each row: 13 positions for one second, 7 for half of it."""
    mels, lens = read_mels(["one_second", "odd"])
    rows = [[10, *[12] * 13, 11, 5, 6], [4] * 6 + [10, *[12] * 7, 11, 5, 6]]
    return {"input_ids": torch.tensor(rows), "wavs": mels, "wav_lens": lens}
