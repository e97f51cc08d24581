"""The command's lists: weights, backbones, presets, recipes, and what this machine has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import halometry
from halometry.datasets.store import open_store
from helpers.terminal import Command


def test_without_weights_the_list_says_so(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.resources._folder", lambda name: tmp_path / name)
    listed = command("weights")
    assert (listed.status, listed.out) == (
        0, "no weights came with this halometry; see 'halometry train'\n"
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["backbones", "presets", "recipes"])
def test_lists(command: Command, verb: str) -> None:
    listed = command(verb)
    assert listed.status == 0
    expected = {
        "backbones": ("mobilenetv3_small", "resnet18", "efficientnet_b5"),
        "presets": ("model_1", "common_test_1", "halo_mass"),
        "recipes": ("baseline", "default", "demo"),
    }[verb]
    for name in expected:
        assert name in listed.out


def test_one_preset_and_one_recipe_in_full(command: Command) -> None:
    assert "z_lens" in command("presets", "model_1").out
    shown = command("recipes", "baseline", "--task", "regression", "--backbone", "resnet18")
    assert shown.status == 0
    assert "learning_rate" in shown.out


def test_a_printed_preset_is_one_to_start_from(command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(command("presets", "demo_mass").out, encoding="utf-8")
    made = command("simulate", mine, "--count", 4, "--out", tmp_path / "a.h5")
    assert made.status == 0
    same = command("simulate", "demo_mass", "--count", 4, "--out", tmp_path / "b.h5")
    assert same.status == 0
    with open_store(tmp_path / "a.h5") as a, open_store(tmp_path / "b.h5") as b:
        np.testing.assert_array_equal(a["images"][:], b["images"][:])


def test_the_doctor_tells_versions(command: Command, tmp_path: Path) -> None:
    found = command("doctor", "--no-measure")
    for word in ("torch", "timm", "caustics", "memory", "cache", halometry.__version__):
        assert word in found.out


def test_the_doctor_finds_a_cache_that_cannot_be_written(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("HALOMETRY_CACHE", str(blocked / "cache"))
    found = command("doctor", "--no-measure")
    assert found.status == 1
    assert "cannot be written" in found.out
    assert "set HALOMETRY_CACHE" in found.out


def test_the_version(command: Command) -> None:
    assert command("--version").out == f"halometry {halometry.__version__}\n"
