"""Weights of the official speech tokenizer, out of `speech_tokenizer_v2_25hz.onnx`.

The exporter threw most parameter names away (`onnx::MatMul_2228`), but each operation still says where it came from:

    MatMul  /blocks.0/attn/query/MatMul        uses onnx::MatMul_2228  -> encoder.blocks.0.attn.query.weight, turned
    Add     /blocks.0/attn/query/Add           uses onnx::Add_2227     -> encoder.blocks.0.attn.query.bias
    Conv    /blocks.0/attn/fsmn_block/Conv                             -> encoder.blocks.0.attn.fsmn_block.weight
    Conv, Conv, MatMul and Add outside the blocks, in this order       -> encoder.conv1, .conv2, quantizer

Source: S3Tokenizer (Apache-2.0), how its converter finds the names; file names and numbers of the official checkpoint.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.errors import CheckpointError
from model.token2wav.onnx_file import OnnxGraph, OnnxNode, read_onnx

OFFICIAL_FILE = "speech_tokenizer_v2_25hz.onnx"
PROJECTION = "quantizer._codebook.project_down"
_BLOCK = re.compile(r"(?:^|/)blocks\.(\d+)/(.+)/[^/]+$")
_ROLES = {
    "Conv": ("weight", "bias"),
    "LayerNormalization": ("weight", "bias"),
    "MatMul": ("weight",),
    "Add": ("bias",),
}
"""Operation -> what its stored inputs are, in order."""
_BLOCK_PARTS = (
    *(f"attn.{part}" for part in ("query.weight", "query.bias", "key.weight", "value.weight", "value.bias")),
    *(f"attn.{part}" for part in ("out.weight", "out.bias", "fsmn_block.weight")),
    *(f"{part}.{role}" for part in ("attn_ln", "mlp.0", "mlp.2", "mlp_ln") for role in ("weight", "bias")),
)


def load_onnx_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the parameters of a speech tokenizer, official name -> float32 tensor, as `load_state_dict` wants them.

    Raises:
        CheckpointError: If the file cannot be read, or does not hold such a tokenizer (the missing parts are named).
    """
    graph = _without_aliases(read_onnx(path))
    found = {**_of_blocks(graph), **_of_convolutions(graph), **_of_quantiser(graph)}
    wanted = _wanted(found)
    missing = [name for name in wanted if name not in found]
    if missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise CheckpointError(
            f"read the speech tokenizer out of '{path}'",
            found=f"{len(graph.tensors)} tensors, but nothing for {listed}",
            expected=f"the weights of an S3 tokenizer version 2, as in {OFFICIAL_FILE}",
            todo="Give the path of that file; files that were simplified or quantised afterwards cannot be read.",
        )
    return {
        name: torch.from_numpy(np.array(value, np.float32, order="C"))
        for name, value in found.items()
        if name in wanted
    }


def _without_aliases(graph: OnnxGraph) -> OnnxGraph:
    """Give a tensor its second name, too, where the exporter stored two equal ones only once."""
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        if node.op == "Identity" and node.inputs[0] in tensors:
            tensors[node.outputs[0]] = tensors[node.inputs[0]]
    return OnnxGraph(graph.nodes, tensors)


def _of_blocks(graph: OnnxGraph) -> dict[str, np.ndarray]:
    found = {}
    for node in graph.nodes:
        module, roles = _block_module(node), _ROLES.get(node.op, ())
        for role, value in zip(roles, _stored(node, graph), strict=False) if module else ():
            found[f"{module}.{role}"] = value.T if node.op == "MatMul" else value
    return found


def _of_convolutions(graph: OnnxGraph) -> dict[str, np.ndarray]:
    """Return the two convolutions in front: the only ones outside the blocks."""
    nodes = [node for node in graph.nodes if node.op == "Conv" and not _block_module(node)]
    return {
        f"{module}.{role}": value
        for module, node in zip(("encoder.conv1", "encoder.conv2"), nodes, strict=False)
        for role, value in zip(_ROLES["Conv"], _stored(node, graph), strict=False)
    }


def _of_quantiser(graph: OnnxGraph) -> dict[str, np.ndarray]:
    """Return the projection to digits: the matrix outside the blocks, and the vector of its width that is added."""
    outside = [node for node in graph.nodes if not _block_module(node)]
    weights, vectors = ([v for n in outside if n.op == op for v in _stored(n, graph)] for op in ("MatMul", "Add"))
    weights = [value for value in weights if value.ndim == 2]
    biases = [value for value in vectors if weights and value.shape == weights[0].shape[1:]]
    found = {f"{PROJECTION}.weight": weights[0].T} if weights else {}
    return found | ({f"{PROJECTION}.bias": biases[0]} if biases else {})


def _stored(node: OnnxNode, graph: OnnxGraph) -> list[np.ndarray]:
    """Return the stored float tensors that a node uses, constants of the arithmetic (single numbers) left out."""
    tensors = [graph.tensors[name] for name in node.inputs if name in graph.tensors]
    return [value for value in tensors if value.ndim and value.dtype.kind == "f"]


def _block_module(node: OnnxNode) -> str:
    """Return the official name of the module in a block that a node came from, or nothing outside the blocks.

    The path repeats the name of a sequence in front of its members: `mlp/mlp.0` is `mlp.0`.
    """
    match = _BLOCK.search(node.name)
    if not match:
        return ""
    parts = match[2].split("/")
    kept = [part for part, after in zip(parts, [*parts[1:], ""]) if not after.startswith(f"{part}.")]
    return f"encoder.blocks.{match[1]}.{'.'.join(kept)}"


def _wanted(found: dict[str, np.ndarray]) -> list[str]:
    """List the parameters of a tokenizer with as many blocks as were found."""
    blocks = [int(name.split(".")[2]) for name in found if name.startswith("encoder.blocks.")]
    outer = [f"{name}.{role}" for name in ("encoder.conv1", "encoder.conv2", PROJECTION) for role in ("weight", "bias")]
    return outer + [f"encoder.blocks.{k}.{part}" for k in range(max(blocks, default=0) + 1) for part in _BLOCK_PARTS]
