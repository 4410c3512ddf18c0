"""A voice decoder of nano's kind, small enough for tests: 729 codes, random weights drawn by name."""

import functools
from pathlib import Path

import numpy as np
import torch

from model.audio import Waveform
from model.checkpoint import syllables
from model.token2wav.config import (
    EstimatorConfig,
    FlowConfig,
    FlowDecoderConfig,
    FlowEncoderConfig,
    HiftConfig,
    Token2WavConfig,
    TokenizerConfig,
)
from model.token2wav.flow import Flow
from model.token2wav.hift import HiFT
from model.token2wav.s3_tokenizer import SpeechTokenizer
from model.token2wav.speaker import SpeakerEncoder, SpeakerNet, export_onnx
from model.token2wav.token2wav import Token2Wav
from model.token2wav.voice import Voice, VoiceMaker
from tests.golden_recipe import draw_state_dict

N_CODES = 729
CONFIG = Token2WavConfig(
    flow=FlowConfig(
        input_size=32,
        vocab_size=N_CODES,
        encoder=FlowEncoderConfig(
            input_size=32, output_size=32, num_blocks=1, num_up_blocks=1, attention_heads=2, linear_units=32
        ),
        decoder=FlowDecoderConfig(estimator=EstimatorConfig(depth=2, num_heads=2, head_dim=16, hidden_size=32)),
    ),
    hift=HiftConfig(base_channels=16, f0_cond_channels=16),
    tokenizer=TokenizerConfig(n_audio_state=32, n_audio_head=2, n_audio_layer=1, fsq_digits=6),
)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """Give a network the weights that belong to its names."""
    module.load_state_dict(draw_state_dict({name: tuple(x.shape) for name, x in module.state_dict().items()}))
    return module.eval()


def build_parts(config: Token2WavConfig = CONFIG) -> dict[str, torch.nn.Module]:
    """Return flow, vocoder and tokenizer."""
    networks = Flow(config.flow), HiFT(config.hift), SpeechTokenizer(config.tokenizer)
    return dict(zip(("flow", "vocoder", "tokenizer"), map(drawn, networks)))


def save_speaker(path: Path) -> Path:
    """Write a speaker network with random weights."""
    torch.manual_seed(0)
    export_onnx(SpeakerNet(width=8).eval(), path)
    return path


def build_token2wav(speaker: Path | None = None, **options) -> Token2Wav:
    """Return everything; without the path of a speaker network it makes no voices."""
    parts = build_parts()
    maker = VoiceMaker(parts["tokenizer"], SpeakerEncoder(speaker)) if speaker else None
    return Token2Wav(CONFIG, parts["flow"], parts["vocoder"].fold(), maker=maker, **options)


@functools.cache
def build_voice(seed: int = 0, n_codes: int = 8) -> Voice:
    """Return an invented voice."""
    rng = np.random.default_rng([seed, 77])
    mel = rng.standard_normal((80, 2 * n_codes)).astype(np.float32) - 4
    speaker = rng.standard_normal(192).astype(np.float32)
    codes = rng.integers(0, N_CODES, n_codes)
    return Voice(f"invented {seed}", *(torch.from_numpy(each) for each in (codes, mel, speaker)))


def random_codes(n: int, seed: int = 0) -> list[int]:
    """Return codes of the small codebook."""
    return np.random.default_rng([seed, 78]).integers(0, N_CODES, n).tolist()


def recording(seconds: float = 3.2, rate_hz: int = 24_000) -> Waveform:
    """Return a sound that passes for a recording of a voice."""
    return syllables(seconds, rate_hz)
