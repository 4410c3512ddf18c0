"""ONNX files are read and written without the onnx package, checked against onnxruntime and torch's exporter."""

import struct

import numpy as np
import pytest
import torch

from model.errors import CheckpointError
from model.token2wav.onnx_file import OnnxGraph, OnnxNode, read_onnx, write_onnx
from model.token2wav.onnx_weights import load_onnx_weights
from tests.golden_recipe import draw_state_dict, read_json, read_speech_tokenizer

WEIGHTS = draw_state_dict(read_json("tiny_shapes.json.gz")["s3tokenizer"])


def official_graph(weights, *, drop=()):
    """Return a graph that holds weights the way the official file does: turned matrices, names that say nothing."""
    tensors, nodes = {}, []

    def use(op, module, roles, name):
        stored = []
        for role in roles:
            key = f"{module}.{role}"
            if key in weights and key not in drop:
                value = weights[key].numpy()
                stored.append(f"onnx::{op}_{2216 + len(tensors)}")
                tensors[stored[-1]] = np.ascontiguousarray(value.T if op == "MatMul" else value)
        inputs = (*stored, "x") if op == "Add" else ("x", *stored)
        nodes.append(OnnxNode(op, inputs, (f"y{len(nodes)}",), name))

    def linear(module, path):
        use("MatMul", module, ["weight"], f"{path}/MatMul")
        use("Add", module, ["bias"], f"{path}/Add")

    for conv in ("conv1", "conv2"):
        use("Conv", f"encoder.{conv}", ["weight", "bias"], f"/{conv}/Conv")
    for k in range(2):
        block, path = f"encoder.blocks.{k}", f"/blocks.{k}"
        use("LayerNormalization", f"{block}.attn_ln", ["weight", "bias"], f"{path}/attn_ln/LayerNormalization")
        for part in ("query", "key", "value", "out"):
            linear(f"{block}.attn.{part}", f"{path}/attn/{part}")
        use("Conv", f"{block}.attn.fsmn_block", ["weight"], f"{path}/attn/fsmn_block/Conv")
        use("LayerNormalization", f"{block}.mlp_ln", ["weight", "bias"], f"{path}/mlp_ln/LayerNormalization")
        for part in ("mlp.0", "mlp.2"):
            linear(f"{block}.{part}", f"{path}/mlp/{part}")
    linear("quantizer._codebook.project_down", "/quantizer/project_in")
    tensors["one"] = np.array(1, np.float32)
    nodes.append(OnnxNode("Add", ("y", "one"), ("codes",), "/quantizer/Add_1"))
    return OnnxGraph(tuple(nodes), tensors)


def save(path, graph):
    write_onnx(path, graph, inputs={"feats": (1, 128, "T")}, outputs={"codes": (1, "T")})
    return path


# --- the speech tokenizer ---


def test_official_layout_gives_the_official_names(tmp_path):
    found = load_onnx_weights(save(tmp_path / "tokenizer.onnx", official_graph(WEIGHTS)))
    assert set(found) == set(WEIGHTS)
    assert all(torch.equal(found[name], WEIGHTS[name]) and found[name].is_contiguous() for name in WEIGHTS)


def test_weights_that_were_read_make_the_same_codes(tmp_path):
    tokenizer = read_speech_tokenizer()
    mels, lens = torch.randn(1, 128, 90), torch.tensor([90])
    expected = tokenizer(mels, lens)[0]
    torch.nn.init.zeros_(tokenizer.encoder.conv2.weight)
    tokenizer.load_state_dict(load_onnx_weights(save(tmp_path / "tokenizer.onnx", official_graph(WEIGHTS))))
    assert torch.equal(tokenizer(mels, lens)[0], expected)


@pytest.mark.filterwarnings("ignore")
def test_a_file_by_the_exporter_of_torch_is_read(tmp_path, monkeypatch):
    """Its last step only adds custom functions, for which it wants a package; there are none here."""
    exporter = pytest.importorskip("torch.onnx._internal.torchscript_exporter.onnx_proto_utils")
    monkeypatch.setattr(exporter, "_add_onnxscript_fn", lambda data, _: data, raising=False)
    inputs = torch.randn(1, 128, 40), torch.tensor([40])
    torch.onnx.export(read_speech_tokenizer(), inputs, tmp_path / "tokenizer.onnx", dynamo=False, opset_version=17)
    found = load_onnx_weights(tmp_path / "tokenizer.onnx")
    assert set(found) == set(WEIGHTS) and all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


