"""Files for contributors: examples of the guide, CI workflow, bug form, citation."""

from __future__ import annotations

import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import halometry
from halometry.cli import info
from halometry.datasets import layouts
from halometry.models.backbones import list_backbones
from halometry.simulation import load_preset, sample
from helpers.folders import Tree

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"


@pytest.fixture(scope="module")
def examples() -> dict[str, str]:
    """Example of each section 'How to add a ...' of the guide, by the last word of the heading."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(
        r"^## How to add a (\w+).*?^```(?:python|yaml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in found] == ["backbone", "preset", "layout", "command"]
    return dict(found)


def project() -> dict[str, Any]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(content["project"])


def test_example_of_a_backbone_is_a_network_of_timm(examples: dict[str, str]) -> None:
    ((name, timm_name),) = eval(f"{{{examples['backbone']}}}").items()
    (backbone,) = list_backbones([timm_name])
    assert name == backbone.name
    assert backbone.n_features > 0


def test_example_of_a_preset_gives_images(examples: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "my_survey.yaml"
    file.write_text(examples["preset"], encoding="utf-8")
    preset = load_preset(file)
    images, _ = sample(preset, seed=0, start=0, count=2)
    assert preset.name == file.stem
    assert images.shape == (2, 1, 64, 64)


def test_example_of_a_layout_finds_classes(examples: dict[str, str], tree: Tree) -> None:
    namespace = dict(vars(layouts))
    exec(examples["layout"], namespace)
    root = tree({"1_sphere": 1, "0_no": 1, "2_vort": 1})
    found = namespace["find_numbered_classes"](root)
    assert found.class_names == ("no", "sphere", "vort")
    assert found.parts[0].folders == ("0_no", "1_sphere", "2_vort")
    assert namespace["find_numbered_classes"](root / "0_no") is None


def test_example_of_a_command_runs(examples: dict[str, str], lenses: Path) -> None:
    app = typer.Typer()
    namespace = dict(vars(info)) | {"Path": Path, "Annotated": typing.Annotated}
    namespace["subcommand"] = lambda panel, example: app.command()
    exec(examples["command"], namespace)
    done = CliRunner().invoke(app, [str(lenses)])
    assert done.exit_code == 0
    assert done.output == "demo_classification, seed 1\n"


def test_workflow_runs_make_on_the_supported_pythons() -> None:
    text = (GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (job,) = yaml.load(text, yaml.BaseLoader)["jobs"].values()
    classifiers = project()["classifiers"]
    versions = [c.rpartition(" ")[2] for c in classifiers if re.search(r"Python :: 3\.\d+$", c)]
    assert job["strategy"]["matrix"]["python"] == versions
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = [step["run"].split() for step in job["steps"] if "run" in step]
    for program, target in commands:
        assert program == "make"
        assert target in targets
    assert ["make", "test"] in commands


def test_bug_form_asks_for_doctor() -> None:
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8"))
    required = {part["id"]: part for part in form["body"] if part["validations"]["required"]}
    assert {"command", "result", "doctor"} == set(required)
    assert "halometry doctor" in required["doctor"]["attributes"]["label"]


def test_citation_fits_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == halometry.__version__
    assert citation["license"] == project()["license"]
    assert citation["authors"] == project()["authors"]
