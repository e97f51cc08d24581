"""Execute the notebooks of the tutorials again, and keep their output in them.

    python research/run_notebooks.py [FILE ...]

Each runs in a new folder, with an empty cache of mass maps.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

TUTORIALS = Path(__file__).resolve().parents[1] / "docs/tutorials"
TIMEOUT = 600  # seconds for each cell
PICTURE_WIDTH, PICTURE_COLORS = 680, 200  # at most, so that notebooks stay small


def execute(path: Path, folder: Path, values: Mapping[str, int] | None = None) -> Any:
    """Execute a notebook in a folder and return it with its output.

    Args:
        path: the notebook.
        folder: working folder, for the files that it writes.
        values: other values of the parameters in its first code cell.

    Raises:
        KeyError: it has no such parameter.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for name, value in (values or {}).items():
        first.source, count = re.subn(rf"(?m)^{name} = \d+", f"{name} = {value}", first.source)
        if not count:
            raise KeyError(name)
    environment = os.environ | {"HALOMETRY_CACHE": str(folder / "cache")}
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    return client.execute(env=environment)


def shrink_pictures(notebook: Any) -> None:
    """Reduce size and number of colors of the pictures in a notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for data in [output.data for output in outputs if "image/png" in output.get("data", {})]:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        picture.thumbnail((PICTURE_WIDTH, 10 * PICTURE_WIDTH))
        content = io.BytesIO()
        picture.quantize(PICTURE_COLORS, dither=Image.Dither.NONE).save(
            content, "PNG", optimize=True
        )
        data["image/png"] = base64.b64encode(content.getvalue()).decode()


def main() -> None:
    """Execute all notebooks, or the given ones, and write them."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(TUTORIALS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        shrink_pictures(notebook)
        notebook.metadata.language_info = {"name": "python"}  # not the version of this machine
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main()
