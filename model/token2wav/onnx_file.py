"""ONNX files without the onnx package: the part of the format that weights and plain graphs need.

A file is a tree of protobuf messages. A message is a run of fields, a field is a key (number * 8 + kind) and a value:

    ModelProto   1 ir_version   7 graph        8 opset_import
    GraphProto   1 node *       5 initializer* 11 input *      12 output *
    NodeProto    1 input *      2 output *     3 name          4 op_type      5 attribute *
    TensorProto  1 dims *       2 data_type    8 name          9 raw_data     (or 4, 5, 7, 10: lists of numbers)

Nothing in a file is run; torch cannot write ONNX without two more packages, which is why this file does.

Source: onnx.proto (ONNX IR version 8) and the protobuf encoding guide.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.errors import CheckpointError

IR_VERSION, OPSET = 8, 17
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of value on the wire."""
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}
"""TensorProto.data_type -> numpy type."""
_NUMBERS = {np.dtype(kind): number for number, kind in DTYPES.items()}
_RAW, _LISTS = 9, {4: "<f4", 5: VARINT, 7: VARINT, 10: "<f8"}
_FLOAT, _INT, _INTS = 1, 2, 7
"""AttributeProto.type."""

Shape = Sequence[int | str]
"""Sizes, or names of sizes that are only known when the graph runs."""


@dataclass(frozen=True)
class OnnxNode:
    """One operation: its inputs are outputs of nodes before it, graph inputs or stored tensors."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = ""
    attributes: Mapping[str, int | float | tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """Nodes in an order in which they can run, and the stored tensors by name (read-only where read from a file)."""

    nodes: tuple[OnnxNode, ...]
    tensors: Mapping[str, np.ndarray]


# --- reading ------------------------------------------------------------------------------------------------------


def read_onnx(path: str | Path) -> OnnxGraph:
    """Read nodes and tensors; large tensors stay on disk until they are looked at.

    Attributes of other kinds than int, float and list of ints are left out.

    Raises:
        CheckpointError: If the file is missing, damaged, no ONNX, or keeps its tensors in another file.
    """
    try:
        return _read_model(memoryview(np.memmap(path, np.uint8, mode="r")))
    except (OSError, ValueError, IndexError, TypeError, KeyError, struct.error) as error:
        raise CheckpointError(
            f"read '{path}'",
            found=f"no complete ONNX file ({error or type(error).__name__})",
            expected="an ONNX file that holds its own tensors",
            todo="Check the path; if the file is there, download it again.",
        ) from error


def _read_model(data: memoryview) -> OnnxGraph:
    graphs = [value for number, value in _fields(data) if number == 7]
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs in it")
    parts = list(_fields(graphs[0]))
    nodes = tuple(_read_node(value) for number, value in parts if number == 1)
    return OnnxGraph(nodes, dict(_read_tensor(value) for number, value in parts if number == 5))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: a whole number, or the bytes of anything else."""
    place = 0
    while place < len(data):
        key, place = _varint_at(data, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _varint_at(data, place)
            yield key >> 3, value
            continue
        if kind == BYTES:
            size, place = _varint_at(data, place)
        else:
            size = {FIXED64: 8, FIXED32: 4}[kind]
        if place + size > len(data):
            raise ValueError("it ends in the middle of a field")
        yield key >> 3, data[place : place + size]
        place += size


def _varint_at(data: memoryview, place: int) -> tuple[int, int]:
    """Return the whole number that starts at a place, seven bits a byte, and the place after it."""
    value = shift = 0
    while shift < 70:
        byte = data[place]
        value |= (byte & 127) << shift
        shift, place = shift + 7, place + 1
        if byte < 128:
            return value - (1 << 64) if value >> 63 else value, place
    raise ValueError("a number of more than ten bytes")


def _varints(value: int | memoryview) -> list[int]:
    """Return the numbers of a repeated field, which is written one by one or packed."""
    if isinstance(value, int):
        return [value]
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint_at(value, place)
        numbers.append(number)
    return numbers


def _read_node(data: memoryview) -> OnnxNode:
    parts = list(_fields(data))
    inputs, outputs, names, ops = ([_text(value) for number, value in parts if number == k] for k in (1, 2, 3, 4))
    attributes = dict(_read_attribute(value) for number, value in parts if number == 5)
    attributes = {name: value for name, value in attributes.items() if value is not None}
    return OnnxNode(ops[0], tuple(inputs), tuple(outputs), names[0] if names else "", attributes)


def _read_attribute(data: memoryview) -> tuple[str, int | float | tuple[int, ...] | None]:
    parts = list(_fields(data))
    one = dict(parts)
    kind = one.get(20)
    values = {
        _FLOAT: lambda: struct.unpack("<f", one[2])[0],
        _INT: lambda: one.get(3, 0),
        _INTS: lambda: tuple(each for number, value in parts if number == 8 for each in _varints(value)),
    }
    return _text(one[1]), values[kind]() if kind in values else None


def _read_tensor(data: memoryview) -> tuple[str, np.ndarray]:
    parts = list(_fields(data))
    one = dict(parts)
    name, shape = _text(one[8]), [each for number, value in parts if number == 1 for each in _varints(value)]
    if one.get(14) == 1:
        raise ValueError(f"tensor {name!r} is kept in another file")
    if one.get(2) not in DTYPES:
        raise ValueError(f"tensor {name!r} has data type {one.get(2)}")
    kind = DTYPES[one[2]]
    if _RAW in one:
        values = np.frombuffer(one[_RAW], np.dtype(kind).newbyteorder("<"))
    else:
        values = _read_lists(parts, kind)
    if values.size != math.prod(shape):
        raise ValueError(f"tensor {name!r} of shape {shape} has {values.size} values")
    return name, values.reshape(shape)


def _read_lists(parts: list[tuple[int, int | memoryview]], kind: type) -> np.ndarray:
    """Return the values of a tensor that is stored as a list of numbers; half precision as its 16 bits."""
    for number, how in _LISTS.items():
        found = [value for each, value in parts if each == number]
        if found and how == VARINT:
            numbers = np.array([each for value in found for each in _varints(value)], np.int64)
            return numbers.astype(np.uint16).view(np.float16) if kind is np.float16 else numbers.astype(kind)
        if found:
            return np.frombuffer(b"".join(found), how).astype(kind)
    return np.zeros(0, kind)


def _text(value: int | memoryview) -> str:
    return bytes(value).decode("utf-8")


# --- writing ------------------------------------------------------------------------------------------------------


def write_onnx(
    path: str | Path,
    graph: OnnxGraph,
    *,
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    name: str = "graph",
) -> None:
    """Write a graph whose inputs and outputs are float32.

    Args:
        path: File to write.
        graph: Nodes in the order in which they run, and the tensors they use.
        inputs: What the caller gives, name -> shape.
        outputs: What the caller gets, name -> shape.
        name: Of the graph; shown by viewers.
    """
    parts = [_field(1, _node_bytes(node)) for node in graph.nodes]
    parts += [_field(2, name), *(_field(5, _tensor_bytes(key, value)) for key, value in graph.tensors.items())]
    parts += [_field(11, _value_bytes(key, shape)) for key, shape in inputs.items()]
    parts += [_field(12, _value_bytes(key, shape)) for key, shape in outputs.items()]
    model = [_field(1, IR_VERSION), _field(8, _field(2, OPSET)), _field(7, b"".join(parts))]
    Path(path).write_bytes(b"".join(model))


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """Return one field: ints as varint, floats as four bytes, the rest with its length in front."""
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | FIXED32) + struct.pack("<f", value)
    data = value.encode("utf-8") if isinstance(value, str) else value
    return _varint(number << 3 | BYTES) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # negative numbers are written as two's complement
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])


