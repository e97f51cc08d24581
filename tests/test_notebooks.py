"""The notebooks of the tutorials run, and hold the output that a reader sees."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))
SCRIPT = str(ROOT / "research/run_notebooks.py")
MAX_BYTES = 300_000
# Parameters of the first cell, so that each notebook takes seconds here.
SMALL = {
    "classes": {"N_TRAIN": 8, "N_VAL": 3, "N_SIMULATED": 5, "EPOCHS": 1},
    "masses": {"N_IMAGES": 24, "N_MAPPED": 8},
    "many-lenses": {"N_LENSES": 30, "N_MASSES": 20},
    "own-preset": {"N_TRAIN": 15, "N_TEST": 6, "EPOCHS": 1},
}
LOCAL_PATH = re.compile(r"/(?:home|root|tmp|work|usr|Users)/|[A-Z]:\\\\")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_few_images(notebook: Path, tmp_path: Path) -> None:
    runpy.run_path(SCRIPT)["execute"](notebook, tmp_path, SMALL[notebook.stem])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_holds_its_output(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < MAX_BYTES
    assert not LOCAL_PATH.search(text)
    cells = [c for c in nbformat.reads(text, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)  # no warning
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
