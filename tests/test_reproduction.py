"""The published experiments on folders in the community's layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

import halometry
from halometry.compare.schema import read_comparison_record
from halometry.config import Task
from halometry.errors import StorageError, UsageError
from helpers.folders import published_classes, published_masses
from helpers.terminal import Command

PRESETS: dict[Task, str] = {"classification": "demo_classification", "regression": "demo_mass"}
pytestmark = pytest.mark.filterwarnings("ignore::halometry.log.HalometryWarning")


@pytest.fixture(scope="module")
def dataset(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_classes(lenses, tmp_path_factory.mktemp("classes") / "dataset")


@pytest.fixture(scope="module")
def lens_data(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_masses(masses, tmp_path_factory.mktemp("masses") / "lens_data")


def test_both_experiments_have_one_report_and_resume(
    dataset: Path, lens_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    options = {"backbones": ["mobilenetv3_small"], "epochs": 1, "presets": PRESETS, "device": "cpu"}
    result = halometry.reproduce(tmp_path, classes=dataset, masses=lens_data, **options)
    assert "mass maps by preset demo_classification: at most" in caplog.text
    assert "mobilenetv3_small: about" in caplog.text
    page = result.report.read_text(encoding="utf-8")
    for text in ("Classification", "Regression", "0.9741", "6.1e-05"):
        assert text in page
    for task in PRESETS:
        record = read_comparison_record(tmp_path / task / "results.json")
        assert record.data.shape[0] == 3  # mass maps
        assert record.published[0].network == "mobilenetv3_small"
        assert record.data.path in (str(dataset), str(lens_data))
    before = [comparison.record.models[0].metrics for comparison in result.comparisons]
    caplog.clear()
    again = halometry.reproduce(tmp_path, classes=dataset, masses=lens_data, **options)
    assert caplog.text.count("is trained already") == 2
    assert [comparison.record.models[0].metrics for comparison in again.comparisons] == before


def test_command_with_one_folder_and_raw_images(
    command: Command, lens_data: Path, tmp_path: Path
) -> None:
    words = f"reproduce --masses {lens_data} --out {tmp_path} --inputs raw --epochs 1"
    result = command(*words.split(), "--backbones", "resnet18", "--masses-preset", "demo_mass")
    assert result.status == 0, result.err
    assert "6.8e-05" in result.out
    assert str(tmp_path / "report.html") in result.out
    assert not (tmp_path / "classification").exists()


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of the classes, of the masses, or both"):
        halometry.reproduce(tmp_path)


def test_folders_of_the_other_experiment_are_refused(lens_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds mass fractions"):
        halometry.reproduce(tmp_path, classes=lens_data)


def test_maps_must_fit_on_the_disk(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.reproduction.MAP_BYTES", 10**15)
    with pytest.raises(StorageError, match="HALOMETRY_CACHE"):
        halometry.reproduce(
            tmp_path, classes=dataset, backbones=["mobilenetv3_small"], presets=PRESETS
        )
    assert not any(tmp_path.iterdir())
