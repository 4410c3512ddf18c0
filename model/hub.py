"""The Hugging Face Hub as a disk: which snapshot is here already, and fetching one that is not.

Knows nothing of what is in a checkpoint. Everything that can go wrong between here and the Hub leaves this file as a
`CheckpointError` with a sentence: no network, no such repository, a gated one, a full disk.
"""

import errno
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from tqdm.auto import tqdm

from model.errors import CheckpointError, MemoryShortage

PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.md"]
"""Files that the loader reads."""
OTHER_FOLDERS = ["*/*"]
"""Not among them: the official repositories keep the speech decoder, over a gigabyte, in a folder of its own, which is
fetched when it is asked for."""
GIB = 2**30


def cached_snapshot(name: str, is_complete: Callable[[Path], bool]) -> Path | None:
    """Return the snapshot of "owner/name[@revision]" on disk, if there is one and it is complete; asks nobody."""
    try:
        folder = Path(snapshot_download(**_arguments(name), local_files_only=True))
    except (OSError, HFValidationError):
        return None
    return folder if is_complete(folder) else None


def download(name: str, tell: Callable[[str, float], None], files: Sequence[str] = ()) -> Path:
    """Fetch what is missing of a repository, after asking whether the disk can take it.

    Args:
        name: "owner/name" or "owner/name@revision".
        tell: Called with "download" and the fraction that is done.
        files: Patterns of the files to fetch, instead of those that the loader reads.

    Returns:
        The snapshot's folder, named after its commit.

    Raises:
        MemoryShortage: If the disk is too small.
        CheckpointError: If the repository cannot be reached or read.
    """
    tried = f"download {name!r} from the Hugging Face Hub"
    try:
        plan = snapshot_download(**_arguments(name, files), dry_run=True)
        n_bytes = sum(file.file_size or 0 for file in plan if file.will_download)
        _check_disk(tried, n_bytes)
        tell("download", 0.0)
        snapshot = Path(snapshot_download(**_arguments(name, files), tqdm_class=_reporting_bar(tell, n_bytes)))
    except (OSError, HfHubHTTPError, HFValidationError, httpx.HTTPError) as error:
        raise _refusal(tried, error) from error
    tell("download", 1.0)
    return snapshot


def _arguments(name: str, files: Sequence[str] = ()) -> dict[str, Any]:
    repo, _, revision = name.partition("@")
    return {
        "repo_id": repo,
        "revision": revision or None,
        "allow_patterns": list(files) or PATTERNS,
        "ignore_patterns": None if files else OTHER_FOLDERS,
    }


def _refusal(tried: str, error: Exception) -> CheckpointError:
    """Say in our words what the Hub client reports."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return _no_space(tried, "a full disk", "room for the rest of the download")
    if isinstance(error, GatedRepoError):
        found, todo = "a gated repository", "Accept its terms on huggingface.co and log in with `hf auth login`."
    elif isinstance(error, RepositoryNotFoundError | HFValidationError):
        found, todo = "no such repository, or a private one", "Check the spelling; a folder needs its whole path."
    else:
        found = f"no complete copy on this machine and no answer from the Hub ({type(error).__name__})"
        todo = "Connect to the internet, or give the path of a folder that holds the checkpoint."
    return CheckpointError(tried, found=found, expected="a repository that can be read", todo=todo)


def _check_disk(tried: str, n_bytes: int):
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    if n_bytes > free:
        raise _no_space(tried, f"{free / GIB:.1f} GiB free for {cache}", f"{n_bytes / GIB:.1f} GiB for the download")


def _no_space(tried: str, found: str, expected: str) -> MemoryShortage:
    todo = "Free some disk space, or move the cache of the Hub client to a larger disk (HF_HOME)."
    return MemoryShortage(tried, found=found, expected=expected, todo=todo)


def _reporting_bar(tell: Callable[[str, float], None], n_bytes: int) -> type[tqdm]:
    """Return a bar class for the Hub client that draws nothing and tells the fraction of `n_bytes` instead."""
    furthest = 0.0

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**kwargs, "disable": True})
            self.counts_bytes, self.done = kwargs.get("unit") == "B", 0

        def update(self, n=1):
            nonlocal furthest
            self.done += n or 0
            # The client runs two byte bars, for what came in and what is on disk; the further one is told.
            if self.counts_bytes and n_bytes and self.done > furthest:
                furthest = self.done
                tell("download", min(furthest / n_bytes, 1.0))

    return Bar
