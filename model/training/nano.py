"""The shape of the embedded model, and how a trained state becomes a checkpoint folder in the official layout."""

from collections.abc import Sequence
from pathlib import Path

import torch

from model.configuration_step_audio_2 import StepAudio2Config
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.tasks.asr import ASR
from model.tokens import TokenIds

HIDDEN_SIZE = 320
ENCODER = {"n_mels": 128, "n_audio_ctx": 1500, "n_audio_state": 256, "n_audio_head": 4, "n_audio_layer": 6}
DECODER = {
    "hidden_size": HIDDEN_SIZE, "intermediate_size": 768, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "rope_theta": 10_000.0, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}  # fmt: skip
ADAPTOR_WIDTH = 512
ALIGNMENT_HEADS = [[3, 1], [3, 0], [4, 2]]
"""Highest listening scores over 80 clips of the test voices, and smallest pointing errors.

The first two are the guided ones."""
_PAD_TO = 32


def nano_config(ids: TokenIds, vocabulary: int, trained_tasks: Sequence[str] = (ASR.name,)) -> StepAudio2Config:
    """Configuration for a tokenizer of `vocabulary` tokens whose control tokens are `ids`.

    `trained_tasks` names what the weights will have learned (`Task.name`): the app tells its visitors.
    """
    rows = -(-vocabulary // _PAD_TO) * _PAD_TO
    text = {**DECODER, "vocab_size": rows, "eos_token_id": ids.eot, "pad_token_id": ids.pad, "bos_token_id": None}
    config = StepAudio2Config(
        text_config=text,
        audio_encoder_config={**ENCODER, "llm_dim": HIDDEN_SIZE},
        adapter_hidden_size=ADAPTOR_WIDTH,
        audio_start_token_id=ids.audio_start,
        audio_patch_token_id=ids.audio_patch,
        tie_word_embeddings=True,
        alignment_heads=ALIGNMENT_HEADS,
        trained_tasks=list(trained_tasks),
    )
    config.eos_token_id, config.pad_token_id = ids.eot, ids.pad
    return config


def save_nano(model: StepAudio2ForCausalLM, folder: Path) -> None:
    """Write config and weights (float16 safetensors) beside the tokenizer that is already in `folder`."""
    half = {name: value.to(torch.float16) for name, value in model.state_dict().items() if name != "lm_head.weight"}
    model.save_pretrained(folder, state_dict=half)
