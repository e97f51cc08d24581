"""What the tests of evaluation share."""

from __future__ import annotations

from pathlib import Path

import pytest
from compared import NETWORKS, QUICK

from halometry.compare.compare import Comparison, compare


@pytest.fixture(scope="session")
def classes(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "classes"
    return compare("classification", lenses, NETWORKS, out, overrides=QUICK)


@pytest.fixture(scope="session")
def fractions(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "masses"
    return compare("regression", masses, NETWORKS, out, overrides=QUICK)
