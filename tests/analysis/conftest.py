"""A random-weight model with its processor, small enough to be captured in milliseconds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.chat import Audio, Message, Text
from model.checkpoint import NANO_DIR, load_model
from model.configuration_step_audio_2 import StepAudio2Config
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from model.processing_step_audio_2 import StepAudio2Processor
from tests.model.conftest import build_tokenizer


@pytest.fixture(scope="session")
def tiny_loaded() -> SimpleNamespace:
    """What `load_model` returns, with random weights; shared, so a test that changes it must put things back."""
    processor = StepAudio2Processor(build_tokenizer())
    torch.manual_seed(11)
    text = {
        "vocab_size": len(processor.tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.4,
    }  # fmt: skip
    audio = {"n_audio_state": 32, "n_audio_head": 4, "n_audio_layer": 1, "llm_dim": 32}
    ids = {"audio_start_token_id": processor.ids.audio_start, "audio_patch_token_id": processor.ids.audio_patch}
    model = StepAudio2ForCausalLM(StepAudio2Config(text_config=text, audio_encoder_config=audio, **ids)).eval()
    for name, bias in model.named_parameters():
        if name.endswith("proj.bias"):  # drawn as zero, which would hide a forgotten bias
            torch.nn.init.normal_(bias, std=0.5)
    info = SimpleNamespace(name="tiny random model", revision="test", dtype="float32", device="cpu")
    return SimpleNamespace(model=model, processor=processor, info=info)


@pytest.fixture(scope="session")
def nano():
    """The embedded checkpoint, whatever it has learned so far; shared like the tiny one."""
    if not (NANO_DIR / "model.safetensors").exists():
        pytest.skip("model/nano/model.safetensors is not here: nano has to be trained first")
    return load_model("nano", device="cpu")


@pytest.fixture(scope="session")
def heard() -> tuple[Message, ...]:
    """A conversation with two recordings, one of them at another rate and over 25 s long."""
    rng = np.random.default_rng(3)
    short = Waveform((0.1 * rng.standard_normal(24_000)).astype(np.float32), INPUT_SAMPLE_RATE_HZ)
    long = Waveform((0.1 * rng.standard_normal(8000 * 26)).astype(np.float32), 8000)
    return (
        Message("system", (Text("Be brief."),)),
        Message("human", (Audio(short, "short.wav"), Text("and"), Audio(long, "long.wav"))),
        Message("assistant", closed=False),
    )
