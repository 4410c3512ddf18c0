"""Silero where its file is at hand, loudness where it is not; nothing is fetched."""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from model import voice_activity as module
from model.errors import CheckpointError
from model.voice_activity import FRAME_SAMPLES, EnergyActivity, SileroActivity, installed_silero, voice_activity

FRAME = np.linspace(0.1, 0.9, FRAME_SAMPLES, dtype=np.float32)


class FakeSession:
    """Looks like onnxruntime's session of a silero file; keeps what it was given."""

    def __init__(self, *inputs):
        self.inputs, self.calls = inputs, []

    def get_inputs(self):
        return [SimpleNamespace(name=name) for name in self.inputs]

    def run(self, names, inputs):
        self.calls.append(inputs)
        states = [inputs[name] + 1 for name in self.inputs if name not in ("input", "sr")]
        return [np.array([[0.75]], np.float32), *states]


def test_version_5_gets_context_and_state():
    session = FakeSession("input", "state", "sr")
    activity = SileroActivity("x.onnx", session=session)
    assert [activity(FRAME), activity(2 * FRAME)] == [0.75, 0.75]
    first, second = session.calls
    assert first["input"].shape == (1, 64 + FRAME_SAMPLES) and not first["input"][0, :64].any()
    assert np.array_equal(second["input"][0, :64], FRAME[-64:])
    assert first["state"].shape == (2, 1, 128) and second["state"][0, 0, 0] == 1 and int(first["sr"]) == 16_000


def test_version_4_has_two_states_and_no_context():
    session = FakeSession("input", "sr", "h", "c")
    activity = SileroActivity("x.onnx", session=session)
    assert activity(FRAME) == activity(FRAME) == 0.75
    assert session.calls[1]["input"].shape == (1, FRAME_SAMPLES)
    assert session.calls[1]["h"].shape == (2, 1, 64) and session.calls[1]["c"][0, 0, 0] == 1


def test_another_network_is_refused():
    with pytest.raises(CheckpointError, match="inputs mel"):
        SileroActivity("x.onnx", session=FakeSession("mel"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        voice_activity(tmp_path / "missing.onnx")
    damaged = tmp_path / "silero_vad.onnx"
    damaged.write_bytes(b"no network")
    with pytest.raises(CheckpointError, match="leave it out"):
        voice_activity(damaged)


def test_an_installed_package_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "silero_vad"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "silero_vad.onnx").write_bytes(b"damaged")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert installed_silero() == package / "data" / "silero_vad.onnx"
    assert voice_activity().name == "energy"
    monkeypatch.setattr(module, "_open", lambda path: FakeSession("input", "state", "sr"))
    assert voice_activity().name == "silero" and "silero_vad" not in sys.modules


def test_without_a_package_loudness_decides(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert installed_silero() is None and voice_activity().name == "energy"


def test_loudness_rises_above_the_room():
    rng, activity = np.random.default_rng(0), EnergyActivity()
    room = [activity((rng.standard_normal(FRAME_SAMPLES) * 0.001).astype(np.float32)) for _ in range(60)]
    loud = activity((rng.standard_normal(FRAME_SAMPLES) * 0.1).astype(np.float32))
    assert max(room) < 0.5 < loud


def test_a_steady_sound_becomes_the_room():
    rng, activity = np.random.default_rng(0), EnergyActivity()
    for _ in range(20):
        activity((rng.standard_normal(FRAME_SAMPLES) * 0.001).astype(np.float32))
    later = [activity((rng.standard_normal(FRAME_SAMPLES) * 0.05).astype(np.float32)) for _ in range(120)]
    assert later[0] > 0.5 and max(later[-20:]) < 0.5


def test_soft_sounds_and_a_whistle_are_no_speech():
    activity = EnergyActivity()
    quiet = np.random.default_rng(0).standard_normal((40, FRAME_SAMPLES)).astype(np.float32) * 1e-4
    assert max(activity(frame) for frame in quiet) == 0.0
    whistle = (0.1 * np.sin(2 * np.pi * 1500 / 16_000 * np.arange(FRAME_SAMPLES))).astype(np.float32)
    assert activity(whistle + quiet[0]) < 0.5
