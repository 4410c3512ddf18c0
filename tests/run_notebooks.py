"""Execute the notebooks and write down what came out: `make notebooks`, or `make notebooks ARGS="02 05"`.

    notebooks/NN_name.ipynb --a fresh kernel, cells in order--> outputs --tidy--> the same file

What changes from run to run without meaning anything (execution times, metadata of the editor, ids of cells) is left
out, so that a diff shows what changed. A cell tagged `leave out` is executed, but its output is too big to be kept.
"""

import argparse
import base64
import io
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
LEAVE_OUT = "leave out"
TIMEOUT_S = 600
COLOURS = 128
"""In a picture."""
MAX_BYTES = 400_000
"""A notebook with its outputs stays below this."""


def notebooks(names: Sequence[str] = ()) -> list[Path]:
    """Find the notebooks, in order; only those whose file name begins with one of `names`, if there are any."""
    return [path for path in sorted(FOLDER.glob("*.ipynb")) if not names or path.name.startswith(tuple(names))]


def execute(path: Path) -> nbformat.NotebookNode:
    """Run all cells of a notebook in a fresh kernel and return it with its outputs, tidied.

    Raises:
        CellExecutionError: If a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    return tidy(client.execute())


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out what says nothing about the result; the same notebook, changed."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, start=1):
        tags = cell.metadata.get("tags", [])
        cell.id = f"cell-{number:02d}"
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code" and LEAVE_OUT in tags:
            cell.outputs = []
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    return notebook


def smaller(picture: str) -> str:
    """Write a PNG (base64) with a palette of its own, which takes a third of the space and can hardly be seen."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P":
        return picture
    out = io.BytesIO()
    image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii") + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of file names; all by default")
    for path in notebooks(parser.parse_args().names):
        notebook = execute(path)
        nbformat.write(notebook, path)
        size = path.stat().st_size
        print(f"{path.name}  {size / 1000:.0f} kB" + ("  TOO BIG" if size > MAX_BYTES else ""), flush=True)


if __name__ == "__main__":
    main()
