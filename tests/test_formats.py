"""File formats: the current code reads each golden file, and new files have the golden keys.

Each format of `halometry.io.FORMATS` has a small file in `tests/golden` and a row in `GOLDEN`.
Further files of a format have its name and a suffix, such as `robustness.csv`.
To add a format: write the file once with the row's writer, commit it, and never change it without
raising the format's version. `python tests/test_formats.py NAME` writes the golden file of a row.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from halometry.calibration.conformal import Conformal, read_conformal, write_conformal
from halometry.calibration.posterior import Grid, Posterior
from halometry.calibration.prediction_sets import PredictionSet
from halometry.compare.compare import read_history
from halometry.compare.schema import read_comparison_record, write_comparison_record
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split, read_split, write_split
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.calibration_error import calibration_record, coverage_record
from halometry.evaluation.differences import Difference
from halometry.evaluation.posterior_checks import posterior_record
from halometry.evaluation.prediction_table import read_predictions
from halometry.evaluation.predictions import Prediction, write_predictions
from halometry.evaluation.records import EvaluationRecord, read_evaluation_record, write_record
from halometry.io import FORMATS, PREFIX, check_header, read_json
from halometry.models import PreprocessingConfig, TargetConfig
from halometry.ood.detector import ImageScaling, OODDetector, OODResult
from halometry.runs.config import DataRecord, RunConfig
from halometry.runs.execution import Execution
from halometry.runs.lineage import LineageEntry, read_lineage, write_lineage
from halometry.runs.ood import read_detector, write_detector
from halometry.runs.recipe import load_recipe
from halometry.runs.run import Run, read_config, write_config, write_weights
from halometry.simulation import load_preset
from halometry.training.train import train
from helpers.analyses import (
    write_attribution_example,
    write_fits_example,
    write_mass_population_example,
    write_population_example,
    write_robustness_example,
    write_sensitivity_example,
)
from helpers.comparison import comparison_record, model_record

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Format:
    """A file format under test.

    Attributes:
        file: name of the golden file in `tests/golden`.
        read: the package's reader, which raises on a file of another format.
        write: writes a new file of this format to a path, with the package's writer and the same
            content as the golden file.
    """

    file: str
    read: Callable[[Path], object]
    write: Callable[[Path], object]


def _split() -> Split:
    train, validation, calibration, test = (np.array([k, k + 4]) for k in range(4))
    return Split(train, validation, calibration, test, seed=1)


def _data() -> DataRecord:
    return DataRecord(
        path="images.h5",
        description="8 images",
        fingerprint="0123456789abcdef",
        images=8,
        shape=(1, 48, 48),
        preset="demo_classification",
        seed=1,
    )


def _write_split(path: Path) -> None:
    write_split(path, _split())


def _write_lineage(path: Path) -> None:
    write_lineage(path, [LineageEntry(_data(), _split())])


def _write_conformal(path: Path) -> None:
    truth, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    conformal = Conformal.fit(
        truth, probabilities, images="3 images", fingerprint="0123456789abcdef", held_out=True
    )
    write_conformal(path, conformal)


def _run_config() -> RunConfig:
    return RunConfig(
        task="classification",
        backbone="d4net",
        class_names=("no", "sphere", "vort"),
        recipe=load_recipe("default").resolve("classification", "d4net"),
        preprocessing=PreprocessingConfig(),
        target=TargetConfig(),
        temperature=1.2,
        bias=(0.1, 0.0, -0.1),
        data=_data(),
        execution=Execution(),
        steps=10,
        seed=0,
        initial_weights="random weights",
        versions={"python": "3.11.7", "torch": "2.14.1"},
        date="2026-11-30T00:00:00+00:00",
    )


def _write_run(path: Path) -> None:
    write_config(path.parent, _run_config())


def _write_weights(path: Path) -> None:
    write_weights(path, torch.nn.Linear(2, 1))


def _read_weights(path: Path) -> None:
    with safe_open(path, "pt") as file:
        check_header(file.metadata(), "weights", path)
        torch.nn.Linear(2, 1).load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118


def _write_ood(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    scaling = ImageScaling(torch.ones(()), torch.zeros(1), channels=1)
    names = ("features", "light", "center", "spectrum", "noise")
    groups, reference = (
        {name: torch.randn(20, 2, generator=generator) for name in names} for _ in range(2)
    )
    write_detector(path, OODDetector.fit(scaling, groups, reference))


def _read_ood(path: Path) -> None:
    assert read_detector(path.parent) is not None


def _read_training(path: Path) -> None:
    run = Run(path.parent, _run_config(), "golden")
    assert run.training_metrics()["steps"] > 0


def _read_history(path: Path) -> None:
    assert len(read_history(Run(path.parent, _run_config(), "golden"))) == 1


def _train_and_copy(path: Path) -> None:
    """Train a network for a few steps, and copy the file of this name, with its header."""
    with TemporaryDirectory() as place:
        home = Path(place)
        data = simulate("demo_classification", 30, out=home / "images.h5", progress=False)
        options = {"epochs": 1, "size": 32, "precision": "float32", "online_fraction": 0}
        run = train(
            "classification", data, "test_resnet", home / "run", overrides=options, progress=False
        )
        path.parent.mkdir(exist_ok=True)
        for file in run.path.glob(f"{path.name}*"):
            shutil.copyfile(file, path.parent / file.name)


def _write_dataset(path: Path) -> None:
    """Write a simulated dataset of two images of 8 x 8 pixels."""
    preset = load_preset("demo_classification")
    image = preset.image.model_copy(update={"pixels": 8})
    simulate(preset.model_copy(update={"image": image}), 2, out=path, progress=False)


def _write_manifest(path: Path) -> None:
    _write_dataset(path.parent.with_suffix(".h5"))


def _read_manifest(path: Path) -> None:
    check_header(yaml.safe_load(path.read_text(encoding="utf-8")), "manifest", path)


def _calibration_parts() -> dict[str, Any]:
    """Calibration, coverage and posterior of a few images, as records have them."""
    truth = np.arange(24) % 2
    probabilities = np.tile([0.7, 0.3], (24, 1))
    conformal = Conformal.fit(
        truth, probabilities, images="24 images", fingerprint="0123456789abcdef", held_out=True
    )
    grid = Grid(low=0.0, high=0.1, cells=8)
    masses = np.linspace(0.01, 0.09, 24)
    density = np.exp(-0.5 * ((grid.centers - masses[:, None]) / 0.02) ** 2)
    return {
        "calibration": calibration_record(truth, probabilities, probabilities, resamples=20),
        "coverage": coverage_record(truth, probabilities, conformal, ("no", "vort"), resamples=20),
        "posterior": posterior_record(masses, Posterior(grid, density)),
        "confusion": ((12, 0), (12, 0)),
    }


def _write_evaluation(path: Path) -> None:
    record = EvaluationRecord(
        run="runs/d4net",
        backbone="d4net",
        task="classification",
        data="images.h5",
        images="24 test images",
        count=24,
        interval="95 %",
        metrics={"auc": Interval(0.9, 0.8, 0.95)},
        class_names=("no", "vort"),
        versions={"python": "3.11.7"},
        date="2026-11-30T00:00:00+00:00",
        **_calibration_parts(),
    )
    write_record(path, "evaluation", record)


def _write_comparison(path: Path) -> None:
    first, second = (
        model_record(name, value).model_copy(
            update=_calibration_parts()
            | {"roc": {"no": ((0.0, 1.0), (0.0, 1.0)), "vort": ((0.0, 1.0), (0.0, 1.0))}}
            | {"command": "halometry compare", "date": "2026-11-30"}
        )
        for name, value in (("d4net", 0.9), ("resnet18", 0.8))
    )
    interval = Interval(0.1, 0.05, 0.15)
    record = comparison_record(first, second, best_minus_second=interval)
    pair = Difference.from_interval("auc", "d4net", "resnet18", interval)
    sentences = ("d4net is the most accurate.",)
    update = {"differences": (pair,), "conclusion": sentences}
    write_comparison_record(path, record.model_copy(update=update))


def _write_predictions(path: Path) -> None:
    probabilities = {"no": 0.7, "sphere": 0.2, "vort": 0.1}
    ood = OODResult(0.25, 0.4, None)
    sets = PredictionSet(classes=("no", "sphere"))
    predictions = [
        Prediction("images.h5#0", probabilities, conformal=sets, ood=ood, true="no"),
        Prediction("bad.npy", error="is empty"),
    ]
    write_predictions(
        path, Run(path.parent, _run_config(), "golden"), predictions, coverage=0.9, ood=True
    )


def _copy_from(write_files: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return a function that writes all files of an analysis, and copies one with its header."""

    def write(path: Path) -> None:
        with TemporaryDirectory() as place:
            write_files(Path(place))
            path.parent.mkdir(exist_ok=True)
            for file in Path(place).glob(f"{path.name}*"):
                shutil.copyfile(file, path.parent / file.name)

    return write


