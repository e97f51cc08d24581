"""Exported runs: ONNX Runtime predicts as PyTorch does."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image as Picture

from halometry.datasets.readers import read_image
from halometry.errors import DataError, RunError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.predict import predict
from halometry.models.onnx import OnnxPredictor
from halometry.publish.export import export
from halometry.runs.run import Run
from halometry.training.train import train
from helpers.exporting import (
    QUICK,
    prediction_values,
    read_images,
    reuse_exported_file,
    set_batch_statistics,
)
from helpers.terminal import Command


def test_exported_file_predicts_as_its_run(
    classifier: Run,
    classifier_onnx: Path,
    regressor: Run,
    regressor_onnx: Path,
    lenses: Path,
    masses: Path,
) -> None:
    for run, file, images in (
        (classifier, classifier_onnx, lenses),
        (regressor, regressor_onnx, masses),
    ):
        exported, original = (
            prediction_values(predict(each, images, batch_size=7)) for each in (file, run.path)
        )
        assert original.std(axis=0).min() > 1e-2  # predictions differ from image to image
        np.testing.assert_allclose(exported, original, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_predictions_do_not_depend_on_the_batch_size(
    classifier_onnx: Path, lenses: Path, batch: int
) -> None:
    images = np.resize(read_images(lenses), (batch, 1, 48, 48))
    raw = onnxruntime.InferenceSession(classifier_onnx, providers=["CPUExecutionProvider"])
    (expected,) = raw.run(None, {"images": images.astype(np.float32)})
    predictions = OnnxPredictor(classifier_onnx, "classifier.onnx", "cpu")(images)
    np.testing.assert_allclose(predictions, expected, atol=1e-5)
    assert predictions.shape == (batch, 3)


def test_all_pixel_types_are_predicted_alike(
    classifier: Run, classifier_onnx: Path, lenses: Path, tmp_path: Path
) -> None:
    image = read_images(lenses)[4, 0]
    scaled = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    Picture.fromarray(scaled).save(tmp_path / "eight.png")
    Picture.fromarray(image.astype(np.uint16)).save(tmp_path / "sixteen.png")
    np.save(tmp_path / "minmax.npy", (image - image.min()) / np.ptp(image))
    np.save(tmp_path / "other_size.npy", np.random.default_rng(0).random((75, 61)) * 1000)
    np.save(tmp_path / "long.npy", image.astype(np.int64))
    exported, original = (
        prediction_values(predict(each, tmp_path)) for each in (classifier_onnx, classifier.path)
    )
    np.testing.assert_allclose(exported, original, atol=1e-5)
    raw = image[None, None]
    integers, floats = (
        OnnxPredictor(classifier_onnx, "", "cpu")(raw.astype(t)) for t in (np.int32, np.float64)
    )
    np.testing.assert_array_equal(integers, floats)


def test_exported_color_run_predicts_gray_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(8):
            np.save(tmp_path / "set" / name / f"{i}.npy", rng.random((3, 32, 32)))
    run = train(
        "classification", tmp_path / "set", "test_resnet", tmp_path / "run", overrides=QUICK
    )
    set_batch_statistics(run, rng.random((8, 3, 32, 32)))
    file = export(run, tmp_path / "a.onnx").path
    np.save(tmp_path / "gray.npy", rng.random((32, 32)))
    np.save(tmp_path / "color.npy", rng.random((3, 32, 32)))
    files = [tmp_path / "gray.npy", tmp_path / "color.npy"]
    exported, original = (prediction_values(predict(each, files)) for each in (file, run.path))
    np.testing.assert_allclose(exported, original, atol=1e-5)


def test_exported_file_is_evaluated_on_the_test_images(
    classifier: Run, classifier_onnx: Path, lenses: Path, masses: Path, tmp_path: Path
) -> None:
    exported, original = (
        evaluate(each, lenses, resamples=20) for each in (classifier_onnx, classifier.path)
    )
    assert exported.description == original.description
    assert exported.description.startswith("9 held-out test images")
    np.testing.assert_array_equal(exported.rows, original.rows)
    np.testing.assert_allclose(exported.outputs, original.outputs, atol=1e-5)
    evaluate(classifier_onnx, lenses, out=tmp_path / "evaluation", resamples=20)
    record = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert record["run"] == str(classifier_onnx)
    with pytest.raises(RunError, match=r"classifier\.onnx: is a run for classification"):
        evaluate(classifier_onnx, masses)


def test_metadata_describe_the_file_without_paths_of_this_machine(
    classifier: Run, classifier_onnx: Path, regressor_onnx: Path
) -> None:
    model = onnx.load(classifier_onnx)
    onnx.checker.check_model(model, full_check=True)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    assert metadata["format"] == "halometry-onnx"
    assert metadata["task"] == "classification"
    assert json.loads(metadata["class_names"]) == ["no", "sphere", "vort"]
    assert json.loads(metadata["image_shape"]) == [1, 48, 48]
    assert metadata["predictions"] == "probabilities of no, sphere, vort"
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for file in (classifier_onnx, regressor_onnx)
        for value in (*onnx.load(file).graph.input, *onnx.load(file).graph.output)
    ]
    assert shapes[0] == ["batch", 1, "height", "width"]
    assert shapes[1] == ["batch", 3]
    assert shapes[2:] == [["batch", 1, 48, 48], ["batch"]]
    paths = (Path(__file__).parents[2], classifier.path.parent, Path(classifier.config.data.path))
    for path in paths:
        assert str(path).encode() not in classifier_onnx.read_bytes()


def test_images_of_another_shape_have_an_error(
    regressor_onnx: Path, masses: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "1_good.npy", read_images(masses)[0])
    np.save(tmp_path / "2_small.npy", read_images(masses)[0, :, :20, :20])
    good, small = predict(regressor_onnx, tmp_path)
    assert good.error is None
    assert small.error == "is 20 x 20 pixels, the run was trained on 48 x 48"
    with pytest.raises(RunError, match=r"m\.onnx: cannot predict images of shape \(1, 1, 9, 9"):
        OnnxPredictor(regressor_onnx, "m.onnx", "cpu")(np.zeros((1, 1, 9, 9)))


def test_predictions_are_compared_on_the_best_images_available(
    regressor: Run, regressor_onnx: Path, shared_data: Path, masses: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    reuse_exported_file(monkeypatch, regressor_onnx)
    known = export(regressor, tmp_path / "a.onnx")
    assert known.checked_on == f"images of {masses} (16)"
    assert known.difference < 1e-5
    with pytest.raises(DataError, match=r"no image fits the run; .*1\.npy is 150 x 150 pixels"):
        export(regressor, tmp_path / "a.onnx", check=shared_data / "common_test_1")
    with pytest.raises(DataError, match=r"--check .*gone: no image fits the run; .*no such file"):
        export(regressor, tmp_path / "a.onnx", check=tmp_path / "gone")
    for preset, checked in (
        ("demo_mass", "images simulated from demo_mass (16)"),
        (None, "images of noise (16; better give some with --check)"),
    ):
        gone = {"path": str(tmp_path / "gone"), "preset": preset}
        data = regressor.config.data.model_copy(update=gone)
        moved = replace(regressor, config=regressor.config.model_copy(update={"data": data}))
        assert export(moved, tmp_path / "b.onnx").checked_on == checked


def test_exported_file_predicts_published_images_as_its_run(
    classifier: Run, classifier_onnx: Path, shared_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    reuse_exported_file(monkeypatch, classifier_onnx)
    result = export(classifier, tmp_path / "a.onnx", check=shared_data / "common_test_1")
    assert result.checked_on.endswith("common_test_1 (16)")
    files = sorted((shared_data / "common_test_1").rglob("*.npy"))
    images = np.stack([read_image(file).pixels for file in files])
    predictions = OnnxPredictor(result.path, "", "cpu")(images)
    expected = prediction_values(predict(classifier.path, files))
    np.testing.assert_allclose(predictions, expected, atol=1e-5)


def test_python_example_of_the_documentation_runs(
    classifier_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "howto/export-publish.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "my_images").mkdir()
    np.save(tmp_path / "my_images" / "1.npy", np.random.default_rng(0).random((32, 32)))
    (tmp_path / "resnet18.onnx").write_bytes(classifier_onnx.read_bytes())
    monkeypatch.chdir(tmp_path)
    variables: dict[str, Any] = {}
    exec(code, variables)
    (expected,) = predict(classifier_onnx, tmp_path / "my_images")
    values = variables["predictions"][0].tolist()
    probabilities = dict(zip(variables["names"], values, strict=True))
    assert probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_export_command(
    classifier: Run, classifier_onnx: Path, lenses: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, command: Command,
) -> None:  # fmt: skip
    reuse_exported_file(monkeypatch, classifier_onnx)
    file = tmp_path / "model.onnx"
    result = command("export", classifier.path, "--format", "onnx", "--out", file)
    assert result.status == 0
    assert f"{file}: 1.5 MB, checked on images of {lenses} (16)" in result.out
    assert "largest difference from the predictions of PyTorch: " in result.out
    result = command("predict", file, lenses, "--out", tmp_path / "p.csv")
    assert result.status == 0
    assert result.out.splitlines()[-1] == f"90 of 90 predicted -> {tmp_path / 'p.csv'}"
    result = command("evaluate", file, "--data", lenses, "--out", tmp_path / "evaluation")
    assert result.status == 0
    assert "9 held-out test images" in result.out
    result = command("export", classifier.path, "--out", tmp_path / "model.pb")
    assert result.status == 2
    assert "model.pb: must end in .onnx" in result.err
    assert len(result.err.strip().splitlines()) == 1
