"""Inputs of training: images of a folder, and their mass maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halometry.datasets.open import open_dataset
from halometry.errors import RunError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.massmaps.dataset import map_mass
from halometry.runs.run import load_run
from halometry.simulation import load_preset
from halometry.training.inputs import open_inputs
from halometry.training.train import train
from helpers.folders import published_layout
from helpers.terminal import QUICK, Command

PRESET, TINY = "demo_classification", "test_resnet"
OPTIONS: dict[str, Any] = {
    "overrides": {"epochs": 1, "precision": "float32", "channels_last": True},
    "workers": 1,
}
COUNT, N_TEST = 30, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_layout(tmp_path_factory.mktemp("published") / "dataset", PRESET, COUNT, N_TEST)


@pytest.fixture(scope="module")
def cache(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the maps of the folder."""
    path = tmp_path_factory.mktemp("maps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALOMETRY_CACHE", str(path))
        open_inputs(folder, "classification", "maps", PRESET, workers=1)
    return path


@pytest.fixture
def _filled_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALOMETRY_CACHE", str(cache))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("images are mapped again")

    monkeypatch.setattr("halometry.massmaps.cached.write_maps", refuse)


@pytest.mark.usefixtures("_filled_cache")
def test_run_on_maps_of_a_folder_is_evaluated_on_its_plain_test_images(
    folder: Path, tmp_path: Path
) -> None:
    data: Any = ("classification", folder, TINY, tmp_path / "run")
    run = train(*data, inputs="maps", preset=PRESET, **OPTIONS)
    plain = open_dataset(folder)
    assert run.config.data.shape == (3, 48, 48)
    assert run.config.data.path == str(folder)
    assert run.config.data.mass_map_preset == load_preset(PRESET).to_yaml()
    assert run.config.data.shares_images_with(plain)
    out = tmp_path / "evaluation"
    evaluation = evaluate(run, folder, out=out, resamples=20, workers=1)
    assert evaluation.rows.tolist() == list(range(COUNT - N_TEST, COUNT))
    assert evaluation.description == f"{N_TEST} held-out test images"
    maps = open_inputs(folder, "classification", "maps", PRESET)
    on_maps = run.predict_fn("cpu")(maps.images[evaluation.rows])
    np.testing.assert_allclose(evaluation.outputs, on_maps, atol=1e-6)
    assert f"{folder}/val/no/" in (out / "predictions.csv").read_text()
    assert train(*data, inputs="maps", preset=PRESET, **OPTIONS).path == run.path
    with pytest.raises(RunError, match="its inputs differ"):
        train(*data, **OPTIONS)


@pytest.mark.usefixtures("_filled_cache")
def test_maps_made_by_the_command_are_known_as_the_training_images(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    run = train(
        "classification", folder, TINY, tmp_path / "run", inputs="maps", preset=PRESET, **OPTIONS
    )
    with pytest.MonkeyPatch.context() as patch:
        # the maps in the cache, as `halometry map` writes them
        patch.setattr("halometry.massmaps.mapper.MassMapper.map_image", _empty_maps)
        mapped = open_dataset(map_mass(folder, tmp_path / "mapped.h5", preset=PRESET))
    assert evaluate(run, mapped, resamples=20).description == f"{N_TEST} held-out test images"


def _empty_maps(*_: object) -> np.ndarray:
    return np.zeros((3, 48, 48), np.float32)


@pytest.mark.usefixtures("_filled_cache")
def test_networks_are_compared_on_maps(folder: Path, tmp_path: Path, command: Command) -> None:
    words = ["compare", "--task", "classification", "--data", folder, "--backbones", TINY]
    words += ["--inputs", "maps", "--preset", PRESET, "--workers", 1, "--out", tmp_path, *QUICK]
    outcome = command(*words)
    assert outcome.status == 0, outcome.err
    assert load_run(tmp_path / "runs" / TINY).config.data.mass_map_preset
    assert "as mass maps 3 x 48 x 48" in (tmp_path / "results.json").read_text()


@pytest.mark.usefixtures("_filled_cache")
def test_command_trains_and_evaluates_on_maps(
    folder: Path, tmp_path: Path, command: Command
) -> None:
    run = tmp_path / "run"
    words = ["train", "--task", "classification", "--data", folder, "--backbone", TINY]
    words += ["--inputs", "maps", "--preset", PRESET, "--workers", 1, "--out", run, *QUICK]
    assert command(*words).status == 0
    outcome = command("evaluate", run, "--data", folder, "--out", tmp_path / "e", "--workers", 1)
    assert outcome.status == 0, outcome.err
    assert f"{N_TEST} held-out test images" in outcome.out


def test_simulated_set_is_mapped_by_its_own_preset_without_truth(lenses: Path) -> None:
    data = open_dataset(lenses)
    few = replace(data, images=data.images[:4], labels=data.labels[:4], names=data.names[:4])
    few = replace(few, roles=None)
    mapped = open_inputs(few, "classification", "maps", workers=1)
    assert mapped.attributes["no_truth_init"] == 1
    assert mapped.attributes["preset"] == PRESET
    assert open_inputs(mapped, "classification", "maps") is mapped
    assert open_inputs(mapped, "classification") is mapped


def test_missing_and_unsuitable_presets_are_reported(folder: Path, tmp_path: Path) -> None:
    def open_maps(preset: str | None) -> None:
        open_inputs(folder, "classification", "maps", preset)

    with pytest.raises(UsageError, match=r"with --preset \(those of 1 x 48 x 48 .* are demo_class"):
        open_maps(None)
    with pytest.raises(UsageError, match="did you mean 'demo_classification'"):
        open_maps("demo_clasification")
    with pytest.raises(UsageError, match="are 1 x 48 x 48, those of preset common_test_1 1 x 150"):
        open_maps("common_test_1")
    other = open_dataset(folder)
    other = replace(other, images=other.images[:, :, :40, :40])
    with pytest.raises(UsageError, match=r"--preset \(none has 1 x 40 x 40 images; a YAML file"):
        open_inputs(other, "classification", "maps")


def test_unknown_inputs_and_workers_are_refused(folder: Path, tmp_path: Path) -> None:
    wrong: Any = "map"
    with pytest.raises(UsageError, match="--inputs map: unknown; did you mean 'maps'"):
        train("classification", folder, TINY, tmp_path / "run", inputs=wrong)
    with pytest.raises(UsageError, match="--workers 0"):
        open_inputs(folder, "classification", "maps", PRESET, workers=0)