def _node_bytes(node: OnnxNode) -> bytes:
    parts = [_field(1, each) for each in node.inputs] + [_field(2, each) for each in node.outputs]
    parts += [_field(3, node.name), _field(4, node.op)]
    return b"".join(parts + [_field(5, _attribute_bytes(key, value)) for key, value in node.attributes.items()])


def _attribute_bytes(name: str, value: int | float | tuple[int, ...]) -> bytes:
    if isinstance(value, float):
        return _field(1, name) + _field(2, value) + _field(20, _FLOAT)
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, _INT)
    return _field(1, name) + b"".join(_field(8, each) for each in value) + _field(20, _INTS)


def _tensor_bytes(name: str, value: np.ndarray) -> bytes:
    dims = b"".join(_field(1, int(size)) for size in value.shape)
    raw = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
    return dims + _field(2, _NUMBERS[value.dtype]) + _field(8, name) + _field(_RAW, raw)


def _value_bytes(name: str, shape: Shape) -> bytes:
    """Describe a float32 graph input or output; a size may be a name."""
    sizes = b"".join(_field(1, _field(2, size) if isinstance(size, str) else _field(1, size)) for size in shape)
    tensor_type = _field(1, _NUMBERS[np.dtype(np.float32)]) + _field(2, sizes)
    return _field(1, name) + _field(2, _field(1, tensor_type))
