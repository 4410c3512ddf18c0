"""The notebooks hold together: questions, answers, outputs of the code that stands there; and they run.

One short notebook is executed by default, all of them with `-m slow`; `make notebooks` writes the outputs again.
"""

import ast
import base64
import importlib
import io
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from model.checkpoint import NANO_DIR
from tests.file_map import ROOT
from tests.run_notebooks import FOLDER, LEAVE_OUT, MAX_BYTES, execute, notebooks, smaller, tidy

SHORT = "01_first_turn.ipynb"
CLOSING = "## What was found"
ALL = notebooks()


def ids(path):
    return path.stem


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook):
    return [output.text for cell in code_cells(notebook) for output in cell.outputs if output.output_type == "stream"]


def test_the_folder_is_numbered_without_gaps():
    assert [path.name[:2] for path in ALL] == [f"{number:02d}" for number in range(1, len(ALL) + 1)] and len(ALL) >= 5
    assert [path.name for path in notebooks(["02"])] == [ALL[1].name]


@pytest.mark.parametrize("path", ALL, ids=ids)
def test_a_notebook_opens_with_its_question_and_closes_with_what_was_found(path):
    cells = read(path).cells
    assert re.match(rf"# {int(path.name[:2])}\. .+\n\n\*\*[^*]+\?\*\*", cells[0].source)
    closing = [k for k, cell in enumerate(cells) if cell.source.endswith(CLOSING)]
    assert len(closing) == 1 and [cell.cell_type for cell in cells[closing[0] + 1 :]] == ["code", "markdown"]
    assert re.search(r"\d", "".join(output.text for output in cells[-2].outputs)), "no number in what was found"


@pytest.mark.parametrize("path", ALL, ids=ids)
def test_outputs_are_of_one_run_small_and_quiet(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run `make notebooks`"
    kinds = {getattr(output, "name", output.output_type) for cell in cells for output in cell.outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}
    assert path.stat().st_size < MAX_BYTES
    assert str(ROOT) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ALL, ids=ids)
def test_nothing_that_changes_from_run_to_run_is_kept(path):
    before = read(path)
    assert tidy(read(path)) == before


@pytest.mark.parametrize("path", ALL, ids=ids)
def test_a_notebook_is_thin_and_asks_for_names_that_exist(path):
    """Cheap enough to catch a renamed function without running anything."""
    source = "\n".join(cell.source for cell in code_cells(read(path)))
    assert len(source.splitlines()) < 170 and max(map(len, source.splitlines())) <= 120
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("model", "analysis"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        assert not isinstance(node, ast.ImportFrom | ast.Import) or "demo" not in ast.unparse(node)


@pytest.mark.parametrize("path", ALL, ids=ids)
def test_pictures_and_files_in_the_text_exist(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert [link for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text) if not (FOLDER / link).exists()] == []
    named = re.findall(r"`((?:model|analysis|demo|tests)/[\w./]*\w\.\w+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


# --- the runner -------------------------------------------------------------------------------------------------------


def picture():
    out = io.BytesIO()
    Image.radial_gradient("L").convert("RGBA").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_tidying_keeps_what_was_found_and_drops_the_rest():
    stamped = {"execution": {"iopub.execute_input": "2026-01-01T00:00:00"}, "tags": ["mine"]}
    shown = new_output(
        "display_data", {"image/png": picture(), "text/plain": "a"}, metadata={"needs_background": "light"}
    )
    kept = new_code_cell("1", metadata=stamped, outputs=[shown, new_output("stream", text="2")])
    left = new_code_cell("3", metadata={"tags": [LEAVE_OUT]}, outputs=[new_output("stream", text="4")])
    notebook = tidy(new_notebook(cells=[new_markdown_cell("a"), kept, left], metadata={"widgets": {}}))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert [cell.id for cell in notebook.cells] == ["cell-01", "cell-02", "cell-03"]
    assert notebook.cells[1].metadata == {"tags": ["mine"]} and notebook.cells[1].outputs[1].text == "2"
    assert notebook.cells[1].outputs[0].metadata == {} and notebook.cells[2].outputs == []
    nbformat.validate(notebook)


def test_pictures_get_smaller_and_look_the_same():
    before, after = (Image.open(io.BytesIO(base64.b64decode(each))) for each in (picture(), smaller(picture())))
    assert len(smaller(picture())) < 0.8 * len(picture()) and smaller(smaller(picture())) == smaller(picture())
    differences = [abs(a - b) for a, b in zip(before.convert("L").tobytes(), after.convert("L").tobytes())]
    assert before.size == after.size and max(differences) <= 12


# --- they run ---------------------------------------------------------------------------------------------------------


def needs_nano():
    if not (NANO_DIR / "model.safetensors").exists():
        pytest.skip("model/nano/model.safetensors is not here: nano has to be trained first, see the README")


def runs(path):
    """Execute, and compare with what is kept: the same cells say something, and there is no complaint."""
    needs_nano()
    before, after = read(path), execute(path)
    for old, new in zip(code_cells(before), code_cells(after)):
        assert [output.output_type for output in old.outputs] == [output.output_type for output in new.outputs]
    assert json.loads(json.dumps(after)) and "stderr" not in {
        o.get("name") for c in code_cells(after) for o in c.outputs
    }
    return before, after


def test_the_first_notebook_runs():
    runs(FOLDER / SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in ALL if path.name != SHORT], ids=ids)
def test_every_notebook_runs(path):
    runs(path)


@pytest.mark.slow
def test_outputs_are_those_of_the_weights_that_are_here():
    before, after = runs(FOLDER / SHORT)
    assert printed(before)[0] == printed(after)[0], "The weights have changed: run `make notebooks`."
