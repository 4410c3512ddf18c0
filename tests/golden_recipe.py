"""Draw the weights and inputs of the golden set again from their names (see tests/golden).

Every tensor is `numpy.random.default_rng([seed, crc32(name)])`, scaled by a rule that depends on the name only. The
values were computed once with the official code; agreement proves arithmetic, names and bookkeeping, not quality.
"""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN_DIR = Path(__file__).parent / "golden"
SEED = 2507


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the standard normal float64 array that belongs to a name."""
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode("utf-8"))])
    return rng.standard_normal(tuple(shape))


def _resolve_rule(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return (offset, scale) of the first rule that applies to a tensor name."""
    fan = int(np.prod(shape[1:]))
    if name == "f0_predictor.classifier.weight":
        return 0.0, 120 / np.sqrt(fan)
    if name == "f0_predictor.classifier.bias":
        return 40.0, 0.02
    if name == "m_source.l_linear.weight":
        return 0.0, 0.1
    if name.endswith(("embed_tokens.weight", "input_embedding.weight", "positional_embedding.weight")):
        return 0.0, 0.02
    if name.endswith(".original0") and "resblocks." in name:
        return 0.4, 0.04
    if name.endswith((".original0", ".alpha")) or (len(shape) == 1 and name.endswith(".weight")):
        return 1.0, 0.1
    return (0.0, 0.02) if len(shape) == 1 else (0.0, 1 / np.sqrt(fan))


def draw_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the float32 recipe value of one entry of a state dict."""
    offset, scale = _resolve_rule(name, shape)
    return torch.from_numpy((offset + scale * draw(name, shape)).astype(np.float32))


def draw_state_dict(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Return recipe weights for a whole module, tensor name -> float32 tensor."""
    return {name: draw_weight(name, tuple(shape)) for name, shape in shapes.items()}


def read_json(name: str) -> dict:
    """Read a JSON file of the golden folder, gzipped or not."""
    path = GOLDEN_DIR / name
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        return json.load(file)


def read_arrays(name: str) -> dict[str, np.ndarray]:
    """Read an array file of the golden folder, array name -> array."""
    with np.load(GOLDEN_DIR / name) as arrays:
        return {key: arrays[key] for key in arrays.files}


def to_float_wave(samples: np.ndarray) -> np.ndarray:
    """Return a stored int16 wave as float32 in [-1, 1)."""
    return (samples / 32768.0).astype(np.float32)


def read_mels(clips: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return stored mels padded to one batch, [clip, 128, T], and their valid frames (frames - 2), [clip]."""
    stored = read_arrays("frontend.npz")
    mels = [torch.from_numpy(stored[f"mel__{name}"]) for name in clips]
    longest = max(mel.shape[1] for mel in mels)
    padded = [torch.nn.functional.pad(mel, (0, longest - mel.shape[1])) for mel in mels]
    return torch.stack(padded), torch.tensor([mel.shape[1] - 2 for mel in mels], dtype=torch.int32)


def read_prompt(case: str) -> dict[str, torch.Tensor]:
    """Return the model inputs of one decoder case: ids, mask and, where it has clips, wavs and wav_lens."""
    arrays = read_arrays("lm.npz")
    names = ("input_ids", "attention_mask")
    prompt = {name: torch.from_numpy(arrays[f"{case}__{name}"]).long() for name in names}
    clips = read_json("cases.json")["lm"]["cases"][case]["clips"]
    return prompt | (dict(zip(("wavs", "wav_lens"), read_mels(clips), strict=True)) if clips else {})


def draw_long_mel() -> torch.Tensor:
    """Return the log-mel of the speech tokenizer's long case, float32 [128, 3140]."""
    case = read_json("cases.json")["s3tokenizer"]
    return torch.from_numpy((0.3 * draw(case["long_name"], (1, 128, case["long_frames"])))[0].astype(np.float32))


def read_speech_tokenizer():
    """Return the tiny speech tokenizer of the golden set, with its weights, ready to encode."""
    from model.token2wav.config import TokenizerConfig
    from model.token2wav.s3_tokenizer import SpeechTokenizer

    tokenizer = SpeechTokenizer(TokenizerConfig.from_dict(read_json("token2wav_config.json")["s3tokenizer"]))
    tokenizer.load_state_dict(draw_state_dict(read_json("tiny_shapes.json.gz")["s3tokenizer"]))
    return tokenizer.eval()


def build_flow():
    """Return the tiny flow with the weights of the recipe; float32, CPU."""
    from model.token2wav.config import FlowConfig
    from model.token2wav.flow import Flow

    flow = Flow(FlowConfig.from_dict(read_json("token2wav_config.json")["flow"]))
    flow.load_state_dict(draw_state_dict(read_json("tiny_shapes.json.gz")["flow"]))
    return flow.eval()


def read_flow_inputs() -> dict[str, torch.Tensor]:
    """Return what the flow cases start from: codes, the voice under the names of `Flow.start`, and noise."""
    stored, frames = read_arrays("flow.npz"), read_json("cases.json")["flow"]["noise_frames"]
    mel = torch.from_numpy(draw("flow.prompt_mel", (1, 24, 80)) - 4).float()
    return {
        "codes": torch.from_numpy(stored["tokens"]),
        "prompt_codes": torch.from_numpy(stored["prompt_tokens"]),
        "prompt_mel": mel.transpose(1, 2),
        "speaker": torch.from_numpy(draw("flow.spk", (1, 192))).float(),
        "noise": torch.from_numpy(draw("flow.rand_noise", (1, 80, frames))).float(),
    }


def draw_vocoder_inputs() -> dict[str, torch.Tensor]:
    """Return the vocoder's inputs: mels `mel`, `stream_mel`, `loud_mel` [1, 80, T] and `sine_noise` [time, 9]."""
    sizes = {"mel.7": (1, 80, 26), "stream_mel": (1, 80, 47), "loud_mel": (1, 80, 6), "sine_noise": (1, 12480, 9)}
    mel, stream, loud, noise = (draw(f"hift.{name}", shape) for name, shape in sizes.items())
    inputs = {"mel": mel - 4, "stream_mel": stream - 4, "loud_mel": 30 * loud, "sine_noise": noise[0]}
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in inputs.items()}


def read_vocoder(**sizes):
    """Return the tiny vocoder of the golden set, with its weights, ready to run; `sizes` replace some of its own."""
    from model.token2wav.config import HiftConfig
    from model.token2wav.hift import HiFT

    vocoder = HiFT(HiftConfig.from_dict(read_json("token2wav_config.json")["hift"] | sizes))
    vocoder.load_state_dict(draw_state_dict(read_json("tiny_shapes.json.gz")["hift"]))
    return vocoder.eval()
