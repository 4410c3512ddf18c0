"""Device, dtype and memory: what is chosen, what is told, what is refused."""

import pytest
import torch

from model import placement
from model.errors import CheckpointError, MemoryShortage
from model.placement import GIB, choose_placement

MINI = 8_315_000_000


@pytest.fixture
def free_memory(monkeypatch):
    return lambda n_bytes: monkeypatch.setattr(placement, "available_bytes", lambda device: n_bytes)


def test_cpu_takes_float32_when_it_fits(free_memory):
    free_memory(64 * GIB)
    assert choose_placement(MINI, "cpu", "auto") == (torch.device("cpu"), torch.float32, ())


def test_smaller_dtype_is_taken_and_told_when_only_that_fits(free_memory, caplog):
    free_memory(20 * GIB)
    place, dtype, notes = choose_placement(MINI, "cpu", "auto")
    assert (place.type, dtype) == ("cpu", torch.bfloat16)
    assert notes == ("loaded in torch.bfloat16 because torch.float32 does not fit into 20.0 GiB",)
    assert notes[0] in caplog.text


@pytest.mark.parametrize("dtype", ["float32", torch.float32, "torch.float32"])
def test_dtype_that_was_asked_for_is_not_changed(free_memory, dtype):
    free_memory(20 * GIB)
    with pytest.raises(MemoryShortage, match="8.3. billion parameters in torch.float32 on cpu: found 20.0 GiB"):
        choose_placement(MINI, "cpu", dtype)
    free_memory(64 * GIB)
    assert choose_placement(MINI, "cpu", dtype)[1] == torch.float32


def test_unknown_memory_is_not_refused(free_memory):
    free_memory(None)
    assert choose_placement(10**12, "cpu", "auto")[1] == torch.float32


def test_free_memory_is_read_from_the_system():
    free = placement.available_bytes(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def test_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "CGROUP", tmp_path)
    monkeypatch.setattr(placement, "_system_bytes", lambda: 100 * GIB)
    assert placement.available_bytes(torch.device("cpu")) == 100 * GIB
    for name, text in (
        ("memory.max", f"{16 * GIB}\n"),
        ("memory.current", f"{5 * GIB}\n"),
        ("memory.stat", f"anon 1\ninactive_file {2 * GIB}\n"),
    ):
        (tmp_path / name).write_text(text)
    assert placement.available_bytes(torch.device("cpu")) == 13 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert placement.available_bytes(torch.device("cpu")) == 100 * GIB


def test_best_device_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80 * GIB, 80 * GIB))
    place, dtype, _ = choose_placement(MINI, "auto", "auto")
    assert (place.type, dtype) == ("cuda", torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_placement(1000, "auto", "auto")[0].type == "cpu"


@pytest.mark.parametrize("device", ["tpu", "cuda:99x", "xpu", "mps", "cuda"])
def test_device_that_is_not_there(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(CheckpointError, match=f"use the device {device!r}.*only cpu"):
        choose_placement(1000, device, "auto")


def test_unknown_dtype():
    with pytest.raises(CheckpointError, match="choose the dtype: found 'int3'"):
        choose_placement(1000, "cpu", "int3")
