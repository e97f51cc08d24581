"""Publication of a run: compact weights, an evaluation and a model card, perhaps on the Hub."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from halometry import hub
from halometry.calibration.conformal import write_conformal
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import PART_LETTERS, write_split
from halometry.errors import StorageError
from halometry.evaluation.evaluate import Evaluation, evaluate, evaluation_record
from halometry.io import check_writable, header, partial_path, write_json, write_text
from halometry.log import logger, with_progress
from halometry.parallel import Workers
from halometry.publish.card import CARD, model_card
from halometry.resources import weights_name
from halometry.runs.lineage import dataset_label, without_path, without_paths, write_lineage
from halometry.runs.ood import DETECTOR
from halometry.runs.predict_rows import predict_rows
from halometry.runs.run import (
    CONFORMAL,
    LINEAGE,
    METRICS,
    SPLIT,
    WEIGHTS,
    Run,
    load_run,
    write_config,
    write_tensors,
)

MAX_CHANGE = 0.01  # of a probability, or of a mass in standard deviations of the true masses
EVALUATION_KEYS = {"count", "interval", "metrics", "class_names", "confusion", "date"}


@dataclass(frozen=True)
class PublishResult:
    """Result of `publish_run`.

    Attributes:
        location: the folder, or the page on the Hub.
        evaluation: of the weights as published.
        change: largest change of a prediction by half precision; None if it was too large, so
            that the weights are in single precision.
    """

    location: str
    evaluation: Evaluation
    change: float | None


@with_progress
def publish_run(
    run: str | Path | Run,
    data: str | Path | LabeledImages,
    out: str | Path,
    *,
    license: str | None = None,
    device: str = "auto",
    workers: Workers = "auto",
    progress: bool = True,
) -> PublishResult:
    """Publish a finished run in a new folder or on the Hugging Face Hub.

    The result is a small run folder: weights in half precision, unless this changes predictions,
    the configuration and the split without paths of this machine, metrics and a model card.

    Args:
        run: a run, as `load_run` takes it.
        data: labeled images for the evaluation; see `evaluate` for which of them are used.
        out: a new folder, or `hf://USER/REPO`.
        license: license of the weights, by its identifier on the Hub, such as `mit`.
        device: `auto`, `cpu`, or a PyTorch device.
        workers: processes that compute mass maps, if the run takes these.
        progress: whether to show progress bars.

    Raises:
        RunError, DataError: the run cannot be used, or not with these images.
        StorageError: the folder exists already, or cannot be written.
        UnavailableError: no connection to the Hub, or no permission to write there.

    Example:
        >>> result = publish_run("runs/classes", "test.h5", "weights/classes")  # doctest: +SKIP
        >>> result.change  # doctest: +SKIP
        0.00031
    """
    run = run if isinstance(run, Run) else load_run(run)
    _check_location(out)
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    with TemporaryDirectory(prefix="halometry-") as temporary:
        folder = Path(temporary)
        _write_metadata(run, folder)
        tensors = load_file(run.path / WEIGHTS)
        write_tensors(folder / WEIGHTS, to_half_precision(tensors), "weights")
        evaluation = evaluate(load_run(folder), labeled, device=device, workers=workers)
        outputs = predict_rows(
            run, labeled, evaluation.rows, device=device, point=True, workers=workers
        )
        change: float | None = _largest_change(outputs, evaluation)
        if not (change is not None and change <= MAX_CHANGE):  # also if it is NaN
            logger.info(
                f"half precision would change a prediction by {change:.2g}: weights stay in single"
                " precision"
            )
            write_tensors(folder / WEIGHTS, tensors, "weights")
            evaluation = evaluate(load_run(folder), labeled, device=device, workers=workers)
            change = None
        name = str(out) if hub.is_address(out) else weights_name(Path(out))
        record = _metrics_record(run, evaluation, labeled, change, license)
        write_json(folder / METRICS, "training", record)
        write_text(folder / CARD, model_card(name, evaluation.run.config, record))
        if hub.is_address(out):
            location = hub.push(folder, str(out))
        else:
            location = _copy_folder(folder, Path(out))
    return PublishResult(location, evaluation, change)


def _write_metadata(run: Run, folder: Path) -> None:
    """Write all files of a run folder but the weights, without paths of this machine."""
    write_config(folder, without_paths(run.config))
    write_split(folder / SPLIT, run.split())
    if (conformal := run.conformal()) is not None:
        write_conformal(folder / CONFORMAL, conformal)
    if lineage := [without_path(entry) for entry in run.lineage()]:
        write_lineage(folder / LINEAGE, lineage)
    write_json(folder / METRICS, "training", {})  # marks the run as finished
    if (run.path / DETECTOR).is_file():
        shutil.copyfile(run.path / DETECTOR, folder / DETECTOR)


def to_half_precision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert filters and matrices to half precision, if their values are in its range.

    Scales, shifts and statistics stay as they are: they are few, and predictions are sensitive
    to them.
    """
    largest = torch.finfo(torch.float16).max

    def fits(value: Tensor) -> bool:
        return value.ndim > 1 and value.is_floating_point() and bool((value.abs() <= largest).all())

    return {key: value.half() if fits(value) else value for key, value in tensors.items()}


def _largest_change(outputs: np.ndarray, evaluation: Evaluation) -> float:
    """Largest change of a probability, or of a mass in standard deviations of the true masses."""
    is_classifier = evaluation.run.config.task == "classification"
    unit = 1.0 if is_classifier else float(evaluation.truth.std())
    return float(np.abs(evaluation.outputs - outputs).max() / unit)


def _metrics_record(
    run: Run,
    evaluation: Evaluation,
    data: LabeledImages,
    change: float | None,
    license: str | None,
) -> dict[str, Any]:
    """Content of `metrics.json`: the training record, and the evaluation on the test images."""
    split, network, conformal = run.split(), run.config.build_network(), run.conformal()
    preset, seed = data.attributes.get("preset"), data.attributes.get("seed")
    label = dataset_label(data.source, preset, seed)
    images = evaluation.description.replace(data.source, label)
    evaluated = evaluation_record(evaluation, data)
    test = {"data": label, "preset": preset, "images": images}
    if "no_truth_init" in data.attributes:
        test["maps_from_true_lenses"] = not data.attributes["no_truth_init"]
    test |= evaluated.model_dump(mode="json", include=EVALUATION_KEYS, exclude_none=True)
    training = run.training_metrics()
    for key in header("training"):  # the file gets a new one
        del training[key]
    return training | {
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights_precision": "float32" if change is None else "float16",
        "max_change_half_precision": change,
        "license": license,
        "split": {part: len(getattr(split, part)) for part in PART_LETTERS},
        "calibrated_on": None if conformal is None else conformal.images,
        "test": test,
    }


def _check_location(out: str | Path) -> None:
    """Check before the work that its result can be written."""
    if hub.is_address(out):
        hub.check_push(str(out))
        return
    if Path(out).exists():
        raise StorageError(f"{out}: exists already; remove it, or choose another folder")
    check_writable(Path(out))


def _copy_folder(folder: Path, out: Path) -> str:
    """Copy a folder, completely or not at all."""
    partial = partial_path(out)
    try:
        shutil.copytree(folder, partial)
        os.replace(partial, out)
    except (OSError, shutil.Error) as error:
        raise StorageError(f"{out}: cannot be written ({error}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return str(out)