def _read_analysis(path: Path) -> None:
    header = path.with_name(f"{path.name}.json") if path.suffix == ".csv" else path
    read_json(header, path.stem)


ANALYSES = {
    "fits": _copy_from(write_fits_example),
    "robustness": _copy_from(write_robustness_example),
    "attribution": _copy_from(write_attribution_example),
    "sensitivity": _copy_from(write_sensitivity_example),
    "population": _copy_from(write_population_example),
}
_write_mass_population = _copy_from(write_mass_population_example)

GOLDEN: dict[str, Format] = {
    "dataset": Format("dataset.h5", open_dataset, _write_dataset),
    "manifest": Format("dataset.shards/manifest.yaml", _read_manifest, _write_manifest),
    "split": Format("run/split.json", read_split, _write_split),
    "lineage": Format("run/lineage.json", read_lineage, _write_lineage),
    "run": Format("run/config.yaml", lambda path: read_config(path.parent), _write_run),
    "conformal": Format("run/conformal.json", read_conformal, _write_conformal),
    "ood": Format("run/ood.safetensors", _read_ood, _write_ood),
    "weights": Format("run/weights.safetensors", _read_weights, _write_weights),
    "training": Format("run/metrics.json", _read_training, _train_and_copy),
    "history": Format("run/history.csv", _read_history, _train_and_copy),
    "predictions": Format("evaluation/predictions.csv", read_predictions, _write_predictions),
    "evaluation": Format("evaluation/metrics.json", read_evaluation_record, _write_evaluation),
    "comparison": Format("results.json", read_comparison_record, _write_comparison),
    **{
        f"{name}{suffix}": Format(f"{name}/{name}.{suffix[1:] or 'json'}", _read_analysis, write)
        for name, write in ANALYSES.items()
        for suffix in ("", ".csv")
    },
    "population.masses": Format("masses/population.json", _read_analysis, _write_mass_population),
}


