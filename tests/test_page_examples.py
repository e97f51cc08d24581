"""The examples in the pages of the documentation run: Python and YAML."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from halometry.runs.recipe import load_recipe
from halometry.simulation import load_preset
from test_documentation import DOCS, code_blocks

YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_blocks(page: str) -> list[str]:
    """Python blocks of a page below docs/."""
    return [code for language, code in code_blocks(DOCS / page) if language == "python"]


def test_recipe_of_the_page_on_training_is_valid(tmp_path: Path) -> None:
    (block,) = YAML_BLOCK.findall((DOCS / "howto/train.md").read_text(encoding="utf-8"))
    (tmp_path / "mine.yaml").write_text(block)
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.resolve("classification", "resnet18").learning_rate == 0.0005
    assert recipe.resolve("classification", "efficientnet_b5").learning_rate != 0.0005


def test_python_of_the_page_on_physics_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = python_blocks("explanation/substructure.md")
    assert len(code) == 2
    exec("\n".join(code), {})
    printed = capsys.readouterr().out
    assert printed.count("torch.Size([8, 1, 48, 48]) torch.Size([8])") == 2


def test_python_of_the_page_on_weights_runs(
    shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = python_blocks("reference/model-zoo.md")
    exec(code, {})
    assert "demo_mass/tiny test_resnet {'mse'" in capsys.readouterr().out


def test_parts_of_presets_in_the_page_on_presets_are_valid(tmp_path: Path) -> None:
    np.savez(tmp_path / "galaxies.npz", images=np.random.default_rng(0).random((2, 16, 16)))
    text = (DOCS / "reference/presets.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in YAML_BLOCK.findall(text)]
    parts = [block for block in blocks if set(block) & {"source", "halos", "image"}]
    assert len(parts) == len(blocks) - 1 == 4
    for part in parts:
        preset = yaml.safe_load(load_preset("demo_classification").to_yaml())
        if "halos" in part:
            preset |= {"distances": "angular_diameter", "mass_scale": 1.0}
            del preset["subhalos"]
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(preset | part))
        assert load_preset(tmp_path / "mine.yaml").name == "demo_classification"


@pytest.mark.parametrize("page", ["howto/own-backbone.md", "howto/predict.md"])
def test_python_of_a_how_to_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_images").mkdir()
    np.save(tmp_path / "my_images/1.npy", np.random.default_rng(0).poisson(20, (150, 150)))
    monkeypatch.chdir(tmp_path)
    for code in python_blocks(page):
        exec(code, {"__name__": __name__})
    assert capsys.readouterr().out
