"""The README's file map: the tracked files, and of each module the first sentence of its docstring.

`make map` writes it into the README; the test of the README fails while it differs from the tree.

    map_of(names) -> list of files and folders, words after `# `      a folder's line stands for all in it without one
"""

import ast
import re
import subprocess
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("model/", "analysis/", "demo/")
"""Folders whose Python files each have a line."""
PLAIN = {
    "notebooks/": "Narratives over the library",
    "tests/": "They mirror the rooms; golden/ holds the official values, bench/ the benchmarks, ui/ the browser",
    "docs/": "Pictures of this page",
}
"""Folders with one line for everything in them."""
WORDS = {
    "model/nano/": "The embedded checkpoint, in the official layout, and its card",
    "demo/assets/": "Style and scripts of the page",
}
"""Words for folders that hold no Python and so cannot speak for themselves."""
COLUMN, SHORTEST, WIDEST = 38, 15, 88
"""Where the words begin, and how many characters of them a line has."""
_BLOCK = re.compile(r"(?<=## File map\n)(.*?\n```\n)(.*?)(?=```)", re.DOTALL)


def map_of(names: list[str], root: Path = ROOT) -> str:
    """Draw the map of a tree.

    Args:
        names: Files as git names them, relative to `root`.
        root: Where they lie; their docstrings are read.
    """
    top = [name for name in names if "/" not in name or name.startswith(".ci/")]
    lines = [_line(0, name, _first_sentence(root / name)) for name in top if name.endswith(".py")]
    lines += textwrap.wrap("  ".join(name for name in top if not name.endswith(".py")), 100, break_on_hyphens=False)
    for room in ROOMS:
        lines += _room(room, 0, names, root)
    lines += [_line(0, folder, words) for folder, words in PLAIN.items() if _inside(folder, names)]
    return "\n".join(lines) + "\n"


def _room(folder: str, depth: int, names: list[str], root: Path) -> list[str]:
    """Draw one folder: its own line, its Python files, then its folders; without Python, its own line only."""
    inside = _inside(folder, names)
    if not inside:
        return []
    init = f"{folder}__init__.py"
    lines = [_line(depth, f"{Path(folder).name}/", WORDS.get(folder) or _first_sentence(root / init))]
    if not any(name.endswith(".py") for name in inside):
        return lines
    modules = [name for name in inside if re.fullmatch(r"[^/]+\.py", name[len(folder) :]) and name != init]
    lines += [_line(depth + 1, Path(name).name, _first_sentence(root / name)) for name in modules]
    for name in sorted({re.match(r"[^/]+/", name[len(folder) :])[0] for name in inside if "/" in name[len(folder) :]}):
        lines += _room(folder + name, depth + 1, names, root)
    return lines


def _inside(folder: str, names: list[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(folder))


def _line(depth: int, name: str, words: str) -> str:
    return f"{'  ' * depth + name:<{COLUMN}}# {words}" if words else "  " * depth + name


def _first_sentence(path: Path) -> str:
    """What a module says it is, shortened where it would be too long; empty without a docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else None
    sentence = re.split(r"(?<=\.)\s", " ".join((text or "").split("\n\n")[0].split()))[0].rstrip(".:")
    return _shortened(sentence)


def _shortened(sentence: str) -> str:
    """Cut at the last colon, semicolon or bracket that leaves enough, else at the last comma, else at a space."""
    if len(sentence) <= WIDEST:
        return sentence
    for marks in (":;(", ",", " "):
        ends = [k for k, character in enumerate(sentence) if character in marks and SHORTEST <= k <= WIDEST]
        if ends:
            return sentence[: ends[-1]].strip()
    return sentence[:WIDEST]


def tracked_files() -> list[str] | None:
    """Files that belong to the project and are there; None outside a git clone."""
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return [name for name in listed.splitlines() if (ROOT / name).exists()]


def map_in(readme: str) -> str:
    """The map that stands in a README."""
    return _BLOCK.search(readme)[2]


def with_map(readme: str, drawn: str) -> str:
    """The README with another map."""
    return _BLOCK.sub(lambda found: found[1] + drawn, readme, count=1)


if __name__ == "__main__":
    files = tracked_files()
    if files is None:
        raise SystemExit("The map is made of what git tracks; run this in a git clone, with git installed.")
    page = ROOT / "README.md"
    page.write_text(with_map(page.read_text(encoding="utf-8"), map_of(files)), encoding="utf-8")