def keys_of(path: Path) -> set[str]:
    """The keys of a file: nested keys, columns, attributes, or names of tensors.

    Nested keys are joined by dots, and all elements of a list count as one (`[]`). A CSV file has
    its columns and the keys of the JSON file beside it.
    """
    if path.suffix == ".json":
        return _nested(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".yaml":
        return _nested(yaml.safe_load(path.read_text(encoding="utf-8")))
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            columns = {f"column {name}" for name in next(csv.reader(file))}
        return columns | keys_of(path.with_name(f"{path.name}.json"))
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            return {f"metadata {key}" for key in file.metadata()} | set(file.keys())
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            names: set[str] = set()
            file.visit(names.add)
            return names | {f"attribute {key}" for key in file.attrs}
    raise ValueError(f"{path}: keys of {path.suffix} files are not read here")


def _nested(content: Any, prefix: str = "") -> set[str]:
    if isinstance(content, dict):
        pairs = [(f"{prefix}.{key}".lstrip("."), value) for key, value in content.items()]
    elif isinstance(content, list) and any(isinstance(item, dict | list) for item in content):
        pairs = [(f"{prefix}[]", item) for item in content]
    else:
        return {prefix}
    return {prefix, *(key for name, value in pairs for key in _nested(value, name))} - {""}


def header_of(path: Path) -> dict[str, Any]:
    """The keys of a file that say its format; for a CSV file those of the JSON file beside it."""
    if path.suffix == ".csv":
        return header_of(path.with_name(f"{path.name}.json"))
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            return dict(file.metadata())
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return dict(file.attrs)
    text = path.read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)  # JSON is YAML
    return content


def test_every_format_has_a_golden_file() -> None:
    # ONNX files are tested with the export; measurements have keys of their own.
    assert {name.partition(".")[0] for name in GOLDEN} == set(FORMATS) - {"onnx", "measurement"}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_file_has_the_header_of_its_format(name: str) -> None:
    header = header_of(FOLDER / GOLDEN[name].file)
    format_name = name.partition(".")[0]
    assert header["format"] == f"{PREFIX}{format_name}"
    assert int(header["format_version"]) == FORMATS[format_name]
    assert header["halometry_version"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_file_is_read(name: str) -> None:
    GOLDEN[name].read(FOLDER / GOLDEN[name].file)


@pytest.mark.parametrize("name", GOLDEN)
def test_new_file_has_the_golden_keys(name: str, tmp_path: Path) -> None:
    golden = GOLDEN[name]
    golden.write(tmp_path / golden.file)
    assert keys_of(tmp_path / golden.file) == keys_of(FOLDER / golden.file)


if __name__ == "__main__":
    for format_name in sys.argv[1:]:
        GOLDEN[format_name].write(FOLDER / GOLDEN[format_name].file)
