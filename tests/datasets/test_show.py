"""Montages of presets, datasets and folders."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image as Picture

from halometry.datasets.open import open_dataset
from halometry.datasets.show import show
from halometry.errors import DataError, StorageError, UsageError


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_show_draws_preset(tmp_path: Path, suffix: str) -> None:
    path = show("demo_classification", tmp_path / f"m.{suffix}", count=3)
    assert path is not None
    assert path.stat().st_size > 1000


def test_show_draws_dataset_and_folder(lenses: Path, shared_data: Path, tmp_path: Path) -> None:
    for i, what in enumerate((lenses, shared_data / "common_test_1", open_dataset(lenses))):
        path = show(what, tmp_path / f"{i}.png", count=6)
        assert path is not None
        with Picture.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_show_logs_skipped_and_omitted_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    (tmp_path / "0.npy").write_bytes(b"no image")
    for i, side in enumerate((20, 30, 30), start=1):
        np.save(tmp_path / f"{i}.npy", np.arange(side * side).reshape(side, side))
    show(tmp_path, tmp_path / "m.pdf", count=2)
    assert "left out: " in caplog.text
    assert "0.npy: is not a NumPy file" in caplog.text
    assert "the first 2 of 4 images; see --count" in caplog.text


def test_show_refuses_invalid_arguments(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a file or folder nor a preset; did you mean"):
        show("common_test1", tmp_path / "x.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images found"):
        show(tmp_path / "empty", tmp_path / "x.png")
    with pytest.raises(UsageError, match="--count 0: must be at least 1"):
        show("model_1", tmp_path / "x.png", count=0)


def test_show_reports_unknown_format_and_missing_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"m\.xyz: cannot draw a '\.xyz' file; use \.png, \.svg"):
        show("demo_mass", tmp_path / "m.xyz", count=1)
    monkeypatch.setattr("matplotlib.get_backend", lambda: "agg")
    with pytest.raises(UsageError, match=r"no screen to show a window on; write a file with --out"):
        show("demo_mass", count=1)
    assert list(tmp_path.iterdir()) == []


def test_figure_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.png"
    path.write_text("earlier")

    def full(_: object, partial: Path, **__: object) -> None:
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", full)
    with pytest.raises(StorageError, match=r"m\.png: cannot be written \(No space left on device"):
        show("demo_mass", path, count=1)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]
