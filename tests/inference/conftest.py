"""Two trained runs of other kinds, and the files exported from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from exporting import QUICK, images_of, settle

from halometry.massmaps.dataset import map_set
from halometry.publish.export import export
from halometry.runs.run import Run
from halometry.training.train import train


@pytest.fixture(scope="session")
def kinds(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Resized, three channels, scaled by each image's range."""
    out = tmp_path_factory.mktemp("runs") / "kinds"
    overrides = QUICK | {"size": 32, "channels": 3, "scale": "minmax"}
    run = train("classification", lenses, "mobilenetv3_small", out, overrides=overrides)
    settle(run, images_of(lenses))
    return run


@pytest.fixture(scope="session")
def masses_run(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The images' own size, the mean over eight forms."""
    out = tmp_path_factory.mktemp("runs") / "masses"
    overrides = QUICK | {"average_symmetries": True}
    run = train("regression", masses, "d4net", out, overrides=overrides)
    settle(run, images_of(masses))
    return run


@pytest.fixture(scope="session")
def kinds_file(kinds: Run) -> Path:
    return export(kinds, kinds.path.parent / "kinds.onnx").path


@pytest.fixture(scope="session")
def masses_file(masses_run: Run) -> Path:
    return export(masses_run.path, masses_run.path.parent / "masses.onnx").path


@pytest.fixture(scope="session")
def mapped(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return map_set(lenses, tmp_path_factory.mktemp("mapped") / "mapped.h5", workers=1)
