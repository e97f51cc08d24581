"""What a run remembers of its images: written with it, carried on, used by `predict`."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binom

import halometry
from halometry import hub
from halometry.datasets.generate import simulate
from halometry.errors import DataError, RunError
from halometry.evaluation.predict import predict
from halometry.publish.publish import publish_run
from halometry.runs.exported import ExportedRun
from halometry.runs.ood import NOVELTY, Watch, fit_ood_detector, read_familiar, watched
from halometry.runs.run import Run, load_run
from halometry.training.train import train

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "channels_last": True}
QUICK |= {"size": 24, "online_fraction": 0.0, "aux_loss_weight": 0.0}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("demo_classification", 480, seed=1, out=tmp_path_factory.mktemp("s") / "a.h5")


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "kinds"
    return train("classification", images, "test_resnet", out, overrides=QUICK)


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Run:
    """A copy that a test may damage."""
    return load_run(shutil.copytree(whole.path, tmp_path / "run"))


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).poisson(10, (48, 48)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    return tmp_path / "noise.npy"


def test_a_run_tells_familiar_images_from_others(whole: Run, strange: Path, tmp_path: Path) -> None:
    assert (whole.path / NOVELTY).stat().st_size < 100_000
    known = read_familiar(whole.path)
    assert known is not None
    fresh = simulate("demo_classification", 300, seed=2, out=tmp_path / "fresh.h5")
    answers = predict(whole, [fresh, strange], out=tmp_path / "p.csv")
    novelty = [answer.ood for answer in answers]
    assert novelty[-1] is not None
    assert novelty[-1].familiarity == pytest.approx(1 / (len(known.compared) + 1))
    flagged = sum(one is not None and one.unusual is not None for one in novelty[:-1])
    # Of the images compared with there are 21, so that the true rate is uncertain itself.
    assert flagged <= binom.ppf(1 - 1e-4, 300, 0.15)
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = "file,class,no,sphere,vort,set_90,familiarity,unusual,error"
    assert ",".join(rows[0]) == columns
    assert sum(bool(row["ood_reason"]) for row in rows) == flagged + 1
    assert rows[-1]["ood_reason"] == novelty[-1].unusual
    assert float(rows[0]["ood_p_value"]) == pytest.approx(novelty[0].familiarity, rel=0.01)


def test_answers_are_the_same_whether_or_not_anyone_watches(
    run: Run, lenses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = predict(run, lenses)
    (run.path / NOVELTY).unlink()
    capsys.readouterr()
    alone = predict(run, lenses)
    assert capsys.readouterr().err.count("cannot tell which images are unusual; write it anew") == 1
    assert [a.values for a in watching] == [a.values for a in alone]
    assert all(a.ood is None for a in alone)


def test_what_is_learnt_later_is_what_training_would_have_written(run: Run, images: Path) -> None:
    before = load_file(run.path / NOVELTY)
    (run.path / NOVELTY).unlink()
    assert fit_ood_detector(run, images) is not None
    after = load_file(run.path / NOVELTY)
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        torch.testing.assert_close(after[key], tensor, rtol=1e-3, atol=1e-5)


def test_a_larger_set_of_the_same_seed_will_do_and_no_other(
    run: Run, images: Path, tmp_path: Path
) -> None:
    larger = simulate("demo_classification", 500, seed=1, out=tmp_path / "larger.h5")
    before = load_file(run.path / NOVELTY)
    halometry.fit_ood_detector(run.path, larger)
    assert torch.equal(before["levels"], load_file(run.path / NOVELTY)["levels"])
    smaller = simulate("demo_classification", 60, seed=1, out=tmp_path / "smaller.h5")
    other = simulate("demo_classification", 60, seed=3, out=tmp_path / "other.h5")
    for wrong in (smaller, other):
        with pytest.raises(DataError, match=r"is not the set that .*run was trained on \(480 im"):
            fit_ood_detector(run, wrong)


def test_too_few_images_are_said_to_be(
    lenses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("classification", lenses, "test_resnet", tmp_path / "run", overrides=QUICK)
    said = capsys.readouterr().err
    assert "9 images that it has not learnt from are too few to know; 40 are needed" in said
    assert not (run.path / NOVELTY).exists()
    assert fit_ood_detector(run, lenses) is None


def test_masses_are_told_with_how_familiar_their_images_are(strange: Path, tmp_path: Path) -> None:
    masses = simulate("demo_mass", 480, seed=1, out=tmp_path / "m.h5")
    options = QUICK | {"channels": 3}
    run = train("regression", masses, "test_resnet", tmp_path / "run", overrides=options)
    predict(run, strange, out=tmp_path / "p.csv")
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "image,f_sub,conformal_lo_90,conformal_hi_90,ood_p_value,ood_reason,error"
    assert lines[1].split(",")[-2] in ("features", "light", "center", "spectrum", "noise", "unit")


def test_masses_of_images_in_another_unit_are_flagged_for_it(tmp_path: Path) -> None:
    lenses = halometry.open_dataset(simulate("halo_mass", 8, seed=2, out=tmp_path / "m.h5"))
    counts = np.asarray(lenses.images)
    kinds = {"scaled": counts / counts.max(), "brighter": 10 * counts, "hot": counts.copy()}
    kinds["hot"][..., 70, :] = 65535  # a row of the detector
    reasons = {
        kind: {a.ood.unusual for a in predict("halo_mass/d4net", images) if a.ood}
        for kind, images in kinds.items()
    }
    assert reasons["scaled"] == reasons["brighter"] == {"unit"}
    assert None not in reasons["hot"]
    assert "unit" not in reasons["hot"]


def test_of_an_average_over_symmetries_the_image_as_it_is_counts(run: Run, lenses: Path) -> None:
    def averaging(over: bool) -> Run:
        recipe = run.config.recipe.model_copy(update={"tta": over})
        return replace(run, config=run.config.model_copy(update={"recipe": recipe}))

    alone, mean = (predict(averaging(over), lenses) for over in (False, True))
    assert [a.values for a in alone] != [a.values for a in mean]
    for one, other in zip(alone, mean, strict=True):
        assert one.ood is not None
        assert other.ood is not None
        assert one.ood.strangeness == pytest.approx(other.ood.strangeness, rel=1e-3)


def test_the_weights_in_the_package_tell_lenses_from_noise(tmp_path: Path) -> None:
    lenses = simulate("common_test_1", 48, seed=2, out=tmp_path / "lenses.h5")
    novelty = [answer.ood for answer in predict("common_test_1/d4net", lenses)]
    flagged = sum(one is not None and one.unusual is not None for one in novelty)
    assert flagged <= binom.ppf(1 - 1e-4, 48, 0.015)
    for k, sky in enumerate((1, 10, 1000)):
        noise = np.random.default_rng(k).poisson(sky, (150, 150)).astype(np.float32)
        np.save(tmp_path / f"{sky}.npy", noise)
    others = predict("common_test_1/d4net", [tmp_path / f"{sky}.npy" for sky in (1, 10, 1000)])
    assert all(one.ood is not None and one.ood.unusual for one in others)


def test_published_weights_know_what_the_run_knew(run: Run, lenses: Path, tmp_path: Path) -> None:
    other = simulate("demo_classification", 30, seed=3, out=tmp_path / "other.h5")
    publish_run(run, other, tmp_path / "published", device="cpu")
    assert (tmp_path / "published" / NOVELTY).read_bytes() == (run.path / NOVELTY).read_bytes()
    assert NOVELTY in hub.RUN_FILES
    before, after = predict(run, lenses), predict(tmp_path / "published", lenses)
    pairs = [(a.ood, b.ood) for a, b in zip(before, after, strict=True)]
    for one, other in pairs:
        assert one is not None
        assert other is not None
        assert one.strangeness == pytest.approx(other.strangeness, rel=0.05)


def test_an_exported_file_cannot_tell_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ExportedRun, "answerer", lambda self, device: len)
    exported = ExportedRun(Path("model.onnx"), run.config, {})
    assert watched(exported) == (len, None)
    assert capsys.readouterr().err == (
        "model.onnx: an exported file cannot tell which images are unusual; a single run can\n"
    )


def test_a_damaged_file_is_named(run: Run, strange: Path) -> None:
    (run.path / NOVELTY).write_bytes(b"\x08")
    with pytest.raises(RunError, match=rf"{NOVELTY}: is damaged .*remove it, or write it anew"):
        predict(run, strange)
    save_file({"unit": torch.ones(())}, run.path / NOVELTY, {"version": "1"})
    with pytest.raises(RunError, match="is damaged .'levels'"):
        predict(run, strange)


def test_a_file_of_another_version_is_left_alone(run: Run) -> None:
    save_file(load_file(run.path / NOVELTY), run.path / NOVELTY, {"version": "99"})
    assert read_familiar(run.path) is None


def test_a_watch_follows_the_last_batch(run: Run) -> None:
    known = read_familiar(run.path)
    assert known is not None
    watch = Watch(known)
    answerer = run.answerer("cpu", watch.over)
    for count in (3, 1):
        answerer(np.random.default_rng(count).poisson(10, (count, 1, 48, 48)).astype(np.float32))
        assert len(watch.judge()) == count


def test_the_python_of_the_page_runs(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole.path, tmp_path / "runs" / "classes")
    simulate("demo_classification", 480, seed=1, out=tmp_path / "lenses.h5")
    (tmp_path / "my_images").mkdir()
    noise = np.random.default_rng(0).poisson(10, (150, 150)).astype(np.float32)
    np.save(tmp_path / "my_images" / "noise.npy", noise)
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "ood.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
    assert "Novelty(familiarity=0.000" in capsys.readouterr().out


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
