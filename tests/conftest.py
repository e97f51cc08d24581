"""What all tests share."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path

import pytest

import halometry.resources
from halometry.datasets.generate import simulate
from halometry.publish.publish import publish
from halometry.training.train import train

# No doctests are in them, and --doctest-modules would import all of them by the one name.
collect_ignore_glob = ["*conftest.py"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own cache out of the tests."""
    monkeypatch.setenv("HALOMETRY_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout."""
    path = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real images (../shared/data) are not here")
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
        publish(run, data, home / "weights" / preset / "tiny", licence="mit", device="cpu")
    return home


@pytest.fixture
def shipped(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the package came with the weights of `published`, and with no others."""
    before = halometry.resources._folder

    def folder(name: str) -> Traversable:
        return published / name if name.startswith("weights") else before(name)

    monkeypatch.setattr("halometry.resources._folder", folder)
    return published
