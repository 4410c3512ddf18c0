"""The README tells the truth: its file map is the tree, its commands exist, its front matter fits the requirements."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMED_ONE_BY_ONE = ("model/", "analysis/", "demo/")
"""Rooms whose own Python files each have a place in the map."""


def front_matter():
    lines = re.match(r"---\n(.*?)\n---\n", README, re.DOTALL)[1].splitlines()
    return {key: value.strip().strip('"') for key, value in (line.split(":", 1) for line in lines)}


def map_entries(text):
    """Read the map: `path/` or `path`, several on a line, indented under the folder they are in; words after `  # `.

    A folder's line stands for everything below it that has no line of its own.
    """
    block = re.search(r"^## File map\n.*?^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    entries, folders = [], []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = line.split("# ")[0].split()
        folders = folders[:depth]
        entries += ["".join(folders) + name for name in names]
        if names and names[-1].endswith("/"):
            folders.append(names[-1])
    return entries


def tracked_files():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git clone: what belongs to the project is not known")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).exists()]


def missing_from(entries, files):
    """List files that no entry names and no folder entry may stand for."""
    named = set(entries)
    detailed = {str(Path(entry).parent) for entry in entries if entry.endswith(".py")}
    detailed |= {room.rstrip("/") for room in NAMED_ONE_BY_ONE}

    def covered(name):
        path = Path(name)
        if name in named or path.name == "__init__.py":
            return True
        if path.suffix == ".py" and str(path.parent) in detailed:
            return False
        return any(f"{folder}/" in named for folder in path.parents)

    return [name for name in files if not covered(name)]


def test_every_file_is_in_the_map():
    assert missing_from(map_entries(README), tracked_files()) == []


def test_everything_in_the_map_is_there():
    files = tracked_files()
    folders = {f"{folder}/" for name in files for folder in Path(name).parents}
    assert [entry for entry in map_entries(README) if entry not in folders and entry not in files] == []


def test_nothing_is_in_the_map_twice():
    entries = map_entries(README)
    assert len(entries) == len(set(entries))


def test_map_checker_sees_a_missing_and_an_extra_file():
    text = "## File map\n\n```\nREADME.md  app.py\nmodel/\n  a.py b.py  # two\n  sub/\ntests/\n```\n"
    entries = map_entries(text)
    assert entries == ["README.md", "app.py", "model/", "model/a.py", "model/b.py", "model/sub/", "tests/"]
    files = ["README.md", "model/__init__.py", "model/a.py", "model/c.py", "model/sub/x.py", "tests/y.py", "z/q.py"]
    assert missing_from(entries, files) == ["model/c.py", "z/q.py"]


def test_sdk_version_is_the_requirement():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    gradio = next(each for each in map(Requirement, filter(None, lines)) if each.name == "gradio")
    version = Version(front_matter()["sdk_version"])
    assert version in gradio.specifier
    assert version in [Version(bound.version) for bound in gradio.specifier if bound.operator in (">=", "==")]


def test_front_matter_names_what_is_there():
    matter = front_matter()
    assert matter["sdk"] == "gradio" and (ROOT / matter["app_file"]).exists()
    assert Version(matter["python_version"]) >= Version("3.11")
    assert len(matter["short_description"]) <= 60
    assert matter["license"] == "apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text()


def test_make_targets_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE)) <= targets
    assert {"demo", "test", "bench", "lint"} <= targets


def test_pictures_and_links_in_the_readme_exist():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
