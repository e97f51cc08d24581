"""What the tests of training in several processes share."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import OPTIONS, PLAIN

from halometry.training.train import train


@pytest.fixture(scope="session")
def alone(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    return train("classification", lenses, PLAIN, out, overrides=OPTIONS, device="cpu").path
