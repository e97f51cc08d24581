"""Subcommands that analyze: population and robustness."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from helpers.terminal import Command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto/robustness.md"


def write_predictions(path: Path) -> Path:
    """Prediction table of 20 confident predictions and one error."""
    header = "image,prediction,prob_no,prob_sphere,prob_vort,error"
    rows = [header, *["a,no,0.9,0.06,0.04,"] * 20, "b,,,,,is empty"]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_population_prints_a_row_for_each_class(command: Command, tmp_path: Path) -> None:
    file = write_predictions(tmp_path / "p.csv")
    done = command("population", file, "--out", tmp_path / "out", "--prior", "no=2,sphere=1,vort=1")
    assert done.status == 0
    for text in ("no", "sphere", "vort", "68 %", "argmax", "20 lenses, 1 row excluded",
                 "prior divided out: no 50 %, sphere 25 %, vort 25 %",
                 "population -> "):  # fmt: skip
        assert text in done.out
    assert (tmp_path / "out" / "population.png").exists()


@pytest.mark.parametrize(
    ("table", "words", "message", "status"),
    [
        (
            "image,f_sub,error\na,0.1,\n",
            ["--prior", "demo_mass"],
            "{}: has masses without intervals",
            1,
        ),
        ("a,b\n1,2\n", [], "{}: has no columns 'image' and 'prob_<class>' or 'f_sub'", 1),
        (
            "image,prediction,prob_a,prob_b\nx,a,0.5,0.5\n",
            ["--prior", "b=1"],
            "--prior: has classes b",
            2,
        ),
        ("image,f_sub\na,0.1\n", ["--mass-distribution", "gama"], "did you mean 'gamma'?", 2),
    ],
)
def test_population_refuses_unusable_input(
    command: Command, tmp_path: Path, table: str, words: list[str], message: str, status: int
) -> None:
    file = tmp_path / "p.csv"
    file.write_text(table)
    failed = command("population", file, *words)
    assert failed.status == status
    assert failed.err.startswith("error: ")
    assert message.format(file) in failed.err
    assert len(failed.err.splitlines()) == 1


def test_population_refuses_a_missing_file(command: Command, tmp_path: Path) -> None:
    assert "gone.csv: cannot be read" in command("population", tmp_path / "gone.csv").err


def test_robustness_needs_a_preset(command: Command, tmp_path: Path) -> None:
    from halometry.runs.run import load_run, write_config

    run = load_run("common_test_1/d4net")
    for file in run.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = run.config.data.model_copy(update={"preset": None, "path": "dataset"})
    write_config(tmp_path, run.config.model_copy(update={"data": data}))
    failed = command("robustness", tmp_path)
    assert failed.status == 1
    assert failed.err == (
        f"error: {tmp_path}: was trained on dataset, which follows no known preset;"
        " say which preset its images follow with --preset\n"
    )


def test_robustness_prints_a_row_for_each_step(command: Command, run: Path) -> None:
    done = command("robustness", run, "--count", 30, "--shifts", "psf, shear")
    assert done.status == 0
    title, *_ = done.out.splitlines()
    assert title.endswith(": 30 images of demo_classification per step, 95 % intervals")
    for word in ("none: demo_classification", "width of the PSF", "1.25", "change of AUC", "ECE"):
        assert word in done.out


def test_python_example_of_the_robustness_page_runs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    variables: dict[str, Any] = {}
    exec(code, variables)
    assert variables["images"].shape == (4, 1, 48, 48)
