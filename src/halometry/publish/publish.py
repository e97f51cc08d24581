"""A finished run as others can use it: half the size, judged, with a card, perhaps on the Hub."""

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
from halometry.io import check_writable, partial_path, write_json, write_text
from halometry.log import logger
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

MAX_CHANGE = 0.01  # of a probability, or of a mass in standard deviations of the true ones


@dataclass(frozen=True)
class PublishResult:
    """What `publish` made.

    Attributes:
        where: the folder, or the page on the Hub.
        evaluation: of the weights as published.
        change: the largest change of an answer that half precision made; None where it made
            too large a one, so that the weights are in single precision.
    """

    location: str
    evaluation: Evaluation
    change: float | None


def publish_run(
    run: str | Path | Run,
    data: str | Path | LabeledImages,
    out: str | Path,
    license: str | None = None,
    device: str = "auto",
) -> PublishResult:
    """Make of a finished run what others can use, in a new folder or on the Hugging Face Hub.

    That is a small run folder: weights in half precision, unless that changes answers, the
    configuration without paths of this machine, the split, figures of merit and a card.

    Args:
        run: a run, as `load_run` takes it.
        data: labeled images to judge it on; see `evaluate` for which of them.
        out: a new folder, or `hf://USER/REPO`.
        license: of the weights, as the Hub abbreviates them, such as `mit`.
        device: `auto`, `cpu`, or as PyTorch names it.

    Raises:
        RunError, DataError: the run cannot be used, or not with these images.
        StorageError: the folder is there already, or cannot be written.
        UnavailableError: no connection to the Hub, or no permission to write there.

    Example:
        >>> made = publish("runs/kinds", "test.h5", "weights/kinds")  # doctest: +SKIP
        >>> made.change  # doctest: +SKIP
        0.00031
    """
    run = run if isinstance(run, Run) else load_run(run)
    _check_place(out)
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    split = run.split()
    with TemporaryDirectory(prefix="halometry-") as temporary:
        folder = Path(temporary)
        write_config(folder, without_paths(run.config))
        write_split(folder / SPLIT, split)
        if (conformal := run.conformal()) is not None:
            write_conformal(folder / CONFORMAL, conformal)
        if lineage := [without_path(entry) for entry in run.lineage()]:
            write_lineage(folder / LINEAGE, lineage)
        write_json(folder / METRICS, "training", {})
        if (run.path / DETECTOR).is_file():
            shutil.copyfile(run.path / DETECTOR, folder / DETECTOR)
        tensors = load_file(run.path / WEIGHTS)
        write_tensors(folder / WEIGHTS, to_half_precision(tensors), "weights")
        after = evaluate(load_run(folder), labeled, device=device)
        before = predict_rows(run, labeled, after.rows, device=device, point=True)
        change: float | None = _change(before, after)
        if not (change is not None and change <= MAX_CHANGE):  # nor where it is no number
            logger.info(
                f"half precision would change an answer by {change:.2g}: weights stay as they are"
            )
            write_tensors(folder / WEIGHTS, tensors, "weights")
            after, change = evaluate(load_run(folder), labeled, device=device), None
        name = str(out) if hub.is_address(out) else weights_name(Path(out))
        record = _record(run, after, labeled, change, license)
        write_json(folder / METRICS, "training", record)
        write_text(folder / CARD, model_card(name, after.run.config, record))
        where = hub.push(folder, str(out)) if hub.is_address(out) else _put(folder, Path(out))
    return PublishResult(where, after, change)


def to_half_precision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Filters and matrices in half precision, where their numbers are in its range.

    Scales, shifts and statistics are few, and answers depend on them most: they stay as they are.
    """
    largest = torch.finfo(torch.float16).max

    def fits(value: Tensor) -> bool:
        return value.ndim > 1 and value.is_floating_point() and bool((value.abs() <= largest).all())

    return {key: value.half() if fits(value) else value for key, value in tensors.items()}


def _change(before: np.ndarray, after: Evaluation) -> float:
    """The largest change of an answer: of a probability, or of a mass in standard deviations."""
    unit = 1.0 if after.run.config.task == "classification" else float(after.truth.std())
    return float(np.abs(after.outputs - before).max() / unit)


def _record(
    run: Run,
    evaluation: Evaluation,
    data: LabeledImages,
    change: float | None,
    license: str | None,
) -> dict[str, Any]:
    """What training was like, and how good the weights are."""
    split, network, conformal = run.split(), run.config.build_network(), run.conformal()
    preset, seed = data.attributes.get("preset"), data.attributes.get("seed")
    name_of_set = dataset_label(data.source, preset, seed)
    judged = evaluation_record(evaluation, data)
    images = evaluation.description.replace(data.source, name_of_set)
    test = {"data": name_of_set, "preset": preset, "images": images}
    kept = {"count", "interval", "metrics", "class_names", "confusion", "date"}
    test |= judged.model_dump(mode="json", include=kept, exclude_none=True)
    return run.training_metrics() | {
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights_precision": "float32" if change is None else "float16",
        "max_change_half_precision": change,
        "license": license,
        "split": {part: len(getattr(split, part)) for part in PART_LETTERS},
        "calibrated_on": None if conformal is None else conformal.images,
        "test": test,
    }


def _check_place(to: str | Path) -> None:
    """Find out before the work whether its result has a place."""
    if hub.is_address(to):
        hub.check_push(str(to))
        return
    if Path(to).exists():
        raise StorageError(f"{to}: is there already; remove it, or choose another folder")
    check_writable(Path(to))


def _put(folder: Path, to: Path) -> str:
    """Copy a folder to its place, whole or not at all."""
    partial = partial_path(to)
    try:
        shutil.copytree(folder, partial)
        os.replace(partial, to)
    except (OSError, shutil.Error) as error:
        raise StorageError(f"{to}: cannot be written ({error}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return str(to)
