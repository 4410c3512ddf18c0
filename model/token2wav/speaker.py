"""Who speaks: one vector of 192 numbers for a recording, from any network that keeps CAM++'s interface.

    Waveform --speaker_features--> [clip, frame, 80] --onnxruntime: campplus.onnx or nano's own file--> [clip, 192]

`SpeakerEncoder` runs the file, whoever made it. `SpeakerNet` is the small network that nano trains; `export_onnx`
writes it as such a file, operation by operation, so that neither torch nor the onnx package is needed to run it.

Source: x-vectors (Snyder et al., 2018) with residual layers; CAM++ (Wang et al., 2023) for the interface.
"""

import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.errors import AudioError, CheckpointError
from model.token2wav.features import N_BINS, speaker_features
from model.token2wav.onnx_file import OnnxGraph, OnnxNode, write_onnx

N_SPEAKER = 192
"""Numbers that describe a voice."""
VARIANCE_FLOOR = 1e-5


class SpeakerEncoder:
    """A speaker network in an ONNX file, run by onnxruntime on the CPU.

    Safe to share between threads: a session has a single thread of its own by default, and callers take turns. A copy
    sent to another process opens the file again there, because a session cannot cross that border.

    Args:
        path: `campplus.onnx`, or what `export_onnx` wrote.
        n_threads: Threads of one run; more than one only helps with nothing else to do.

    Raises:
        CheckpointError: If onnxruntime is not installed, or the file is no speaker network.
    """

    def __init__(self, path: str | Path, *, n_threads: int = 1):
        self.path, self.n_threads = Path(path), n_threads
        self._turn = threading.Lock()
        self._session = _open(self.path, n_threads)
        self._input = self._session.get_inputs()[0].name

    def __reduce__(self) -> tuple:
        return _reopen, (self.path, self.n_threads)

    def __call__(self, fbank: Tensor | np.ndarray) -> Tensor:
        """Return the voice of centred filter banks, [frame, 80] or [clip, frame, 80], as float32 [clip, 192].

        Raises:
            AudioError: If the shape is another one or there is no frame.
        """
        features = np.ascontiguousarray(torch.as_tensor(fbank).detach().cpu().float().numpy())
        features = features[None] if features.ndim == 2 else features
        if features.ndim != 3 or features.shape[2] != N_BINS or not features.shape[1]:
            raise AudioError(
                "describe a voice",
                found=f"features of shape {features.shape}",
                expected=f"[clip, frame, {N_BINS}] with at least one frame",
                todo="Use `speaker_features` on a 16 kHz sound.",
            )
        with self._turn:
            voice = self._session.run(None, {self._input: features})[0]
        return torch.from_numpy(voice).reshape(len(features), -1)

    def embed(self, waveform: Waveform) -> Tensor:
        """Return the voice of a recording of any rate, float32 [1, 192], not normalised.

        Raises:
            AudioError: If the recording is shorter than 25 ms.
        """
        return self(speaker_features(waveform.resample(INPUT_SAMPLE_RATE_HZ)))


def _reopen(path: Path, n_threads: int) -> SpeakerEncoder:
    return SpeakerEncoder(path, n_threads=n_threads)


def _open(path: Path, n_threads: int):
    """Return a checked onnxruntime session with few threads that sleep when idle."""
    tried = f"open the speaker network '{path}'"
    try:
        import onnxruntime
    except ImportError as error:
        todo, expected = "Run `pip install onnxruntime`.", "the package onnxruntime"
        raise CheckpointError(tried, found="no onnxruntime", expected=expected, todo=todo) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    options.log_severity_level = 3  # warnings about constant folding mean nothing to a reader
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class for what a bad file raises
        found, todo = f"a file that onnxruntime does not take ({_first_line(error)})", "Download the file again."
        raise CheckpointError(tried, found=found, expected="a readable ONNX network", todo=todo) from error
    inputs, outputs = ([each.shape for each in ends] for ends in (session.get_inputs(), session.get_outputs()))
    if len(inputs) != 1 or not _may_be(inputs[0], 3, N_BINS) or not _may_be(outputs[0], 2, N_SPEAKER):
        expected = f"one input [clip, frame, {N_BINS}] and the output [clip, {N_SPEAKER}]"
        found, todo = f"inputs {inputs} and outputs {outputs}", "Give campplus.onnx or nano's speaker file."
        raise CheckpointError(tried, found=found, expected=expected, todo=todo)
    return session


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _may_be(shape: list, n_axes: int, last: int) -> bool:
    """Tell whether a declared shape, in which anything but a number is a size yet unknown, can end in `last`."""
    return not shape or (len(shape) == n_axes and (shape[-1] == last or not isinstance(shape[-1], int)))


