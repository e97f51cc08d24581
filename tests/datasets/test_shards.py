"""Sharded datasets: read as one store from any folder; missing shards are reported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from halometry.datasets.generate import simulate
from halometry.datasets.index import verify_shards
from halometry.datasets.inputs import count_images, find_files
from halometry.datasets.open import open_dataset
from halometry.datasets.shards import plan_shards
from halometry.datasets.store import StoreWriter, open_store, read_attributes
from halometry.errors import DataError, UsageError
from halometry.simulation import load_preset, sample

COUNT, SHARD = 70, 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "lenses.h5"
    return simulate("demo_classification", COUNT, seed=2, out=out, shard_size=SHARD, n_test=10)


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be damaged."""
    shutil.copytree(dataset.parent, tmp_path / "copy")
    return tmp_path / "copy" / "lenses.h5"


def test_shards_are_read_as_one_store(dataset: Path) -> None:
    images, scene = sample(load_preset("demo_classification"), 2, 0, COUNT)
    with h5py.File(dataset) as file:
        np.testing.assert_array_equal(file["images"][:], images.numpy())
        np.testing.assert_array_equal(file["labels"][:], scene.labels)
        for name, values in scene.parameters().items():
            np.testing.assert_array_equal(file["parameters"][name][:], values)
        assert file["parameters/halo_mass"].attrs["unit"] == "Msun"
        assert list(file["shards"]["start"]) == [0, 32, 64]
        assert list(file["shards"]["count"]) == [32, 32, 6]


def test_each_shard_is_a_store(dataset: Path) -> None:
    whole = open_dataset(dataset)
    for k, start in enumerate((0, 32, 64)):
        part = open_dataset(dataset.parent / "lenses.shards" / f"{k:05d}.h5")
        stop = start + len(part)
        np.testing.assert_array_equal(part.images, whole.images[start:stop])
        np.testing.assert_array_equal(part.roles, whole.roles[start:stop])
        assert part.attributes["start"] == start
    assert "start" not in whole.attributes
    assert np.count_nonzero(whole.roles == "test") == 10


def test_files_have_no_date(dataset: Path) -> None:
    with open_store(dataset) as file:
        assert "date" not in read_attributes(file)


def test_profiler_does_not_change_the_bytes(tmp_path: Path) -> None:
    """A profiler keeps frames, and with them HDF5 handles; Dask's workers have one."""
    main, stop = threading.get_ident(), threading.Event()

    def profile() -> None:
        while not stop.wait(0.002):
            frame, held = sys._current_frames().get(main), []
            while frame is not None:
                held.append(frame)
                frame = frame.f_back

    plain = simulate("demo_mass", 64, out=tmp_path / "plain" / "a.h5", shard_size=32)
    profiler = threading.Thread(target=profile)
    profiler.start()
    try:
        profiled = simulate("demo_mass", 64, out=tmp_path / "watched" / "a.h5", shard_size=32)
    finally:
        stop.set()
        profiler.join()
    for file in ("a.h5", "a.shards/00000.h5", "a.shards/00001.h5"):
        assert (profiled.parent / file).read_bytes() == (plain.parent / file).read_bytes()


