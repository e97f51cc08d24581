"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import pytest

import halometry
import halometry.resources
from halometry.compare.compare import Comparison
from halometry.datasets.generate import simulate
from halometry.massmaps.dataset import map_mass
from halometry.publish.export import export
from halometry.publish.publish import publish_run
from halometry.runs.run import Run
from halometry.training.train import train
from helpers import comparison, exporting
from helpers.exporting import read_images, set_batch_statistics
from helpers.folders import Tree, image
from helpers.processes import OPTIONS, PLAIN
from helpers.resumed_dataset import again
from helpers.terminal import Command

# No doctests are in them, and --doctest-modules would import all of them by the one name.
collect_ignore_glob = ["*conftest.py"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own cache out of the tests."""
    monkeypatch.setenv("HALOMETRY_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session", autouse=True)
def _short_timings() -> Iterator[None]:
    """Time networks for a moment only when they are compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halometry.compare.compare.TIMING_SECONDS", 0.1)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published and observed images beside the checkout."""
    path = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the published and observed images (../shared/data) are not here")
    return path


@pytest.fixture(scope="session")
def lenses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set for classification."""
    path = tmp_path_factory.mktemp("sets") / "lenses.h5"
    return simulate("demo_classification", 90, seed=1, out=path)


@pytest.fixture(scope="session")
def masses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set for regression."""
    path = tmp_path_factory.mktemp("sets") / "masses.h5"
    return simulate("demo_mass", 90, seed=1, out=path)


@pytest.fixture(scope="session")
def published(lenses: Path, masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/` and, made of them, `weights/` as the package has them; all tiny."""
    home = tmp_path_factory.mktemp("published")
    options = {"epochs": 1, "precision": "float32", "channels_last": True}
    for task, data, preset in (
        ("classification", lenses, "demo_classification"),
        ("regression", masses, "demo_mass"),
    ):
        run = train(task, data, "test_resnet", home / "runs" / preset, overrides=options)
        publish_run(run, data, home / "weights" / preset / "tiny", license="mit", device="cpu")
    return home


@pytest.fixture
def shipped(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the package came with the weights of `published`, and with no others."""
    before = halometry.resources._folder

    def folder(name: str) -> Traversable:
        return published / name[5:] if name.startswith("runs/weights") else before(name)

    monkeypatch.setattr("halometry.resources._folder", folder)
    return published


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    return Command(capsys, monkeypatch)


@pytest.fixture(scope="session")
def run(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "classes"
    options = {"epochs": 1, "precision": "float32", "channels_last": True}
    return halometry.train(
        "classification", lenses, "mobilenetv3_small", out, overrides=options
    ).path


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set, made in one go by this process."""
    return again(tmp_path_factory.mktemp("whole") / "set.h5")


@pytest.fixture(scope="session")
def classes(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "classes"
    return comparison.compare_quickly("classification", lenses, out)


@pytest.fixture(scope="session")
def fractions(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "masses"
    return comparison.compare_quickly("regression", masses, out)


@pytest.fixture(scope="session")
def classifier(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that resizes images, repeats channels, and scales images to 0..1."""
    out = tmp_path_factory.mktemp("runs") / "classifier"
    overrides = exporting.QUICK | {"size": 32, "channels": 3, "scale": "minmax"}
    run = train("classification", lenses, "test_resnet", out, overrides=overrides)
    set_batch_statistics(run, read_images(lenses))
    return run


@pytest.fixture(scope="session")
def regressor(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run for the original image size, with TTA."""
    out = tmp_path_factory.mktemp("runs") / "masses"
    overrides = exporting.QUICK | {"tta": True}
    run = train("regression", masses, "d4net", out, overrides=overrides)
    set_batch_statistics(run, read_images(masses))
    return run


@pytest.fixture(scope="session")
def classifier_onnx(classifier: Run) -> Path:
    return export(classifier, classifier.path.parent / "classifier.onnx").path


@pytest.fixture(scope="session")
def regressor_onnx(regressor: Run) -> Path:
    return export(regressor.path, regressor.path.parent / "regressor.onnx").path


@pytest.fixture(scope="session")
def mapped(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return map_mass(lenses, tmp_path_factory.mktemp("mapped") / "mapped.h5", workers=1)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def make(counts: dict[str, int], side: int = 20) -> Path:
        for folder, count in counts.items():
            (tmp_path / folder).mkdir(parents=True)
            for i in range(count):
                np.save(tmp_path / folder / f"{i + 1}.npy", image(side))
        return tmp_path

    return make


@pytest.fixture(scope="session")
def alone(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    return train("classification", lenses, PLAIN, out, overrides=OPTIONS, device="cpu").path