class SpeakerNet(nn.Module):
    """A small x-vector network: convolutions over time, mean and spread over the clip, one linear layer.

    A frame sees 11 more to each side (0.24 s in all); everything longer is in the statistics. 0.33 M parameters. Train
    it on crops of one length: batch norm counts padding, too.

    Args:
        width: Channels of the frame layers.
        n_out: Size of the voice vector.
    """

    DILATIONS = (2, 3, 4)

    def __init__(self, width: int = 128, n_out: int = N_SPEAKER):
        super().__init__()
        self.front = FrameLayer(N_BINS, width, 5, 1)
        self.middle = nn.ModuleList(FrameLayer(width, width, 3, dilation) for dilation in self.DILATIONS)
        self.wide = FrameLayer(width, 2 * width, 1, 1)
        self.project = nn.Linear(4 * width, n_out)
        self.norm = nn.BatchNorm1d(n_out, affine=False)

    def forward(self, fbank: Tensor, lens: Tensor | None = None) -> Tensor:
        """Describe the voices of a batch.

        Args:
            fbank: Centred filter banks, [clip, frame, 80], see `speaker_features`.
            lens: Valid frames of each clip, [clip]; None if all are. What lies beyond has no influence.

        Returns:
            [clip, 192], not normalised to unit length.
        """
        frames = torch.arange(fbank.shape[1], device=fbank.device)
        valid = torch.ones_like(fbank[..., 0]) if lens is None else (frames < lens[:, None]).to(fbank.dtype)
        valid = valid[:, None]
        x = self.front(fbank.transpose(1, 2) * valid) * valid
        for layer in self.middle:
            x = (x + layer(x)) * valid
        return self.norm(self.project(pool_statistics(self.wide(x), valid)))


class FrameLayer(nn.Module):
    """Convolution over time that keeps the length, ReLU, batch norm."""

    def __init__(self, n_in: int, n_out: int, n_taps: int, dilation: int):
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, n_taps, dilation=dilation, padding=dilation * (n_taps // 2))
        self.norm = nn.BatchNorm1d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return [clip, channel, frame] again."""
        return self.norm(self.conv(x).relu())


def pool_statistics(x: Tensor, valid: Tensor) -> Tensor:
    """Return mean and standard deviation over the valid frames, [clip, channel, frame] -> [clip, 2 * channel].

    Args:
        x: Values of each frame.
        valid: 1 for real frames, 0 beyond the end, [clip, 1, frame].
    """
    count = valid.sum(-1).clamp(min=1)
    mean = (x * valid).sum(-1) / count
    variance = ((x - mean[..., None]).square() * valid).sum(-1) / count
    return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1)


# --- export -------------------------------------------------------------------------------------------------------


def export_onnx(net: SpeakerNet, path: str | Path) -> None:
    """Write a speaker network in the state of evaluation as an ONNX file for `SpeakerEncoder`."""
    builder = _Builder(net)
    x = builder.add("Transpose", "input", perm=(0, 2, 1))
    x = builder.frame_layer(x, "front", net.front)
    for index, layer in enumerate(net.middle):
        x = builder.add("Add", x, builder.frame_layer(x, f"middle.{index}", layer))
    x = builder.frame_layer(x, "wide", net.wide)
    mean = builder.add("ReduceMean", x, axes=(2,), keepdims=1)
    centred = builder.add("Sub", x, mean)
    variance = builder.add("ReduceMean", builder.add("Mul", centred, centred), axes=(2,), keepdims=1)
    spread = builder.add("Sqrt", builder.add("Add", variance, builder.store("floor", np.float32(VARIANCE_FLOOR))))
    pooled = builder.add("Flatten", builder.add("Concat", mean, spread, axis=1), axis=1)
    x = builder.add("Gemm", pooled, "project.weight", "project.bias", transB=1)
    builder.norm(x, "norm", net.norm, output="output")
    shapes = {"input": ("clip", "frame", N_BINS)}, {"output": ("clip", net.project.out_features)}
    write_onnx(path, builder.graph(), inputs=shapes[0], outputs=shapes[1], name="speaker")


class _Builder:
    """Collects the nodes of a graph one after the other; tensors keep the names of the parameters."""

    def __init__(self, net: nn.Module):
        values = {name: value.detach().cpu() for name, value in net.state_dict().items()}
        self.tensors = {name: value.float().numpy() for name, value in values.items() if value.is_floating_point()}
        self.nodes: list[OnnxNode] = []

    def store(self, name: str, value: np.ndarray) -> str:
        self.tensors[name] = np.asarray(value)
        return name

    def add(self, op: str, *inputs: str, output: str = "", **attributes: int | float | tuple[int, ...]) -> str:
        """Add an operation and return the name of its result."""
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(OnnxNode(op, inputs, (output,), output, attributes))
        return output

    def frame_layer(self, x: str, name: str, layer: FrameLayer) -> str:
        conv = layer.conv
        window = {"kernel_shape": conv.kernel_size, "dilations": conv.dilation, "pads": 2 * tuple(conv.padding)}
        x = self.add("Conv", x, f"{name}.conv.weight", f"{name}.conv.bias", **window)
        return self.norm(self.add("Relu", x), f"{name}.norm", layer.norm)

    def norm(self, x: str, name: str, layer: nn.BatchNorm1d, *, output: str = "") -> str:
        """Add a batch norm; one without weights gets ones and zeros, which the operation wants."""
        if not layer.affine:
            self.store(f"{name}.weight", np.ones(layer.num_features, np.float32))
            self.store(f"{name}.bias", np.zeros(layer.num_features, np.float32))
        stored = (f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
        return self.add("BatchNormalization", x, *stored, output=output, epsilon=float(layer.eps))

    def graph(self) -> OnnxGraph:
        used = {name for node in self.nodes for name in node.inputs}
        return OnnxGraph(tuple(self.nodes), {name: value for name, value in self.tensors.items() if name in used})
