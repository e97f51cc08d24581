"""The command as a user types it: what it prints, its exit status, and how it fails."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import halometry
from halometry import cli
from halometry.data.store import open_store

QUICK = ["--epochs", "1", "--set", "precision=float32", "--set", "channels_last=true"]


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str


class Command:
    """Runs the command inside this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.capsys, self.patch = capsys, patch

    def __call__(self, *words: object) -> Outcome:
        self.capsys.readouterr()
        self.patch.setattr(sys, "argv", ["halometry", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Outcome(status, *self.capsys.readouterr())


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    return Command(capsys, monkeypatch)


@pytest.fixture(scope="module")
def run(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "classes"
    options = {"epochs": 1, "precision": "float32", "channels_last": True}
    return halometry.train(
        "classification", lenses, "mobilenetv3_small", out, overrides=options
    ).path


def test_from_images_to_answers(command: Command, tmp_path: Path) -> None:
    store, run = tmp_path / "l.h5", tmp_path / "run"
    made = command("simulate", "demo_classification", "--count", 60, "--seed", 1, "--out", store)
    assert (made.status, made.out) == (0, f"60 images -> {store}, with l.shards/ beside it\n")
    trained = command("train", "--task", "classification", "--data", store,
                      "--backbone", "mobilenetv3_small", "--out", run, *QUICK)  # fmt: skip
    assert trained.status == 0
    assert f"halometry evaluate {run} --data {store}" in trained.out
    judged = command("evaluate", run, "--data", store, "--out", tmp_path / "judged")
    assert judged.status == 0
    assert "accuracy" in judged.out
    assert (tmp_path / "judged" / "metrics.json").exists()
    answered = command("predict", run, store, "--out", tmp_path / "p.csv")
    assert answered.out == f"60 of 60 answered -> {tmp_path / 'p.csv'}\n"
    assert len(rows_of(tmp_path / "p.csv")) == 60
    drawn = command("show", store, "--out", tmp_path / "m.png", "--count", 3)
    assert drawn.status == 0


def test_the_demonstration_goes_through_and_is_not_repeated(
    command: Command, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.demonstration.PUBLISHED", ("demo_mass", "halo_mass"))
    monkeypatch.setattr("halometry.evaluation.at_work.COUNT", 30)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "name: tiny\ndescription: A test.\nscale: minmax\nepochs: 1\nsize: 32\n"
        "precision: float32\nchannels_last: true\nregression: {standardise_target: true}\n"
    )
    out = tmp_path / "demo"
    words = ("demo", "--out", out, "--count", 60, "--recipe", recipe)
    first = command(*words)
    assert first.status == 0
    assert first.out.rstrip().endswith(f"report: {out / 'report.html'}")
    assert first.out.count("efficientnet_b5") >= 2
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "several times heavier" in page
    assert "trained weights on 30 new images of demo_mass" in first.out
    assert '<a href="#trained">' in page
    assert "demo_mass: regression, 30 images, seed 1000001" in page
    assert "halo_mass" not in page
    weights = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert len(weights) == 8
    other = command("demo", "--out", out, "--count", 90, "--recipe", recipe)
    assert other.status == 2
    assert "holds a demonstration with --count 60 --seed 1; give the same to go on" in other.err
    second = command(*words)
    assert second.status == 0
    assert weights == {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}


def test_a_run_is_published_listed_and_used_by_name(
    command: Command, shipped: Path, lenses: Path, tmp_path: Path
) -> None:
    run, to = shipped / "runs" / "demo_classification", tmp_path / "mine"
    made = command("publish", run, "--data", lenses, "--to", to, "--license", "mit")
    assert made.status == 0
    assert "half precision changed no answer by more than" in made.out
    assert made.out.endswith(f"weights and card -> {to}\n")
    assert "model-index" in command("weights", to).out
    listed = command("weights").out
    for words in ("demo_classification/tiny", "AUC", "0.37 M", "demo_mass/tiny", "R²"):
        assert words in listed
    name, out = "demo_classification/tiny", tmp_path / "p.csv"
    assert command("predict", name, lenses, "--out", out).out == f"90 of 90 answered -> {out}\n"
    wrong = command("predict", "demo_classification/tinny", lenses)
    assert (wrong.status, "did you mean 'demo_classification/tiny'?" in wrong.err) == (1, True)
    nowhere = command("predict", "hf://lenses", lenses)
    assert (nowhere.status, "write it as hf://USER/REPO" in nowhere.err) == (2, True)


def test_without_weights_the_list_says_so(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.shipped._folder", lambda name: tmp_path / name)
    listed = command("weights")
    assert (listed.status, listed.out) == (
        0, "no weights came with this halometry; see 'halometry train'\n"
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["backbones", "presets", "recipes"])
def test_lists(command: Command, verb: str) -> None:
    listed = command(verb)
    assert listed.status == 0
    expected = {
        "backbones": ("mobilenetv3_small", "resnet18", "efficientnet_b5"),
        "presets": ("model_1", "common_test_1", "halo_mass"),
        "recipes": ("baseline", "default", "demo"),
    }[verb]
    for name in expected:
        assert name in listed.out


def test_one_preset_and_one_recipe_in_full(command: Command) -> None:
    assert "z_lens" in command("presets", "model_1").out
    shown = command("recipes", "baseline", "--task", "regression", "--backbone", "resnet18")
    assert shown.status == 0
    assert "learning_rate" in shown.out


def test_a_printed_preset_is_one_to_start_from(command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(command("presets", "demo_mass").out, encoding="utf-8")
    made = command("simulate", mine, "--count", 4, "--out", tmp_path / "a.h5")
    assert made.status == 0
    same = command("simulate", "demo_mass", "--count", 4, "--out", tmp_path / "b.h5")
    assert same.status == 0
    with open_store(tmp_path / "a.h5") as a, open_store(tmp_path / "b.h5") as b:
        np.testing.assert_array_equal(a["images"][:], b["images"][:])


def test_the_doctor_tells_versions(command: Command, tmp_path: Path) -> None:
    found = command("doctor", "--no-measure")
    for word in ("torch", "timm", "caustics", "memory", "cache", halometry.__version__):
        assert word in found.out


def test_the_doctor_finds_a_cache_that_cannot_be_written(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("HALOMETRY_CACHE", str(blocked / "cache"))
    found = command("doctor", "--no-measure")
    assert found.status == 1
    assert "cannot be written" in found.out
    assert "set HALOMETRY_CACHE" in found.out


def test_the_version(command: Command) -> None:
    assert command("--version").out == f"halometry {halometry.__version__}\n"


def class_folder(root: Path, classes: dict[str, int], side: int = 48) -> Path:
    """Class folders with so many arrays of noise in each."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            np.save(root / name / f"{i}.npy", np.random.default_rng(i).random((side, side)))
    return root


def wrong_path(p: Path) -> list[object]:
    return [p / "gone"]


def empty_folder(p: Path) -> list[object]:
    (p / "set").mkdir()
    return [p / "set"]


def one_class(p: Path) -> list[object]:
    return [class_folder(p / "set", {"no": 3})]


def mixed_shapes(p: Path) -> list[object]:
    folder = class_folder(p / "set", {"no": 20, "vort": 20})
    np.save(folder / "vort" / "7.npy", np.random.default_rng(0).random((50, 50)))
    return [folder]


def not_a_number(p: Path) -> list[object]:
    folder = class_folder(p / "set", {"no": 20, "vort": 20})
    np.save(folder / "vort" / "7.npy", np.full((48, 48), np.nan))
    return [folder]


def constant(p: Path) -> list[object]:
    folder = class_folder(p / "set", {"no": 20, "vort": 20})
    np.save(folder / "vort" / "7.npy", np.full((48, 48), 3.0))
    return [folder]


def truncated(p: Path) -> list[object]:
    folder = class_folder(p / "set", {"no": 20, "vort": 20})
    file = folder / "vort" / "7.npy"
    file.write_bytes(file.read_bytes()[:300])
    return [folder]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wrong_path, "gone: no such file or folder"),
        (empty_folder, "set: no images found; a folder of class folders"),
        (one_class, "set: has images of one class only (no); at least two class folders"),
        (mixed_shapes, "7.npy"),
        (not_a_number, "7.npy: has 2304 of 2304 pixels that are not finite"),
        (constant, "7.npy: is constant: every pixel is 3"),
        (truncated, "7.npy: is truncated"),
    ],
)
def test_bad_sets(command: Command, tmp_path: Path, make: object, message: str) -> None:
    (data,) = make(tmp_path)  # type: ignore[operator]
    failed = command("train", "--task", "classification", "--data", data,
                     "--backbone", "resnet18", "--out", tmp_path / "run", *QUICK)  # fmt: skip
    assert failed.status == 1
    assert message in failed.err
    assert_one_line(failed)
    assert not (tmp_path / "run").exists()


def assert_one_line(failed: Outcome) -> None:
    assert "Traceback" not in failed.err + failed.out
    said = [line for line in failed.err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert failed.err.splitlines()[-1] == said[0]


def test_a_mass_outside_its_range(command: Command, tmp_path: Path) -> None:
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
        (["simulate", "model_1", "--count", "5", "--test", "5", "--out", "x.h5"], "--test 5"),
        (["simulate", "model_1", "--out", "."], ".: is a folder; give the name of a file"),
        (["presets", "modl_1"], "did you mean 'model_1'?"),
        (["recipes", "defalt"], "did you mean 'default'?"),
        (["backbones", "resnet81"], "unknown backbone 'resnet81', did you mean"),
        (["show", "halo_mas"], "did you mean 'halo_mass'?"),
    ],
)
def test_unknown_names(
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
def test_wrong_options_of_train(
    command: Command, lenses: Path, tmp_path: Path, extra: list[str], message: str
) -> None:
    failed = command("train", "--task", "classification", "--data", lenses, "--backbone",
                     "resnet18", "--out", tmp_path / "run", *extra)  # fmt: skip
    assert failed.status == 2
    assert message in failed.err
    assert_one_line(failed)
    assert not (tmp_path / "run").exists()


def test_a_recipe_with_a_misspelt_key(command: Command, lenses: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\ndescription: A test.\nepoch: 3\n")
    failed = command("train", "--task", "classification", "--data", lenses, "--backbone",
                     "resnet18", "--out", tmp_path / "run", "--recipe", recipe)  # fmt: skip
    assert failed.status == 2
    assert f"{recipe}: unknown key 'epoch', did you mean 'epochs'?" in failed.err
    assert_one_line(failed)


def test_a_run_folder_of_the_other_task(command: Command, run: Path, masses: Path) -> None:
    failed = command("evaluate", run, "--data", masses, "--out", run.parent / "e")
    assert failed.status == 1
    assert f"{run}: is a run for classification, {masses} is for regression" in failed.err
    assert_one_line(failed)


def test_a_folder_that_is_no_run(command: Command, lenses: Path, tmp_path: Path) -> None:
    for words in (["evaluate", tmp_path, "--data", lenses, "--out", tmp_path / "e"],
                  ["predict", tmp_path, lenses]):  # fmt: skip
        failed = command(*words)
        assert failed.status == 1
        assert f"{tmp_path}: is not a run folder (it has no config.yaml)" in failed.err
        assert_one_line(failed)


def test_a_store_is_not_replaced_unasked(command: Command, tmp_path: Path) -> None:
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


def test_answers_for_bad_files_are_counted(command: Command, run: Path, tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.npy").write_bytes(b"x")
    failed = command("predict", run, tmp_path, "--out", tmp_path / "p.csv")
    assert failed.status == 1
    assert failed.out.count("not read: ") == 3
    assert "... and 2 more; see the column 'error'" in failed.out
    assert f"0 of 5 answered -> {tmp_path / 'p.csv'}" in failed.out


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="a small disk needs root")
def test_a_full_disk(command: Command, lenses: Path, tmp_path: Path) -> None:
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


def test_a_folder_that_may_not_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "a.h5"
    failed = command("simulate", "demo_mass", "--count", 3, "--out", out)
    assert failed.status == 1
    assert f"{out.parent}: cannot be made" in failed.err
    assert_one_line(failed)


def test_debug_shows_where(command: Command, tmp_path: Path) -> None:
    for words in (["--debug", "evaluate"], ["evaluate", "--debug"]):
        with pytest.raises(halometry.errors.RunError):
            command(*words, tmp_path, "--data", tmp_path, "--out", tmp_path / "e")


@pytest.mark.parametrize("words", [["nonsense"], ["train"], ["simulate", "model_1", "--coun", "1"]])
def test_usage_errors_have_status_two(command: Command, words: list[str]) -> None:
    failed = command(*words)
    assert failed.status == 2
    assert "Traceback" not in failed.err


def test_ctrl_c_says_how_to_go_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("halometry.simulation.preset_text", interrupted)
    stopped = command("presets", "model_1")
    assert stopped.status == 130
    assert "repeat the same command to go on" in stopped.err


def test_help_is_quick_and_names_every_verb() -> None:
    script = shutil.which("halometry", path=str(Path(sys.executable).parent))
    words = [script] if script else [sys.executable, "-m", "halometry"]
    shown = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True)
    for verb in ("simulate", "train", "evaluate", "compare", "predict", "export", "publish", "show",
                 "backbones", "instruments", "presets", "recipes", "weights", "doctor",
                 "demo"):  # fmt: skip
        assert verb in shown.stdout
    code = "import sys, halometry.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_verb_is_a_function_of_the_package() -> None:
    for verb in ("simulate", "train", "evaluate", "compare", "predict", "export", "publish", "show",
                 "backbones", "instruments", "presets", "recipes", "weights", "doctor",
                 "demo"):  # fmt: skip
        assert callable(getattr(halometry, verb))
