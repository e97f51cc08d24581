"""What the tests of the command share."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import Command

import halometry


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
