"""A run in one ONNX file: it answers as PyTorch does."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image as Picture

from halometry import cli
from halometry.datasets.readers import read_image
from halometry.errors import DataError, RunError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.predict import predict
from halometry.models.onnx import OnnxPredictor
from halometry.publish.export import export
from halometry.runs.run import Run
from halometry.training.train import train
from helpers.exporting import QUICK, exported_before, images_of, settle, table


def test_a_file_answers_as_the_run_folder(
    kinds: Run, kinds_file: Path, masses_run: Run, masses_file: Path, lenses: Path, masses: Path
) -> None:
    for run, file, images in ((kinds, kinds_file, lenses), (masses_run, masses_file, masses)):
        mine, theirs = (table(predict(one, images, batch_size=7)) for one in (file, run.path))
        assert theirs.std(axis=0).min() > 1e-2  # else nothing would be shown
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_any_number_of_images_at_once(kinds_file: Path, lenses: Path, batch: int) -> None:
    images = np.resize(images_of(lenses), (batch, 1, 48, 48))
    raw = onnxruntime.InferenceSession(kinds_file, providers=["CPUExecutionProvider"])
    (whole,) = raw.run(None, {"images": images.astype(np.float32)})
    answers = OnnxPredictor(kinds_file, "kinds.onnx", "cpu")(images)
    np.testing.assert_allclose(answers, whole, atol=1e-5)
    assert answers.shape == (batch, 3)


def test_what_files_hold_goes_in_as_it_is(
    kinds: Run, kinds_file: Path, lenses: Path, tmp_path: Path
) -> None:
    image = images_of(lenses)[4, 0]
    scaled = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    Picture.fromarray(scaled).save(tmp_path / "eight.png")
    Picture.fromarray(image.astype(np.uint16)).save(tmp_path / "sixteen.png")
    np.save(tmp_path / "minmax.npy", (image - image.min()) / np.ptp(image))
    np.save(tmp_path / "other_size.npy", np.random.default_rng(0).random((75, 61)) * 1000)
    np.save(tmp_path / "long.npy", image.astype(np.int64))
    mine, theirs = (table(predict(one, tmp_path)) for one in (kinds_file, kinds.path))
    np.testing.assert_allclose(mine, theirs, atol=1e-5)
    raw = image[None, None]
    one, two = (OnnxPredictor(kinds_file, "", "cpu")(raw.astype(t)) for t in (np.int32, np.float64))
    np.testing.assert_array_equal(one, two)


def test_color_runs_take_gray_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(8):
            np.save(tmp_path / "set" / name / f"{i}.npy", rng.random((3, 32, 32)))
    run = train("classification", tmp_path / "set", "d4net", tmp_path / "run", overrides=QUICK)
    settle(run, rng.random((8, 3, 32, 32)))
    file = export(run, tmp_path / "a.onnx").path
    np.save(tmp_path / "gray.npy", rng.random((32, 32)))
    np.save(tmp_path / "color.npy", rng.random((3, 32, 32)))
    files = [tmp_path / "gray.npy", tmp_path / "color.npy"]
    mine, theirs = (table(predict(one, files)) for one in (file, run.path))
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_it_is_judged_on_the_images_kept_aside(
    kinds: Run, kinds_file: Path, lenses: Path, masses: Path, tmp_path: Path
) -> None:
    mine, theirs = (evaluate(one, lenses, resamples=20) for one in (kinds_file, kinds.path))
    assert mine.description == theirs.description == "9 test images kept aside in training"
    np.testing.assert_array_equal(mine.rows, theirs.rows)
    np.testing.assert_allclose(mine.outputs, theirs.outputs, atol=1e-5)
    evaluate(kinds_file, lenses, tmp_path / "judged", resamples=20)
    record = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert record["run"] == str(kinds_file)
    with pytest.raises(RunError, match=r"kinds\.onnx: is a run for classification"):
        evaluate(kinds_file, masses)


def test_the_file_says_what_it_is_without_this_machines_paths(
    kinds: Run, kinds_file: Path, masses_file: Path
) -> None:
    model = onnx.load(kinds_file)
    onnx.checker.check_model(model, full_check=True)
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert said["format"] == "halometry-onnx"
    assert said["task"] == "classification"
    assert json.loads(said["class_names"]) == ["no", "sphere", "vort"]
    assert json.loads(said["image_shape"]) == [1, 48, 48]
    assert said["predictions"] == "probabilities of no, sphere, vort"
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for file in (kinds_file, masses_file)
        for value in (*onnx.load(file).graph.input, *onnx.load(file).graph.output)
    ]
    assert shapes[0] == ["batch", 1, "height", "width"]
    assert shapes[1] == ["batch", 3]
    assert shapes[2:] == [["batch", 1, 48, 48], ["batch"]]
    for place in (Path(__file__).parents[2], kinds.path.parent, Path(kinds.config.data.path)):
        assert str(place).encode() not in kinds_file.read_bytes()


def test_images_that_do_not_fit_are_rows(masses_file: Path, masses: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "1_good.npy", images_of(masses)[0])
    np.save(tmp_path / "2_small.npy", images_of(masses)[0, :, :20, :20])
    good, small = predict(masses_file, tmp_path)
    assert good.error is None
    assert small.error == "is 20 x 20 pixels, the run was trained on 48 x 48"
    with pytest.raises(RunError, match=r"m\.onnx: cannot predict images of shape \(1, 1, 9, 9"):
        OnnxPredictor(masses_file, "m.onnx", "cpu")(np.zeros((1, 1, 9, 9)))


def test_what_the_answers_are_compared_on(
    masses_run: Run, masses_file: Path, shared_data: Path, masses: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    exported_before(monkeypatch, masses_file)
    known = export(masses_run, tmp_path / "a.onnx")
    assert known.checked_on == f"images of {masses} (16)"
    assert known.difference < 1e-5
    with pytest.raises(DataError, match=r"no image fits the run; .*1\.npy is 150 x 150 pixels"):
        export(masses_run, tmp_path / "a.onnx", check=shared_data / "common_test_1")
    with pytest.raises(DataError, match=r"--check .*gone: no image fits the run; .*no such file"):
        export(masses_run, tmp_path / "a.onnx", check=tmp_path / "gone")
    for preset, checked in (
        ("demo_mass", "images simulated from demo_mass (16)"),
        (None, "images of noise (16; better give some with --check)"),
    ):
        gone = {"path": str(tmp_path / "gone"), "preset": preset}
        data = masses_run.config.data.model_copy(update=gone)
        moved = replace(masses_run, config=masses_run.config.model_copy(update={"data": data}))
        assert export(moved, tmp_path / "b.onnx").checked_on == checked


def test_real_images_are_answered_alike(
    kinds: Run, kinds_file: Path, shared_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    exported_before(monkeypatch, kinds_file)
    made = export(kinds, tmp_path / "a.onnx", check=shared_data / "common_test_1")
    assert made.checked_on.endswith("common_test_1 (16)")
    files = sorted((shared_data / "common_test_1").rglob("*.npy"))
    answers = OnnxPredictor(made.path, "", "cpu")(np.stack([read_image(f).pixels for f in files]))
    mine = table(predict(kinds.path, files))
    np.testing.assert_allclose(answers, mine, atol=1e-5)


def test_the_python_of_the_page_runs(
    kinds_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "export.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "my_images").mkdir()
    np.save(tmp_path / "my_images" / "1.npy", np.random.default_rng(0).random((32, 32)))
    (tmp_path / "resnet18.onnx").write_bytes(kinds_file.read_bytes())
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code, found)
    (answer,) = predict(kinds_file, tmp_path / "my_images")
    said = dict(zip(found["names"], found["predictions"][0].tolist(), strict=True))
    assert said == pytest.approx(answer.probabilities, abs=1e-5)


def test_the_command(
    kinds: Run, kinds_file: Path, lenses: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["halometry", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    exported_before(monkeypatch, kinds_file)
    monkeypatch.setenv("COLUMNS", "100")
    file = tmp_path / "model.onnx"
    status, out, _ = command("export", kinds.path, "--format", "onnx", "--out", file)
    assert status == 0
    assert f"{file}: 6." in out
    assert f" MB, checked on images of {lenses} (16)" in out
    assert "largest difference from the predictions of PyTorch: " in out
    status, out, _ = command("predict", file, lenses, "--out", tmp_path / "p.csv")
    assert (status, out.splitlines()[-1]) == (0, f"90 of 90 predicted -> {tmp_path / 'p.csv'}")
    status, out, _ = command("evaluate", file, "--data", lenses, "--out", tmp_path / "judged")
    assert status == 0
    assert "9 test images kept aside in training" in out
    status, _, err = command("export", kinds.path, "--out", tmp_path / "model.pb")
    assert status == 2
    assert "model.pb: must end in .onnx" in err
    assert len(err.strip().splitlines()) == 1
