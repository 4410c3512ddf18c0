"""The speaker network, exported and run by onnxruntime, equals itself in torch; sharing and refusals."""

import pickle
import threading

import numpy as np
import pytest
import torch

from model.audio import Waveform
from model.errors import AudioError, CheckpointError
from model.token2wav.features import speaker_features
from model.token2wav.onnx_file import OnnxGraph, OnnxNode, write_onnx
from model.token2wav.speaker import SpeakerEncoder, SpeakerNet, export_onnx, pool_statistics

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def net():
    """A network whose norms have seen data, so that each number in them counts."""
    torch.manual_seed(7)
    net = SpeakerNet()
    for name, parameter in net.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    for _ in range(3):
        net.train()(3 * torch.randn(6, 50, 80) + 1)
    return net.eval()


@pytest.fixture(scope="module")
def path(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("speaker") / "speaker.onnx"
    export_onnx(net, path)
    return path


@pytest.fixture(scope="module")
def encoder(path):
    return SpeakerEncoder(path)


def voice(n_samples=16_000, rate=16_000, seed=0):
    noise = np.random.default_rng(seed).standard_normal(n_samples)
    return Waveform((0.1 * noise).astype(np.float32), rate)


# --- export equals torch ---


@pytest.mark.parametrize("shape", [(1, 1, 80), (1, 7, 80), (1, 998, 80), (5, 63, 80)])
def test_onnxruntime_equals_torch(net, encoder, shape):
    features = 3 * torch.randn(*shape)
    with torch.no_grad():
        torch.testing.assert_close(encoder(features), net(features), rtol=0, atol=1e-5)


def test_a_recording_equals_its_features(net, encoder):
    wave = voice()
    with torch.no_grad():
        expected = net(speaker_features(wave)[None])
    found = encoder.embed(wave)
    assert found.shape == (1, 192) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(encoder(speaker_features(wave)), found)


def test_any_rate_is_welcome(encoder):
    assert encoder.embed(voice(48_000, rate=48_000)).shape == (1, 192)


def test_it_is_small(net, path):
    assert sum(parameter.numel() for parameter in net.parameters()) < 500_000
    assert path.stat().st_size < 2_000_000


def test_no_torch_module_is_changed_by_the_export(net, tmp_path):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export_onnx(net, tmp_path / "a.onnx")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_official_interface_is_enough(tmp_path):
    """A file with CAM++'s interface and other names inside: one input [B, T, 80], one output [B, 192]."""
    weight = np.random.default_rng(1).standard_normal((80, 192)).astype(np.float32)
    nodes = (
        OnnxNode("ReduceMean", ("feature",), ("mean",), attributes={"axes": (1,), "keepdims": 0}),
        OnnxNode("MatMul", ("mean", "w"), ("embedding",)),
    )
    shapes = {"inputs": {"feature": ("B", "T", 80)}, "outputs": {"embedding": ("B", 192)}}
    write_onnx(tmp_path / "campplus.onnx", OnnxGraph(nodes, {"w": weight}), **shapes)
    features = torch.randn(2, 30, 80)
    found = SpeakerEncoder(tmp_path / "campplus.onnx")(features)
    torch.testing.assert_close(found, features.mean(1) @ torch.from_numpy(weight), rtol=0, atol=1e-4)


# --- the network ---


def test_batch_equals_single_and_ignores_what_is_beyond(net):
    features, lens = 3 * torch.randn(3, 60, 80), torch.tensor([60, 33, 1])
    with torch.no_grad():
        together = net(features, lens)
        for row, n in enumerate(lens):
            torch.testing.assert_close(together[row : row + 1], net(features[row : row + 1, :n]), rtol=0, atol=1e-5)


def test_statistics_equal_numpy():
    x = torch.randn(2, 3, 9)
    pooled = pool_statistics(x, torch.ones(2, 1, 9)).numpy()
    expected = np.concatenate([x.mean(-1), np.sqrt(x.numpy().var(-1) + 1e-5)], axis=1)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-5)


def test_it_learns_to_tell_voices_apart():
    torch.manual_seed(3)
    net, voices = SpeakerNet(width=16), torch.randn(4, 1, 80)
    labels = torch.arange(4).repeat(8)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(30):
        made = torch.nn.functional.normalize(net(voices[labels] + torch.randn(32, 20, 80)), dim=1)
        same = labels[:, None] == labels[None]
        loss = ((made @ made.T) - same.float()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        made = torch.nn.functional.normalize(net.eval()(voices[labels] + torch.randn(32, 20, 80)), dim=1)
    likeness = made @ made.T
    assert likeness[same].mean() > 0.8 > 0.4 > likeness[~same].mean()


# --- sharing ---


def test_threads_that_share_an_encoder_get_what_they_get_alone(encoder):
    waves = [voice(8_000 + 640 * k, seed=k) for k in range(8)]
    alone = [encoder.embed(wave) for wave in waves]
    shared = [None] * len(waves)

    def work(k):
        for _ in range(5):
            shared[k] = encoder.embed(waves[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(waves))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_a_session_has_one_thread(encoder):
    options = encoder._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_a_copy_for_another_process_opens_the_file_again(encoder):
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy._session is not encoder._session
    assert torch.equal(copy.embed(voice()), encoder.embed(voice()))


# --- refusals ---


@pytest.mark.parametrize("shape", [(1, 5, 40), (80,), (1, 0, 80), (1, 1, 5, 80)])
def test_other_features_are_refused_in_words(encoder, shape):
    with pytest.raises(AudioError, match="speaker_features"):
        encoder(torch.zeros(shape))


def test_too_short_a_recording_is_refused(encoder):
    with pytest.raises(AudioError, match="399 samples"):
        encoder.embed(voice(399))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match="bad.onnx"):
        SpeakerEncoder(tmp_path / "bad.onnx")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.onnx"):
        SpeakerEncoder(tmp_path / "nowhere.onnx")


def test_another_network_is_refused(tmp_path):
    graph = OnnxGraph((OnnxNode("Relu", ("x",), ("y",)),), {})
    write_onnx(tmp_path / "relu.onnx", graph, inputs={"x": (1, 128, "T")}, outputs={"y": (1, 128, "T")})
    with pytest.raises(CheckpointError, match=r"expected one input \[clip, frame, 80\]"):
        SpeakerEncoder(tmp_path / "relu.onnx")
