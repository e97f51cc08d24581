"""Simulated datasets: same bytes with any number of processes; missing shards are remade."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halometry.datasets.generate import simulate
from halometry.datasets.manifest import Manifest
from halometry.errors import UsageError
from helpers.resumed_dataset import COUNT, OPTIONS, PRESET, again, content


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole.parent, tmp_path / "copy")
    return tmp_path / "copy" / "set.h5"


def test_two_processes_write_the_same_bytes_as_one(whole: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # HDF5 would count seconds, if it wrote down the time
    assert content(again(tmp_path / "set.h5", workers=2)) == content(whole)


@pytest.mark.slow
def test_four_processes_write_the_same_bytes_as_one(whole: Path, tmp_path: Path) -> None:
    assert content(again(tmp_path / "set.h5", workers=4)) == content(whole)


def test_images_do_not_depend_on_shard_size(whole: Path, tmp_path: Path) -> None:
    import h5py

    other = again(tmp_path / "set.h5", shard_size=150)
    with h5py.File(whole) as a, h5py.File(other) as b:
        assert len(b["shards"]) == 2
        assert (a["images"][:] == b["images"][:]).all()
        assert (a["parameters/subhalo_x"][:] == b["parameters/subhalo_x"][:]).all()


def truncate_shard(folder: Path) -> None:
    os.truncate(folder / "00002.h5", 3000)


def truncate_shard_without_index(folder: Path) -> None:
    truncate_shard(folder)
    remove_index(folder)


def remove_shard(folder: Path) -> None:
    (folder / "00002.h5").unlink()


def remove_index(folder: Path) -> None:
    folder.with_suffix(".h5").unlink()
    (folder / "SHA256SUMS").unlink()


def leave_partial_files(folder: Path) -> None:
    remove_shard(folder)
    (folder / "00002.h5.0123abcd.partial").write_bytes(b"half")
    (folder.parent / "set.h5.0123abcd.partial").write_bytes(b"half")


@pytest.mark.parametrize(
    "damage",
    [
        truncate_shard,
        truncate_shard_without_index,
        remove_shard,
        remove_index,
        leave_partial_files,
    ],
)
def test_only_missing_and_truncated_files_are_made_again(
    whole: Path, copy: Path, damage: Callable[[Path], None]
) -> None:
    folder = copy.with_suffix(".shards")
    damage(folder)
    intact = [folder / name for name in ("00000.h5", "00001.h5", "00003.h5")]
    before = [path.stat().st_mtime_ns for path in intact]
    again(copy)
    assert content(copy) == content(whole)
    assert [path.stat().st_mtime_ns for path in intact] == before
    assert len(list(copy.parent.iterdir())) == 2


def test_complete_dataset_is_not_touched(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="halometry")
    files = [copy, *copy.with_suffix(".shards").glob("[!.]*")]
    before = [path.stat().st_mtime_ns for path in files]
    again(copy, workers=2)
    assert "set.h5: complete already" in caplog.text
    assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 4}, r"set\.shards: holds a set with seed 3 \(now 4\); choose another --out"),
        ({"shard_size": 64}, r"shard_size 32 \(now 64\)"),
        ({"n_test": 0, "seed": 9}, r"seed 3 \(now 9\), n_test 20 \(now 0\)"),
        ({"count": 300}, r"count 200 \(now 300\)"),
    ],
)
def test_existing_dataset_with_other_settings_is_refused(
    whole: Path, copy: Path, changed: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        again(copy, **changed)
    assert content(copy) == content(whole)


def test_existing_dataset_of_changed_preset_is_refused(copy: Path, tmp_path: Path) -> None:
    from halometry.simulation import load_preset, preset_text

    mine = tmp_path / "mine.yaml"
    text = preset_text(PRESET)
    mine.write_text(text.replace("mass_scale: 4", "mass_scale: 2"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds a set with preset\.mass_scale 4\.0 \(now 2\.0\);"):
        simulate(mine, COUNT, out=copy, **OPTIONS)
    described = load_preset(PRESET).model_copy(update={"description": "Of\n" + "x " * 99})
    long_value = r"preset\.description .{9,40} \(now Of x .{9,40} \.\.\.\)"
    with pytest.raises(UsageError, match=long_value):
        simulate(described, COUNT, out=copy, **OPTIONS)


def test_overwrite_removes_existing_dataset(copy: Path, tmp_path: Path) -> None:
    other = again(tmp_path / "other" / "set.h5", 40, seed=8)
    assert content(again(copy, 40, seed=8, overwrite=True)) == content(other)


def test_foreign_folder_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "set.shards").mkdir()
    (tmp_path / "set.shards" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"is where the shards belong, but holds thesis\.tex"):
        again(tmp_path / "set.h5")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["set.shards", "thesis.tex"]


def test_shards_without_manifest_are_not_used(copy: Path, whole: Path) -> None:
    """They may have been made with other settings."""
    folder = copy.with_suffix(".shards")
    (folder / "manifest.yaml").unlink()
    copy.unlink()
    shutil.copy(folder / "00001.h5", folder / "00000.h5")
    assert content(again(copy)) == content(whole)


def test_two_processes_cannot_make_the_same_dataset(copy: Path) -> None:
    with (
        Manifest(copy).lock(),
        pytest.raises(UsageError, match="another process is making this set"),
    ):
        again(copy)
    again(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers 0: must be 'auto' or a number from 1"),
        ({"workers": "many"}, "--workers many: must be 'auto' or a number"),
        ({"shard_size": 0}, "--shard-size 0: must be at least 1"),
        ({"workers": 2, "scheduler": "tcp://h:1"}, "--workers is for this machine"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        again(tmp_path / "set.h5", **options)
    assert not list(tmp_path.iterdir())
