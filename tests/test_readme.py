"""The README tells the truth: its snippets and commands run, its file map is the tree, its links lead somewhere."""

import argparse
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.file_map import ROOT, map_in, map_of, tracked_files, with_map

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.sub(r"<!--.*?-->", "", README, flags=re.DOTALL)
"""What a reader sees: without what is commented out."""
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", SHOWN, re.DOTALL | re.MULTILINE)
SNIPPETS = [text for language, text in FENCED if language == "python"]
SHELL = "\n".join(text for language, text in FENCED if not language)
PYTHON_M = [shlex.split(line, comments=True)[2:] for line in SHELL.splitlines() if line.startswith("python -m ")]
WEIGHTS = ROOT / "model/nano/model.safetensors"


def front_matter():
    lines = re.match(r"---\n(.*?)\n---\n", README, re.DOTALL)[1].splitlines()
    return {key: value.strip().strip('"') for key, value in (line.split(":", 1) for line in lines)}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to run snippets in, so that what they write does not land here; `model/` is seen from it."""
    if not WEIGHTS.exists():
        pytest.skip("model/nano/model.safetensors is not here: nano has to be trained first, see the README")
    (tmp_path / "model").symlink_to(ROOT / "model")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("elsewhere")
def test_snippets_run_one_after_the_other():
    names = {"__name__": "readme"}
    for number, snippet in enumerate(SNIPPETS, start=1):
        exec(compile(snippet, f"README snippet {number}", "exec"), names)
    assert Path("coffee.html").stat().st_size > 10_000 and Path("coffee.trace").exists()


@pytest.fixture(scope="module")
def nano():
    from model.checkpoint import load_model

    return load_model("nano")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("words", [words for words in PYTHON_M if words[0] == "model" and "--model" not in words])
def test_model_commands_run(words, capsys, nano):
    from model.__main__ import main

    if words[1] == "say" and not (nano.has_voice and "tts" in (nano.info.trained_tasks or ())):
        pytest.skip("nano has not learnt to speak yet")
    n_inputs = 1 if words[1] == "say" else sum(word.endswith(".flac") for word in words)
    short = [] if words[1] == "say" else ["--max-new-tokens", "32"]
    assert main([*words[1:], *short], load=lambda name, device: nano) == 0
    assert len(capsys.readouterr().out.splitlines()) == n_inputs > 0


def flags_of(parser):
    """Every flag of a parser, those of its commands included."""
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    parsers = [parser, *(each for action in commands for each in action.choices.values())]
    return {flag for each in parsers for flag in each._option_string_actions}


@pytest.mark.parametrize("words", PYTHON_M, ids=lambda words: " ".join(words[:2]))
def test_commands_name_modules_and_flags_that_exist(words):
    spec = importlib.util.find_spec(words[0])
    if spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{words[0]}.__main__")
    known = set(re.findall(r'"(--[a-z-]+)"', Path(spec.origin).read_text(encoding="utf-8")))
    if spec.name.startswith("model."):  # stages share flags that stand in another file, and so do commands
        module = importlib.import_module(spec.name)
        known |= flags_of(module.build_parser()) if hasattr(module, "build_parser") else set()
    assert {word for word in words if word.startswith("--")} <= known


def test_app_flags_exist():
    from demo.settings import read_settings

    for line in re.findall(r"^python app\.py(.*)$", SHELL, re.MULTILINE):
        read_settings(shlex.split(line, comments=True), {})


def test_there_are_snippets_and_commands():
    assert len(SNIPPETS) >= 2 and len(PYTHON_M) >= 5


def test_file_map_is_the_tree():
    files = tracked_files()
    if files is None:
        pytest.skip("not a git clone: what belongs to the project is not known")
    assert map_in(README) == map_of(files), "The tree has changed: run `make map`."


def test_map_of_a_small_tree(tmp_path):
    for name, text in {"model/__init__.py": '"""What it is."""', "model/a.py": '"""One thing: first. More."""'}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    names = ["README.md", "model/__init__.py", "model/a.py", "model/nano/x.json", "model/sub/y.tsv", "tests/t.py"]
    drawn = [" ".join(line.split()) for line in map_of(names, tmp_path).splitlines()]
    assert drawn[:3] == ["README.md", "model/ # What it is", "a.py # One thing: first"]
    assert drawn[3].startswith("nano/ # ") and drawn[4] == "sub/" and drawn[5].startswith("tests/ # ")


def test_writing_the_map_changes_nothing_else():
    page = with_map(README, "a\n")
    assert map_in(page) == "a\n" and with_map(page, map_in(README)) == README


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
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", SHOWN) + re.findall(r'(?:src|srcset)="([^"]+)"', SHOWN)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_files_named_in_backticks_exist():
    named = re.findall(r"`((?:model|analysis|demo|tests)/[\w./]*\w\.(?:py|md|json|tsv|safetensors))`", SHOWN)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_datasets_in_the_readme_are_those_that_training_reads():
    from model.training.corpus import _RECORDED_TRAIN
    from model.training.mandarin import DATASETS
    from model.training.recordings import SOUND_SETS

    table = README.split("## Train nano again")[1].split("\n## ")[0]
    wanted = {*_RECORDED_TRAIN, *DATASETS.values(), *SOUND_SETS}
    assert sorted(name for name in wanted if f"`{name}`" not in table) == []
