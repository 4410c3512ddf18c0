"""Names and shapes of the tensors in a file, compared with those that a network wants; differences as one sentence.

Whoever loads weights uses this first: `read_shapes` reads the header of a safetensors file only, so everything that is
wrong is told before anything is allocated.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from model.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the tensors in a safetensors file.

    Raises:
        CheckpointError: If it is damaged or no such file.
    """
    try:
        with safe_open(file, "pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"read the weights in {str(file)!r}",
            found=f"a damaged or incomplete file of {file.stat().st_size} bytes ({error})",
            expected="a safetensors file",
            todo="Download this file again.",
        ) from error


def differences(stored: Shapes, wanted: Shapes, *, optional: Collection[str] = ()) -> str:
    """Say which tensors are missing, unexpected or of another shape; "" if all is well."""
    missing = sorted(wanted.keys() - stored.keys() - set(optional))
    unexpected = sorted(stored.keys() - wanted.keys())
    shapes = [
        f"{name} {stored[name]} instead of {wanted[name]}"
        for name in sorted(stored.keys() & wanted.keys())
        if stored[name] != wanted[name]
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return "; ".join(f"{len(names)} tensors {what}: {some(names)}" for what, names in problems.items() if names)


def some(names: list[str], most: int = 4) -> str:
    """Return a list of names for a message, cut where it gets long."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
