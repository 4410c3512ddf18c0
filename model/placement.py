"""Where a model goes: device, dtype, and whether it fits, decided before anything is allocated."""

import logging
from pathlib import Path

import torch

from model.errors import CheckpointError, MemoryShortage

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORKING_BYTES = 256 * 2**20
"""Room for activations and a few thousand cached positions, beside the weights."""
GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux keeps the limits of the container we may be in."""


def choose_placement(
    n_parameters: int, device: str, dtype: str | torch.dtype
) -> tuple[torch.device, torch.dtype, tuple[str, ...]]:
    """Return device, dtype and what should be said about them; refuse what cannot fit.

    Raises:
        CheckpointError: If the device or dtype is unknown or not there.
        MemoryShortage: If the weights do not fit into the free memory.
    """
    place = choose_device(device)
    if dtype == "auto":
        wishes = [torch.bfloat16] if place.type == "cuda" else [torch.float32, torch.bfloat16]
    else:
        wishes = [_named_dtype(dtype)]
    free = available_bytes(place)
    for wish in wishes:
        if free is None or _needed_bytes(n_parameters, wish) <= free:
            if wish == wishes[0]:
                return place, wish, ()
            note = f"loaded in {wish} because {wishes[0]} does not fit into {free / GIB:.1f} GiB"
            logger.warning("Model %s", note)
            return place, wish, (note,)
    raise MemoryShortage(
        f"load {n_parameters / 1e9:.2f} billion parameters in {wishes[-1]} on {place}",
        found=f"{free / GIB:.1f} GiB of free memory",
        expected=f"at least {_needed_bytes(n_parameters, wishes[-1]) / GIB:.1f} GiB",
        todo="Close other programs, choose a smaller dtype, another device or a smaller model.",
    )


def choose_device(device: str) -> torch.device:
    """Return the device to use; "auto" takes the best one there is."""
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, there in has.items() if there))
    try:
        place = torch.device(device)
    except RuntimeError:
        place = None
    if place is None or not has.get(place.type):
        there = ", ".join(kind for kind, is_there in has.items() if is_there)
        raise CheckpointError(
            f"use the device {device!r}", found=f"only {there}", expected="one of them", todo="Choose one, or auto."
        )
    return place


def _named_dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise CheckpointError(
            "choose the dtype", found=repr(dtype), expected=f"auto or one of {', '.join(DTYPES)}", todo="Choose one."
        )
    return found


def available_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device, or None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    told = [free for free in (_system_bytes(), _container_bytes(CGROUP)) if free is not None]
    return min(told, default=None)


def _system_bytes() -> int | None:
    """What Linux says a new program could take without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _container_bytes(cgroup: Path) -> int | None:
    """What the limit of a container leaves, file cache counted as free; None without a limit."""
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - int(used) + int(stat.get("inactive_file", 0))


def _needed_bytes(n_parameters: int, dtype: torch.dtype) -> int:
    return n_parameters * dtype.itemsize + WORKING_BYTES
