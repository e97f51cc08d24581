"""Errors of the command: one line on standard error and an exit status."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import halometry
from helpers.terminal import QUICK, Command, Outcome


def make_class_folders(root: Path, n_images: dict[str, int], side: int = 48) -> Path:
    """Class folders with this number of arrays of noise in each."""
    for name, count in n_images.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            np.save(root / name / f"{i}.npy", np.random.default_rng(i).random((side, side)))
    return root


def make_nothing(folder: Path) -> Path:
    return folder / "gone"


def make_empty_folder(folder: Path) -> Path:
    (folder / "set").mkdir()
    return folder / "set"


def make_one_class(folder: Path) -> Path:
    return make_class_folders(folder / "set", {"no": 3})


def make_mixed_shapes(folder: Path) -> Path:
    dataset = make_class_folders(folder / "set", {"no": 20, "vort": 20})
    np.save(dataset / "vort" / "7.npy", np.random.default_rng(0).random((50, 50)))
    return dataset


def make_nan_image(folder: Path) -> Path:
    dataset = make_class_folders(folder / "set", {"no": 20, "vort": 20})
    np.save(dataset / "vort" / "7.npy", np.full((48, 48), np.nan))
    return dataset


def make_constant_image(folder: Path) -> Path:
    dataset = make_class_folders(folder / "set", {"no": 20, "vort": 20})
    np.save(dataset / "vort" / "7.npy", np.full((48, 48), 3.0))
    return dataset


def make_truncated_file(folder: Path) -> Path:
    dataset = make_class_folders(folder / "set", {"no": 20, "vort": 20})
    file = dataset / "vort" / "7.npy"
    file.write_bytes(file.read_bytes()[:300])
    return dataset


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_nothing, "gone: no such file or folder"),
        (make_empty_folder, "set: no images found; a folder of class folders"),
        (make_one_class, "set: has images of one class only (no); at least two class folders"),
        (make_mixed_shapes, "7.npy"),
        (make_nan_image, "7.npy: has 2304 of 2304 pixels that are not finite"),
        (make_constant_image, "7.npy: is constant: every pixel is 3"),
        (make_truncated_file, "7.npy: is truncated"),
    ],
)
def test_train_refuses_a_bad_dataset(
    command: Command, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    data = make(tmp_path)
    failed = command("train", "--task", "classification", "--data", data,
                     "--backbone", "resnet18", "--out", tmp_path / "run", *QUICK)  # fmt: skip
    assert failed.status == 1
    assert message in failed.err
    assert_one_line(failed)
    assert not (tmp_path / "run").exists()


def assert_one_line(failed: Outcome) -> None:
    """Check that the error is one line, the last one, and no traceback."""
    assert "Traceback" not in failed.err + failed.out
    errors = [line for line in failed.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert failed.err.splitlines()[-1] == errors[0]


def test_train_refuses_a_mass_fraction_out_of_range(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "lens_data"
    folder.mkdir()
    for i, mass in enumerate([0.01, 0.02, -0.5] + [0.03] * 9):
        pair = np.empty(2, dtype=object)
        pair[0], pair[1] = np.random.default_rng(i).random((48, 48)), mass
        np.save(folder / f"image_{i}.npy", pair, allow_pickle=True)
    failed = command("train", "--task", "regression", "--data", tmp_path,
                     "--backbone", "resnet18", "--out", tmp_path / "run", *QUICK)  # fmt: skip
    assert failed.status == 1
    assert "image_2.npy" in failed.err
    assert "-0.5" in failed.err
    assert_one_line(failed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulate", "comon_test_1", "--out", "x.h5"], "did you mean 'common_test_1'?"),
        (["simulate", "model_1", "--count", "5", "--n-test", "5", "--out", "x.h5"], "test 5"),
        (["simulate", "model_1", "--out", "."], ".: is a folder; give the name of a file"),
        (["presets", "modl_1"], "did you mean 'model_1'?"),
        (["recipes", "defalt"], "did you mean 'default'?"),
        (["backbones", "resnet81"], "unknown backbone 'resnet81', did you mean"),
        (["show", "halo_mas"], "did you mean 'halo_mass'?"),
        (["fit", "x.npy", "--preset", "model_1", "--mass-map"], "--mass-map: needs --out"),
    ],
)
def test_unknown_name_gets_a_hint(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    failed = command(*words)
    assert failed.status == 2
    assert message in failed.err
    assert_one_line(failed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set", "learning_rat=1"], "unknown key 'learning_rat', did you mean 'learning_rate'?"),
        (["--set", "batch_size=0"], "'batch_size' = 0"),
        (["--set", "epochs"], "--set epochs"),
        (["--recipe", "gone.yaml"], "gone.yaml"),
        (["--target", "log"], "--target is for --task regression"),
        (["--device", "cuda:99"], "device 'cuda:99' is not usable here"),
        (["--backbone", "mobilenet"], "unknown backbone 'mobilenet'"),
    ],
)
def test_train_refuses_a_wrong_option(
    command: Command, lenses: Path, tmp_path: Path, extra: list[str], message: str
) -> None:
    failed = command("train", "--task", "classification", "--data", lenses, "--backbone",
                     "resnet18", "--out", tmp_path / "run", *extra)  # fmt: skip
    assert failed.status == 2
    assert message in failed.err
    assert_one_line(failed)
    assert not (tmp_path / "run").exists()


def test_misspelled_recipe_key_gets_a_hint(command: Command, lenses: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\ndescription: A test.\nepoch: 3\n")
    failed = command("train", "--task", "classification", "--data", lenses, "--backbone",
                     "resnet18", "--out", tmp_path / "run", "--recipe", recipe)  # fmt: skip
    assert failed.status == 2
    assert f"{recipe}: unknown key 'epoch', did you mean 'epochs'?" in failed.err
    assert_one_line(failed)


def test_evaluate_refuses_a_dataset_of_the_other_task(
    command: Command, run: Path, masses: Path
) -> None:
    failed = command("evaluate", run, "--data", masses, "--out", run.parent / "e")
    assert failed.status == 1
    assert f"{run}: is a run for classification, {masses} is for regression" in failed.err
    assert_one_line(failed)


def test_folder_without_config_is_not_a_run(command: Command, lenses: Path, tmp_path: Path) -> None:
    for words in (["evaluate", tmp_path, "--data", lenses, "--out", tmp_path / "e"],
                  ["predict", tmp_path, lenses]):  # fmt: skip
        failed = command(*words)
        assert failed.status == 1
        assert f"{tmp_path}: is not a run folder (it has no config.yaml)" in failed.err
        assert_one_line(failed)


def test_simulate_replaces_a_dataset_only_with_overwrite(command: Command, tmp_path: Path) -> None:
    words = ["simulate", "demo_mass", "--count", "3", "--out", str(tmp_path / "a.h5")]
    assert command(*words).status == 0
    before = (tmp_path / "a.h5").read_bytes()
    again = command(*words)
    assert again.status == 0
    assert "a.h5: complete already" in again.err
    failed = command(*words, "--seed", 4)
    assert failed.status == 2
    message = f"{tmp_path / 'a.shards'}: holds a set with seed 0 (now 4); choose another --out"
    assert message in failed.err
    assert_one_line(failed)
    assert (tmp_path / "a.h5").read_bytes() == before
    assert command(*words, "--seed", 4, "--overwrite").status == 0
    assert (tmp_path / "a.h5").read_bytes() != before


def test_predict_counts_unreadable_files(command: Command, run: Path, tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.npy").write_bytes(b"x")
    failed = command("predict", run, tmp_path, "--out", tmp_path / "p.csv")
    assert failed.status == 1
    assert failed.out.count("not read: ") == 3
    assert "... and 2 more; see the column 'error'" in failed.out
    assert f"0 of 5 predicted -> {tmp_path / 'p.csv'}" in failed.out


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="a small disk needs root")
def test_full_disk_is_one_error(command: Command, lenses: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        failed = command("simulate", "demo_mass", "--count", 300, "--out", disk / "a.h5")
        assert failed.status == 1
        shard = disk / "a.shards" / "00000.h5"
        assert f"{shard}: cannot be written: the disk is full; free space" in failed.err
        assert_one_line(failed)
        assert not shard.exists()
        failed = command("train", "--task", "classification", "--data", lenses, "--backbone",
                         "resnet18", "--out", disk / "run", *QUICK)  # fmt: skip
        assert failed.status == 1
        assert "No space left on device" in failed.err
        assert_one_line(failed)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_simulate_refuses_a_folder_that_cannot_be_made(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "a.h5"
    failed = command("simulate", "demo_mass", "--count", 3, "--out", out)
    assert failed.status == 1
    assert f"{out.parent}: cannot be made" in failed.err
    assert_one_line(failed)


def test_full_gpu_memory_is_one_error(
    command: Command, lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("halometry.training.train.configure", raise_out_of_memory)
    words = ("train", "--task", "classification", "--data", lenses, "--out", tmp_path / "run")
    failed = command(*words, "--backbone", "mobilenetv3_small")
    assert "the GPU's memory is not enough; use a smaller --set batch_size" in failed.err
    assert_one_line(failed)


def test_debug_raises_the_error(command: Command, tmp_path: Path) -> None:
    for words in (["--debug", "evaluate"], ["evaluate", "--debug"]):
        with pytest.raises(halometry.errors.RunError):
            command(*words, tmp_path, "--data", tmp_path, "--out", tmp_path / "e")


@pytest.mark.parametrize("words", [["nonsense"], ["train"], ["simulate", "model_1", "--coun", "1"]])
def test_usage_error_has_exit_status_two(command: Command, words: list[str]) -> None:
    failed = command(*words)
    assert failed.status == 2
    assert "Traceback" not in failed.err
