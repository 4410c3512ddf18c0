"""A model with random weights that spells with the small tokenizer, as `load_model` would return one."""

from types import SimpleNamespace

import torch

from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor
from tests.small_model import small_config


def build_local(tokenizer, seed=0, *, has_voice=False, token2wav=None):
    """Return a loaded model of random weights whose vocabulary is that of the tokenizer."""
    processor = StepAudio2Processor(tokenizer)
    config = small_config(
        audio_start_token_id=processor.ids.audio_start, audio_patch_token_id=processor.ids.audio_patch
    )
    config.text_config.vocab_size = len(tokenizer)
    torch.manual_seed(seed)
    model = StepAudio2ForCausalLM(config).eval()
    info = SimpleNamespace(name="small", revision="r", device="cpu", dtype="float32")
    return SimpleNamespace(model=model, processor=processor, info=info, has_voice=has_voice, token2wav=token2wav)
