"""Write a small voice to disk, in the official layout and in ours, with the same weights."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
import yaml

from model.token2wav.loading import FLOW, TOKENIZER, VOCODER, save_part
from model.token2wav.onnx_file import OnnxGraph, OnnxNode, write_onnx
from tests.small_voice import CONFIG, build_parts, save_speaker


def write_official(folder: Path) -> Path:
    """Write flow.yaml, flow.pt, hift.pt, the tokenizer as ONNX and the speaker network."""
    folder.mkdir(parents=True)
    weights = {part: network.state_dict() for part, network in build_parts().items()}
    torch.save(weights["flow"], folder / "flow.pt")
    torch.save({f"generator.{name}": value for name, value in weights["vocoder"].items()}, folder / "hift.pt")
    write_tokenizer(folder / "speech_tokenizer_v2_25hz.onnx", weights["tokenizer"])
    save_speaker(folder / "campplus.onnx")
    # An official file has the flow only; the sizes of the others are mini's, which no test can afford.
    sizes = {name: plain(getattr(CONFIG, name)) for name in ("flow", "hift", "tokenizer")}
    text = yaml.safe_dump(sizes).replace("flow:\n", "flow: !new:stepaudio2.flow.CausalMaskedDiffWithXvec\n", 1)
    (folder / "flow.yaml").write_text(text, encoding="utf-8")
    return folder


def write_ours(folder: Path) -> Path:
    """Write safetensors, the speaker network and token2wav.json."""
    folder.mkdir(parents=True)
    for part, network in zip((FLOW, VOCODER, TOKENIZER), build_parts().values()):
        save_part(folder, part, network.state_dict())
    save_speaker(folder / "speaker.onnx")
    CONFIG.save(folder)
    return folder


def plain(record) -> dict:
    """Return a record of sizes as YAML can hold it."""
    values = dataclasses.asdict(record)

    def listed(value):
        if isinstance(value, dict):
            return {name: listed(each) for name, each in value.items()}
        return [listed(each) for each in value] if isinstance(value, tuple) else value

    return listed(values)


def write_tokenizer(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write the weights of a speech tokenizer as the official exporter does: turned matrices without their names."""
    tensors, nodes = {}, []

    def use(op, module, path):
        roles = {"MatMul": ["weight"], "Add": ["bias"]}.get(op, ["weight", "bias"])
        stored = []
        for role in roles:
            value = weights.get(f"{module}.{role}")
            if value is not None:
                stored.append(f"onnx::{op}_{len(tensors)}")
                tensors[stored[-1]] = np.ascontiguousarray(value.numpy().T if op == "MatMul" else value.numpy())
        nodes.append(OnnxNode(op, ("x", *stored), (f"y{len(nodes)}",), path))

    def linear(module, path):
        use("MatMul", module, f"{path}/MatMul")
        use("Add", module, f"{path}/Add")

    for conv in ("conv1", "conv2"):
        use("Conv", f"encoder.{conv}", f"/{conv}/Conv")
    for k in range(CONFIG.tokenizer.n_audio_layer):
        block, place = f"encoder.blocks.{k}", f"/blocks.{k}"
        for norm in ("attn_ln", "mlp_ln"):
            use("LayerNormalization", f"{block}.{norm}", f"{place}/{norm}/LayerNormalization")
        for part in ("query", "key", "value", "out"):
            linear(f"{block}.attn.{part}", f"{place}/attn/{part}")
        use("Conv", f"{block}.attn.fsmn_block", f"{place}/attn/fsmn_block/Conv")
        for part in ("mlp.0", "mlp.2"):
            linear(f"{block}.{part}", f"{place}/mlp/{part}")
    linear("quantizer._codebook.project_down", "/quantizer/project_in")
    write_onnx(path, OnnxGraph(tuple(nodes), tensors), inputs={"x": (1, 128, "T")}, outputs={"codes": (1, "T")})