def test_a_tensor_that_was_stored_once_for_two_is_found(tmp_path):
    graph = official_graph(WEIGHTS)
    norm = next(node for node in graph.nodes if node.name == "/blocks.1/mlp_ln/LayerNormalization")
    again = OnnxNode("Identity", (norm.inputs[1],), ("alias",), "Identity_1")
    nodes = [OnnxNode(n.op, ("x", "alias", n.inputs[2]), n.outputs, n.name) if n is norm else n for n in graph.nodes]
    found = load_onnx_weights(save(tmp_path / "a.onnx", OnnxGraph((again, *nodes), graph.tensors)))
    assert torch.equal(found["encoder.blocks.1.mlp_ln.weight"], WEIGHTS["encoder.blocks.1.mlp_ln.weight"])


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_a_missing_part_is_named(tmp_path, name):
    path = save(tmp_path / "tokenizer.onnx", official_graph(WEIGHTS, drop={name}))
    with pytest.raises(CheckpointError, match=r"nothing for (encoder|quantizer)\."):
        load_onnx_weights(path)


def test_another_network_is_refused(tmp_path):
    path = save(tmp_path / "other.onnx", OnnxGraph((OnnxNode("Relu", ("feats",), ("codes",)),), {}))
    with pytest.raises(CheckpointError, match="and 17 more"):
        load_onnx_weights(path)


# --- files ---


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64, np.int64, np.int32, np.uint8, np.bool_])
def test_tensors_of_every_type_come_back(tmp_path, kind):
    tensors = {"a": np.arange(-3, 3).reshape(2, 3).astype(kind), "nothing": np.zeros((0, 4), kind)}
    found = read_onnx(save(tmp_path / "a.onnx", OnnxGraph((), tensors))).tensors
    assert {name: (v.dtype, v.shape, v.tolist()) for name, v in found.items()} == {
        name: (v.dtype, v.shape, v.tolist()) for name, v in tensors.items()
    }


def test_nodes_come_back(tmp_path):
    attributes = {"pads": (2, 2), "axis": -1, "epsilon": 0.5, "none": ()}
    nodes = (OnnxNode("Conv", ("x", "w"), ("y",), "/a/Conv", attributes), OnnxNode("Relu", ("y",), ("z",)))
    assert read_onnx(save(tmp_path / "a.onnx", OnnxGraph(nodes, {}))).nodes == nodes


def test_onnxruntime_reads_ours_and_we_read_what_it_wrote(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    weight = np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)
    graph = OnnxGraph((OnnxNode("MatMul", ("x", "w"), ("y",), "/a/MatMul"),), {"w": weight})
    write_onnx(tmp_path / "ours.onnx", graph, inputs={"x": ("n", 3)}, outputs={"y": ("n", 4)})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "theirs.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "ours.onnx", options, providers=["CPUExecutionProvider"])
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weight, rtol=0, atol=1e-5)
    theirs = read_onnx(tmp_path / "theirs.onnx")
    assert [node.op for node in theirs.nodes] == ["MatMul"]
    np.testing.assert_array_equal(theirs.tensors["w"], weight)


def message(*fields):
    """Encode fields (number, bytes or small int) by hand, so that the reader is not only tested with our writer."""
    out = b""
    for number, value in fields:
        out += bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value
    return out


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (message((1, 2), (2, 1), (4, struct.pack("<2f", 1.5, -2)), (8, b"t")), [1.5, -2.0]),
        (message((1, 3), (2, 7), (7, bytes([1, 0, 0xAC, 0x02])), (8, b"t")), [1, 0, 300]),
        (message((1, b"\x01\x02"), (2, 11), (10, struct.pack("<2d", 1, 2)), (8, b"t")), [[1.0, 2.0]]),
        (message((1, 1), (2, 10), (5, b"\x80\x78"), (8, b"t")), [1.0]),
    ],
    ids=["float_data", "int64_data", "double_data", "float16 in int32_data"],
)
def test_tensors_as_lists_of_numbers_are_read(tmp_path, tensor, expected):
    path = tmp_path / "a.onnx"
    path.write_bytes(message((1, 8), (7, message((5, tensor)))))
    assert read_onnx(path).tensors["t"].tolist() == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no complete ONNX file"),
        (b"<html>not found</html>", "no complete ONNX file"),
        (message((1, 8)), "0 graphs"),
        (message((7, message((5, message((1, 2), (2, 1), (8, b"t"), (9, b"1234")))))), "has 1 values"),
        (message((7, message((5, message((2, 1), (8, b"t"), (14, 1)))))), "kept in another file"),
        (message((7, message((5, message((2, 8), (8, b"t")))))), "data type 8"),
        (message((7, b"\xff" * 12)), "more than ten bytes"),
    ],
)
def test_damaged_files_are_refused_in_words(tmp_path, content, words):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_onnx(path)


def test_a_file_cut_short_anywhere_is_refused_or_incomplete(tmp_path):
    whole = save(tmp_path / "a.onnx", official_graph(WEIGHTS)).read_bytes()
    for size in np.linspace(1, len(whole) - 1, 25).astype(int):
        (tmp_path / "cut.onnx").write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            load_onnx_weights(tmp_path / "cut.onnx")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.onnx"):
        load_onnx_weights(tmp_path / "nowhere.onnx")
