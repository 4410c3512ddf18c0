"""The Hub without a network: what its client says is turned into sentences."""

import errno
import shutil
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from model import checkpoint, hub
from model.errors import CheckpointError, MemoryShortage

NAME = "owner/name"


def refuse(error):
    def snapshot(local_files_only=False, **_):
        raise LocalEntryNotFoundError("not here") if local_files_only else error

    return snapshot


def http_error(kind):
    response = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co/api"))
    return kind("not found", response=response)


def fake_client(folder, *, file_size=1000, already_here=False, error_while_downloading=None):
    """Stand in for `snapshot_download`: one file, downloaded in four parts."""

    def snapshot(local_files_only=False, dry_run=False, tqdm_class=None, **asked):
        assert asked["repo_id"] == NAME and asked["ignore_patterns"] == ["*/*"]
        if local_files_only:
            if not already_here:
                raise LocalEntryNotFoundError("not here")
            return str(folder)
        if dry_run:
            return [SimpleNamespace(file_size=file_size, will_download=True)]
        if error_while_downloading:
            raise error_while_downloading
        bar = tqdm_class(total=0, unit="B", desc="bytes")
        for _ in range(4):
            bar.update(file_size / 4)
        files = tqdm_class(range(3), desc="files")
        assert list(files) == [0, 1, 2]
        return str(folder)

    return snapshot


@pytest.mark.parametrize(
    "error, message",
    [
        (httpx.ConnectError("no route"), r"no answer from the Hub \(ConnectError\).*Connect to the internet"),
        (LocalEntryNotFoundError("offline"), r"no answer from the Hub \(LocalEntryNotFoundError\)"),
        (http_error(RepositoryNotFoundError), "no such repository, or a private one.*Check the spelling"),
        (http_error(GatedRepoError), "a gated repository.*Accept its terms"),
    ],
)
def test_what_goes_wrong_on_the_way_is_a_sentence(monkeypatch, error, message):
    monkeypatch.setattr(hub, "snapshot_download", refuse(error))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.find_folder(NAME)


def test_download_that_the_disk_cannot_take_is_refused_before_it_starts(monkeypatch, tmp_path):
    full = pytest.fail
    client = fake_client(tmp_path, file_size=17 * 2**30, error_while_downloading=None)
    monkeypatch.setattr(hub, "snapshot_download", lambda **asked: full() if "tqdm_class" in asked else client(**asked))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**31))
    with pytest.raises(MemoryShortage, match="found 2.0 GiB free for .*, expected 17.0 GiB for the download"):
        checkpoint.find_folder(NAME)


def test_disk_that_fills_up_on_the_way(monkeypatch, tmp_path):
    client = fake_client(tmp_path, error_while_downloading=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(hub, "snapshot_download", client)
    with pytest.raises(MemoryShortage, match="found a full disk.*Free some disk space"):
        checkpoint.find_folder(NAME)


def test_progress_of_a_download_goes_up_to_one(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(hub, "snapshot_download", fake_client(tmp_path))
    folder, commit = checkpoint.find_folder(NAME, lambda step, fraction: told.append((step, fraction)))
    assert (folder, commit) == (tmp_path, tmp_path.name)
    assert told == [("download", f) for f in (0.0, 0.25, 0.5, 0.75, 1.0, 1.0)]


def test_complete_snapshot_on_disk_is_used_without_asking(monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(hub, "snapshot_download", fake_client(tmp_path, already_here=True))
    monkeypatch.setattr(hub, "_check_disk", lambda *_: pytest.fail("it wanted to download"))
    assert checkpoint.find_folder(NAME)[0] == tmp_path


def test_half_snapshot_on_disk_is_completed(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(hub, "snapshot_download", fake_client(tmp_path, already_here=True))
    checkpoint.find_folder(NAME, lambda step, fraction: told.append(step))
    assert "download" in told


def test_revision_may_follow_the_name(monkeypatch):
    assert hub._arguments("owner/name@v1.2")["revision"] == "v1.2"
    assert hub._arguments("owner/name")["revision"] is None


# --- what a checkpoint speaks with ---


def voice_client(folder, monkeypatch, *, error=None):
    """Stand in for `snapshot_download`; what is asked for is noted, and written into the folder."""
    asked = []

    def snapshot(dry_run=False, **given):
        asked.append(given)
        if error:
            raise error
        if not dry_run:
            official_voice(folder / "token2wav")
        return [SimpleNamespace(file_size=1000, will_download=True)] if dry_run else str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    return asked


def official_voice(folder):
    folder.mkdir(exist_ok=True)
    for name in ("flow.pt", "hift.pt", "campplus.onnx", "speech_tokenizer_v2_25hz.onnx"):
        (folder / name).touch()
    (folder / "flow.yaml").write_text("flow: {}")


def test_voice_is_fetched_of_the_same_commit_and_only_what_is_read(monkeypatch, tmp_path):
    asked, told = voice_client(tmp_path, monkeypatch), []
    assert checkpoint.fetch_voice(f"{NAME}@main", tmp_path, lambda *step: told.append(step)) == ()
    assert {(each["repo_id"], each["revision"], each["ignore_patterns"]) for each in asked} == {
        (NAME, tmp_path.name, None)
    }
    patterns = asked[0]["allow_patterns"]
    assert {"token2wav/flow.pt", "token2wav/flow.yaml", "token2wav/voices/*"} < set(patterns)
    assert all(pattern.startswith("token2wav/") for pattern in patterns) and "token2wav/*" not in patterns
    assert told[-1] == ("download", 1.0)


def test_voice_that_is_there_is_not_asked_for(monkeypatch, tmp_path):
    official_voice(tmp_path / "token2wav")
    asked = voice_client(tmp_path, monkeypatch)
    assert checkpoint.fetch_voice(NAME, tmp_path) == () and not asked
    (tmp_path / "token2wav" / "hift.pt").unlink()  # an earlier download was broken off
    assert checkpoint.fetch_voice(NAME, tmp_path) == () and asked


def test_voice_that_cannot_be_fetched_is_told_and_nothing_more(monkeypatch, tmp_path):
    voice_client(tmp_path, monkeypatch, error=httpx.ConnectError("no route"))
    (note,) = checkpoint.fetch_voice(NAME, tmp_path)
    assert note.startswith("It cannot speak: Could not download") and "Connect to the internet" in note
