"""Subcommands that inform: weights, backbones, presets, instruments, recipes, doctor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import halometry
from halometry.datasets.store import open_store
from helpers.terminal import Command


def test_weights_of_an_installation_without_weights(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.resources._folder", lambda name: tmp_path / name)
    listed = command("weights")
    assert (listed.status, listed.out) == (
        0, "this installation contains no weights; see 'halometry train'\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("subcommand", "names"),
    [
        ("backbones", ("mobilenetv3_small", "resnet18", "efficientnet_b5")),
        ("presets", ("model_1", "common_test_1", "halo_mass")),
        ("instruments", ("euclid_vis", "lsst_i", "hst_wfc3_f160w")),
        ("recipes", ("baseline", "default", "demo")),
    ],
)
def test_list_has_all_names(command: Command, subcommand: str, names: tuple[str, ...]) -> None:
    listed = command(subcommand)
    assert listed.status == 0
    for name in names:
        assert name in listed.out


def test_one_entry_is_printed_in_full(command: Command) -> None:
    assert "z_lens" in command("presets", "model_1").out
    assert "psf_fwhm" in command("instruments", "euclid_vis").out
    shown = command("recipes", "baseline", "--task", "regression", "--backbone", "resnet18")
    assert shown.status == 0
    assert "learning_rate" in shown.out


def test_printed_preset_gives_the_same_images(command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(command("presets", "demo_mass").out, encoding="utf-8")
    made = command("simulate", mine, "--count", 4, "--out", tmp_path / "a.h5")
    assert made.status == 0
    same = command("simulate", "demo_mass", "--count", 4, "--out", tmp_path / "b.h5")
    assert same.status == 0
    with open_store(tmp_path / "a.h5") as a, open_store(tmp_path / "b.h5") as b:
        np.testing.assert_array_equal(a["images"][:], b["images"][:])


def test_doctor_prints_versions(command: Command) -> None:
    found = command("doctor")
    for word in ("torch", "timm", "caustics", "memory", "cache", halometry.__version__):
        assert word in found.out


def test_doctor_reports_an_unwritable_cache(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("HALOMETRY_CACHE", str(blocked / "cache"))
    found = command("doctor")
    assert found.status == 1
    assert "cannot be written" in found.out
    assert "set HALOMETRY_CACHE" in found.out


def test_version_is_printed(command: Command) -> None:
    assert command("--version").out == f"halometry {halometry.__version__}\n"
