"""The picture of the project as a test: it fails where a file no longer fits the picture.

      app.py -> demo/ -> analysis/ -> model/        imports go down only, always absolute

`problems(path, source)` reads one file's syntax tree; the second half of this file proves that it sees what it should.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "model": {"model"},
    "analysis": {"model", "analysis"},
    "demo": {"model", "analysis", "demo"},
    "app.py": {"demo"},
}
"""Room -> rooms it may import."""
NEVER = {
    "model": {"gradio", "plotly", "matplotlib", "pandas", "ray"},
    "analysis": {"gradio"},
    "demo": {"torch", "transformers", "ray"},
    "app.py": {"gradio", "torch", "transformers"},
}
"""Room -> packages it never imports, not even inside a function."""
ONLY_IN = {"plotly": "analysis/figures/", "matplotlib": "analysis/figures/", "ray": "analysis/evaluation/ray_runner.py"}
"""Package -> the one place that imports it."""
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
ENVIRONMENT = {"environ", "environb", "getenv", "putenv", "unsetenv"}
HOOKS = {
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
}


def problems(path: str, source: str) -> list[str]:
    """List what in one file does not fit the picture, each with its line."""
    tree = ast.parse(source)
    found = [*_imports(path, tree), *_prints(path, tree)]
    for node in ast.walk(tree):
        found += _names(path, node)
        if isinstance(node, ast.Call):
            found += _loads(node)
    return found


def _imports(path, tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"line {node.lineno}: relative import"
        for name in _imported(node):
            why = _import_problem(path, name.split(".")[0])
            if why:
                yield f"line {node.lineno}: imports {name}, {why}"


def _imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module]
    name = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
    literal = name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant)
    return [str(node.args[0].value)] if literal else []


def _import_problem(path, package):
    room = path.split("/")[0]
    if package in ("model", "analysis", "demo", "app", "tests") and package not in ROOMS[room]:
        return f"which {room} must not know"
    if package in NEVER[room]:
        return f"which never belongs into {room}"
    if not path.startswith(ONLY_IN.get(package, "")):
        return f"which only {ONLY_IN[package]} may"
    if package in PICKLES:
        return "and pickles run code when they are read"
    return None


def _prints(path, tree):
    """Printing is for command lines: `__main__.py`, app.py, and `main` or the last block of a module that is run."""
    if path == "app.py" or path.endswith("__main__.py"):
        return
    allowed = set()
    blocks = [node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]
    if blocks:
        mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        allowed = {inner for block in blocks + mains for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and node not in allowed:
            yield f"line {node.lineno}: print outside a command line"


def _names(path, node):
    if path != "demo/settings.py":
        attribute = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os" and node.attr in ENVIRONMENT
        imported = isinstance(node, ast.ImportFrom) and node.module == "os"
        if attribute or (imported and any(alias.name in ENVIRONMENT for alias in node.names)):
            yield f"line {node.lineno}: only demo/settings.py reads the environment"
    if path != "analysis/hooks.py" and isinstance(node, ast.Attribute) and node.attr in HOOKS:
        yield f"line {node.lineno}: only analysis/hooks.py hooks a network"


def _loads(call):
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if ast.unparse(call.func) == "torch.load" and options.get("weights_only") != "True":
        yield f"line {call.lineno}: torch.load without weights_only=True"
    if options.get("allow_pickle", "False") != "False":
        yield f"line {call.lineno}: allow_pickle"


def project_files():
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return sorted([*paths, *(path for path in [ROOT / "app.py"] if path.exists())])


@pytest.mark.parametrize("path", project_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_fits_the_picture(path):
    assert problems(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) == []


def test_every_top_folder_is_in_the_picture():
    """A new top-level package would escape every rule above."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} <= set(ROOMS)


@pytest.mark.parametrize(
    ("path", "source", "problem"),
    [
        ("model/a.py", "import analysis.trace", "imports analysis.trace, which model must not know"),
        ("model/a.py", "def f():\n    from demo import ui", "imports demo, which model must not know"),
        ("analysis/a.py", "from demo.ui import build", "imports demo.ui, which analysis must not know"),
        ("demo/a.py", "import app", "imports app, which demo must not know"),
        ("app.py", "from model.audio import Waveform", "imports model.audio, which app.py must not know"),
        ("model/a.py", "from tests import conftest", "imports tests, which model must not know"),
        ("model/a.py", "from . import errors", "relative import"),
        ("model/a.py", "from ..audio import x", "relative import"),
        ("model/a.py", "import gradio as gr", "imports gradio, which never"),
        ("analysis/a.py", "from gradio import Blocks", "imports gradio, which never"),
        ("app.py", "import gradio", "imports gradio, which never"),
        ("demo/a.py", "import torch.nn", "imports torch.nn, which never"),
        ("demo/a.py", "import importlib\nimportlib.import_module('transformers.x')", "imports transformers.x"),
        ("analysis/lens.py", "import plotly.graph_objects as go", "only analysis/figures/ may"),
        ("demo/a.py", "import matplotlib.pyplot", "only analysis/figures/ may"),
        ("analysis/evaluation/local.py", "import ray", "only analysis/evaluation/ray_runner.py may"),
        ("model/a.py", "import pickle", "pickles run code"),
        ("model/a.py", "torch.load('x')", "torch.load without weights_only=True"),
        ("model/a.py", "torch.load('x', weights_only=False)", "torch.load without weights_only=True"),
        ("analysis/a.py", "np.load('x', allow_pickle=True)", "allow_pickle"),
        ("model/a.py", "print('x')", "print outside a command line"),
        ("model/a.py", "def main():\n    print('x')", "print outside a command line"),
        ("model/a.py", "def f():\n    print('x')\nif __name__ == '__main__':\n    f()", "line 2: print outside"),
        ("model/a.py", "import os\nx = os.environ['HOME']", "line 2: only demo/settings.py reads the environment"),
        ("demo/a.py", "import os\nos.getenv('HOME')", "only demo/settings.py reads the environment"),
        ("app.py", "from os import environ", "only demo/settings.py reads the environment"),
        ("analysis/patching.py", "layer.register_forward_hook(f)", "only analysis/hooks.py hooks a network"),
        ("model/a.py", "layer.register_full_backward_hook(f)", "only analysis/hooks.py hooks a network"),
    ],
)
def test_violation_is_seen(path, source, problem):
    assert any(problem in line for line in problems(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/a.py", "import torch, model.audio\nfrom os import path"),
        ("analysis/hooks.py", "layer.register_forward_hook(f)\nimport torch\nfrom model import audio"),
        ("analysis/figures/a.py", "import plotly, matplotlib"),
        ("analysis/evaluation/ray_runner.py", "import ray"),
        ("demo/settings.py", "import os\nos.environ.get('X')"),
        ("demo/a.py", "import gradio\nfrom analysis import trace\nfrom model.audio import Waveform"),
        ("app.py", "from demo.ui import build\nprint('http://127.0.0.1')"),
        ("model/__main__.py", "print('words')"),
        ("model/training/a.py", "def main():\n    print('x')\nif __name__ == '__main__':\n    main()\n    print('y')"),
        ("model/a.py", "torch.load('x', weights_only=True)\nnp.load('x', allow_pickle=False)"),
    ],
)
def test_what_fits_is_left_alone(path, source):
    assert problems(path, source) == []
