"""Errors of `export` and of exported files: they are named, and nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from halometry.errors import RunError, UnavailableError, UsageError
from halometry.evaluation.predict import predict
from halometry.models import Predictor
from halometry.models.onnx import OnnxPredictor
from halometry.publish.export import export
from halometry.runs.exported import load_exported
from halometry.runs.run import Run, load_run
from helpers.exporting import reuse_exported_file


def test_damaged_and_foreign_files_are_refused(classifier_onnx: Path, tmp_path: Path) -> None:
    content = classifier_onnx.read_bytes()
    cut, text, other = (tmp_path / f"{name}.onnx" for name in ("cut", "text", "other"))
    cut.write_bytes(content[: len(content) // 2])
    text.write_text("hello")
    for file in (cut, text):
        with pytest.raises(RunError, match=f"{file.name}: is not an ONNX file, or is damaged"):
            load_exported(file)
    model = onnx.load(classifier_onnx)
    for prop in model.metadata_props:
        if prop.key == "run":
            prop.value = json.dumps(json.loads(prop.value) | {"later": 1})
    onnx.save(model, other)
    with pytest.raises(RunError, match=r"unknown key 'later'.*written by halometry \d"):
        load_exported(other)
    del model.metadata_props[:]
    onnx.save(model, other)
    with pytest.raises(RunError, match=r"other\.onnx: is not a halometry-onnx file"):
        predict(other, tmp_path)
    with pytest.raises(RunError, match=r"gone\.onnx: no such file"):
        predict(tmp_path / "gone.onnx", tmp_path)


def test_missing_packages_are_named(
    classifier: Run,
    classifier_onnx: Path,
    lenses: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            message = rf"the package {name}, needed for \.onnx files, is not installed: pip install"
            with pytest.raises(UnavailableError, match=message):
                export(classifier, tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"onnxruntime, .*: pip install 'halometry\[onnx\]'"):
        predict(classifier_onnx, lenses)


def test_file_with_other_predictions_is_not_written(
    classifier: Run, classifier_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reuse_exported_file(monkeypatch, classifier_onnx)
    out = tmp_path / "a.onnx"
    predict_right = OnnxPredictor.__call__
    for change in (lambda outputs: outputs + 2e-4, lambda outputs: outputs * np.nan):
        monkeypatch.setattr(
            OnnxPredictor, "__call__", lambda *a, change=change: change(predict_right(*a))
        )
        with pytest.raises(RunError, match=r"a\.onnx: not written, .* differ .* than 0\.0001"):
            export(classifier, out)
        assert not out.exists()


def test_wrong_options_are_refused(classifier: Run, classifier_onnx: Path, lenses: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.pt: must end in \.onnx"):
        export(classifier, "a.pt")
    with pytest.raises(UsageError, match="unknown format 'onx', did you mean 'onnx'?"):
        export(classifier, "a.onnx", format="onx")
    with pytest.raises(UsageError, match="device 'cuda:9' is not usable by ONNX Runtime here"):
        predict(classifier_onnx, lenses, device="cuda:9")


def test_network_that_cannot_be_exported_is_refused(
    classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def depends_on_values(self: Predictor, raw: Any) -> Any:
        return raw if raw.sum() > 0 else -raw

    monkeypatch.setattr(Predictor, "forward", depends_on_values)
    with pytest.raises(RunError, match=r"\(test_resnet\): PyTorch cannot export it"):
        export(load_run(classifier.path), tmp_path / "a.onnx")


def test_network_too_large_for_the_format_is_refused(
    classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.models.onnx.MAX_WEIGHT_BYTES", 1000)
    with pytest.raises(RunError, match="has 0.0 GiB of weights, the limit of ONNX is 2 GiB"):
        export(classifier, tmp_path / "a.onnx")
