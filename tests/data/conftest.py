"""What the tests of simulated sets share."""

from __future__ import annotations

from pathlib import Path

import pytest
from remaking import again


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set, made in one go by this process."""
    return again(tmp_path_factory.mktemp("whole") / "set.h5")
