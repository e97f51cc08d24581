"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from halometry.data.generate import simulate


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