def test_documentation_of_formats_is_correct(dataset: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reference/formats.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    check = "assert images.shape[0] == len(labels) == len(mass) and unit == 'Msun' and seed == 2\n"
    done = subprocess.run([sys.executable, "-c", "\n".join([*blocks, check])], cwd=dataset.parent,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 shards are as they were written\n"
    command = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    if shutil.which("sha256sum"):
        subprocess.run(command, cwd=dataset.with_suffix(".shards"), check=True)
    with h5py.File(dataset) as file:
        text = page.read_text(encoding="utf-8")
        for name in (*file.attrs, *file["shards"].dtype.names):
            assert f"`{name}`" in text


@pytest.mark.parametrize("name", ["lenses", "ein 50%b ü", "a.b.hdf5", "x.h5"])
def test_file_names_with_special_characters(tmp_path: Path, name: str) -> None:
    path = simulate("demo_mass", 40, out=tmp_path / name, shard_size=32)
    with h5py.File(path) as file:
        assert file["images"][:].min(axis=0).max() > 0
        assert file["labels"][39] > 0
    assert verify_shards(path) == 2


def test_dataset_is_read_from_any_folder_and_through_links(
    dataset: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = open_dataset(dataset).images
    moved = tmp_path / "elsewhere" / "deeper"
    moved.mkdir(parents=True)
    shutil.move(copy, moved / "renamed.h5")
    shutil.move(copy.with_suffix(".shards"), moved / "lenses.shards")
    link = tmp_path / "link.h5"
    link.symlink_to(moved / "renamed.h5")
    for folder, path in [
        (tmp_path, Path("elsewhere/deeper/renamed.h5")),
        (moved, Path("renamed.h5")),
        (Path("/"), moved / "renamed.h5"),
        (moved.parent, Path("../elsewhere/deeper/renamed.h5")),
        (tmp_path, Path("link.h5")),
    ]:
        monkeypatch.chdir(folder)
        np.testing.assert_array_equal(open_dataset(path).images, expected)
        with open_store(path) as file:
            monkeypatch.chdir("/")
            np.testing.assert_array_equal(file["images"][:], expected)


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.with_suffix(".shards"))


def remove_shard(path: Path) -> None:
    (path.with_suffix(".shards") / "00001.h5").unlink()


def truncate_shard(path: Path) -> None:
    os.truncate(path.with_suffix(".shards") / "00002.h5", 5000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            remove_folder,
            r"lenses\.h5: its images are in the folder lenses\.shards/, which is not beside",
        ),
        (
            remove_shard,
            r"00001\.h5: cannot be read .* has images 32 to 63 in it; copy or make it again",
        ),
        (truncate_shard, r"00002\.h5: has 5,000 bytes where .*lenses\.h5 expects"),
    ],
)
def test_missing_shards_are_not_read_as_zeros(
    copy: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(copy)
    for use in (open_store, open_dataset, verify_shards):
        with pytest.raises(DataError, match=message):
            use(copy)


def test_verify_finds_a_single_wrong_bit(copy: Path) -> None:
    assert verify_shards(copy) == 3
    flip_bit(copy.with_suffix(".shards") / "00001.h5")
    with pytest.raises(DataError, match=r"1 of 3 shards are damaged \(lenses.shards/00001.h5\)"):
        verify_shards(copy)


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_single_file_is_a_store_without_checksums(tmp_path: Path) -> None:
    path = tmp_path / "single.h5"
    with StoreWriter(path, count=4, shape=(1, 8, 8), task="regression") as writer:
        writer.write(0, np.ones((4, 1, 8, 8)), np.full(4, 0.1))
    assert len(open_dataset(path)) == 4
    with pytest.raises(DataError, match="is a single file, without checksums"):
        verify_shards(path)


def test_images_of_shards_are_counted_once(copy: Path) -> None:
    assert find_files(copy.parent) == [copy]
    assert count_images([copy.parent]) == COUNT
    assert count_images([copy.with_suffix(".shards")]) == COUNT


def test_too_many_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="--shard-size 32: makes more than 200 files.*at least 512"
    ):
        simulate("demo_mass", 100_000, out=tmp_path / "a.h5", shard_size=32)
    assert not list(tmp_path.iterdir())


def test_auto_workers_starts_processes_only_if_they_save_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from halometry.datasets import generate

    monkeypatch.setattr(generate, "available_cores", lambda: 4)
    for preset, count, expected in (
        ("demo_mass", 4000, 1),
        ("demo_mass", 40_000, 4),
        ("common_test_1", 2000, 1),
        ("common_test_1", 4000, 4),
    ):
        size = generate._shard_size(count, None)
        plan = plan_shards(Path("set.h5"), count, size)
        tasks = generate._tasks(plan, load_preset(preset), 0, "cpu", count, Path("set.h5"))
        assert generate._processes("auto", tasks) == expected, (preset, count)
        assert generate._processes(2, tasks) == 2
