"""What the tests of labelled sets share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folders import Tree, image


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def make(counts: dict[str, int], side: int = 20) -> Path:
        for folder, count in counts.items():
            (tmp_path / folder).mkdir(parents=True)
            for i in range(count):
                np.save(tmp_path / folder / f"{i + 1}.npy", image(side))
        return tmp_path

    return make
