"""The same bytes by any number of processes, and whatever is killed, damaged or full."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

from halometry.data.generate import simulate
from halometry.data.ledger import Ledger
from halometry.errors import StorageError, UnavailableError, UsageError
from halometry.simulation import load_preset

PRESET, COUNT, SEED, SHARD = "demo_mass", 200, 3, 32
SHARDS = 7
OPTIONS: dict[str, Any] = {"seed": SEED, "shard": SHARD, "test": 20}
LONG = 1600  # images enough that a process can be met at work


def again(out: Path, count: int = COUNT, **changed: Any) -> Path:
    """The set of these tests, or what is left to do of it."""
    return simulate(PRESET, count, out=out, **(OPTIONS | changed))


def content(index: Path) -> dict[str, bytes]:
    """All files of a set."""
    files = [index, *index.with_suffix(".shards").iterdir()]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set, made in one go by this process."""
    return again(tmp_path_factory.mktemp("whole") / "set.h5")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole.parent, tmp_path / "copy")
    return tmp_path / "copy" / "set.h5"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that takes seconds."""
    return again(tmp_path_factory.mktemp("long") / "set.h5", LONG)


def sums(index: Path) -> int:
    """How many shards are noted as finished."""
    path = index.with_suffix(".shards") / "SHA256SUMS"
    return path.read_text().count("\n") if path.exists() else 0


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@contextmanager
def command(out: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, making the long set."""
    line = [sys.executable, "-m", "halometry", "simulate", PRESET, "--count", LONG, "--seed", SEED,
            "--shard", SHARD, "--test", 20, "--out", out, *words]  # fmt: skip
    process = subprocess.Popen(
        [str(word) for word in line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a background job's is not
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_two_processes_write_the_same_bytes_as_one(whole: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # HDF5 would count seconds, if it wrote down the time
    assert content(again(tmp_path / "set.h5", workers=2)) == content(whole)


@pytest.mark.slow
def test_four_processes_write_the_same_bytes_as_one(whole: Path, tmp_path: Path) -> None:
    assert content(again(tmp_path / "set.h5", workers=4)) == content(whole)


def test_the_division_into_shards_does_not_change_the_images(whole: Path, tmp_path: Path) -> None:
    import h5py

    other = again(tmp_path / "set.h5", shard=150)
    with h5py.File(whole) as a, h5py.File(other) as b:
        assert len(b["shards"]) == 2
        assert (a["images"][:] == b["images"][:]).all()
        assert (a["parameters/subhalo_x"][:] == b["parameters/subhalo_x"][:]).all()


def tiny(out: Path) -> Path:
    """A set of two shards that takes no time."""
    preset = load_preset(PRESET)
    image = preset.image.model_copy(update={"pixels": 16})
    return simulate(preset.model_copy(update={"image": image}), 34, SEED, out, shard=SHARD)


def killed_at(event: int, out: Path) -> None:
    """Make the tiny set, and die just before touching its files for the n-th time."""
    left = event

    def hook(name: str, values: tuple[Any, ...]) -> None:
        nonlocal left
        watched = name in ("open", "os.rename", "os.remove", "os.mkdir")
        if watched and str(values[0]).startswith(str(out.parent)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    tiny(out)


def test_a_kill_at_any_moment_costs_no_byte(tmp_path: Path) -> None:
    """Each file that is opened, renamed or removed marks a moment; a set is killed at each."""
    expected = content(tiny(tmp_path / "whole" / "set.h5"))
    context = get_context("forkserver")
    context.set_forkserver_preload(["halometry.data.generate", "psutil", "pytest"])
    kept, event, ended = set(), 0, False
    while not ended:
        out = tmp_path / str(event) / "set.h5"
        process = context.Process(target=killed_at, args=(event, out))
        process.start()
        process.join(60)
        ended = process.exitcode == 0
        assert ended or process.exitcode == -signal.SIGKILL
        kept.add(sums(out))
        tiny(out)
        assert content(out) == expected, f"killed at its file event {event}"
        assert [path.name for path in out.parent.iterdir()].count("set.h5") == 1
        assert len(list(out.parent.iterdir())) == 2
        event += 1
    assert event > 20
    assert kept == {0, 1, 2}


def test_a_killed_command_is_gone_on_with_by_another_number_of_processes(
    long: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        until(lambda: sums(out) >= 3 or process.poll() is not None)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # the workers are not told, and must notice
        psutil.wait_procs(workers, timeout=20)
        assert not any(worker.is_running() for worker in workers)
    assert not out.exists()
    noted = sums(out)
    assert 3 <= noted < LONG // SHARD
    folder = out.with_suffix(".shards")
    finished = re.findall(r"\d{5}\.h5", (folder / "SHA256SUMS").read_text())
    first = {name: (folder / name).stat().st_mtime_ns for name in finished}
    again(out, LONG, workers=1)
    assert content(out) == content(long)
    assert first == {name: (folder / name).stat().st_mtime_ns for name in first}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 2, 3, 4, 5, 6])
def test_a_killed_process_tree_is_gone_on_with(long: Path, tmp_path: Path, seconds: float) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    again(out, LONG, workers=1 + int(seconds) % 2)
    assert content(out) == content(long)


def test_ctrl_c_stops_the_workers_and_keeps_what_is_finished(long: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        until(lambda: sums(out) >= 2 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; repeat the same command to go on" in said
    assert "Traceback" not in said
    folder = out.with_suffix(".shards")
    assert sums(out) == len(list(folder.glob("*.h5"))) < LONG // SHARD
    assert not list(folder.glob("*.partial"))
    again(out, LONG)
    assert content(out) == content(long)


def test_a_worker_that_is_killed_is_an_error_that_says_how_to_go_on(
    long: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set.h5"

    def kill_one() -> None:
        until(lambda: sums(out) >= 2)
        workers = psutil.Process().children(recursive=True)
        next(w for w in workers if "spawn_main" in " ".join(w.cmdline())).kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(UnavailableError, match="worker process ended.*repeat the command to go on"):
        again(out, LONG, workers=2)
    killer.join()
    assert sums(out) >= 2
    again(out, LONG)
    assert content(out) == content(long)


def spoil_a_bit(folder: Path) -> None:
    path = folder / "00002.h5"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def cut_short(folder: Path) -> None:
    os.truncate(folder / "00002.h5", 3000)


def remove(folder: Path) -> None:
    (folder / "00002.h5").unlink()


def forget(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(lines[:2] + lines[3:])[:-9])


def leave_pieces(folder: Path) -> None:
    remove(folder)
    (folder / "00002.h5.0123abcd.partial").write_bytes(b"half")
    (folder.parent / "set.h5.0123abcd.partial").write_bytes(b"half")


@pytest.mark.parametrize("spoil", [spoil_a_bit, cut_short, remove, forget, leave_pieces])
def test_only_what_is_not_right_is_made_again(
    whole: Path, copy: Path, spoil: Callable[[Path], None]
) -> None:
    folder = copy.with_suffix(".shards")
    spoil(folder)
    right = [folder / name for name in ("00000.h5", "00001.h5", "00003.h5")]
    before = [path.stat().st_mtime_ns for path in right]
    again(copy)
    assert content(copy) == content(whole)
    assert [path.stat().st_mtime_ns for path in right] == before
    assert len(list(copy.parent.iterdir())) == 2


def test_a_complete_set_is_left_alone(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [copy, *copy.with_suffix(".shards").glob("[!.]*")]
    before = [path.stat().st_mtime_ns for path in files]
    again(copy, workers=2)
    assert "set.h5: complete already" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 4}, r"set\.shards: holds a set with seed 3 \(now 4\); choose another --out"),
        ({"shard": 64}, r"shard 32 \(now 64\)"),
        ({"test": 0, "seed": 9}, r"seed 3 \(now 9\), test 20 \(now 0\)"),
        ({"count": 300}, r"count 200 \(now 300\)"),
    ],
)
def test_another_configuration_is_refused(
    whole: Path, copy: Path, changed: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        again(copy, **changed)
    assert content(copy) == content(whole)


def test_another_preset_of_the_same_name_is_refused(copy: Path, tmp_path: Path) -> None:
    from halometry.simulation import preset_text

    mine = tmp_path / "mine.yaml"
    text = preset_text(PRESET)
    mine.write_text(text.replace("mass_scale: 8", "mass_scale: 4"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds a set with preset\.mass_scale 8\.0 \(now 4\.0\);"):
        simulate(mine, COUNT, out=copy, **OPTIONS)


def test_overwriting_removes_what_was_there(copy: Path, tmp_path: Path) -> None:
    fresh = again(tmp_path / "fresh" / "set.h5", 40, seed=8)
    assert content(again(copy, 40, seed=8, overwrite=True)) == content(fresh)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set.shards").mkdir()
    (tmp_path / "set.shards" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"is where the shards belong, but holds thesis\.tex"):
        again(tmp_path / "set.h5")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["set.shards", "thesis.tex"]


def test_two_that_make_the_same_set_do_not_meet(copy: Path) -> None:
    ledger = Ledger(copy)
    with ledger.claim(), pytest.raises(UsageError, match="another process is making this set"):
        again(copy)
    again(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers 0: must be 'auto' or a number from 1"),
        ({"workers": "many"}, "--workers many: must be 'auto' or a number"),
        ({"shard": 0}, "--shard 0: must be at least 1"),
        ({"workers": 2, "scheduler": "tcp://h:1"}, "--workers is for this machine"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        again(tmp_path / "set.h5", **options)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for half a set."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=440k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root and mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_loses_nothing(whole: Path, small_disk: Path, workers: int) -> None:
    out = small_disk / "set.h5"
    with pytest.raises(StorageError, match=f"the disk is full; free.* of {SHARDS} shards are kept"):
        again(out, workers=workers)
    assert 0 < sums(out) < SHARDS
    assert not list(small_disk.rglob("*.partial"))
    with pytest.raises(StorageError, match="the disk is full"):
        again(out, workers=workers)  # still
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    kept = small_disk / "set.shards" / "00000.h5"
    before = kept.stat().st_mtime_ns
    again(out, workers=workers)
    assert content(out) == content(whole)
    assert kept.stat().st_mtime_ns == before
