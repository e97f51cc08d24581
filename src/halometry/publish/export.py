"""A run as one ONNX file: raw pixel values in, answers out, whatever runs it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np

from halometry import __version__
from halometry.datasets.inputs import find_files, iter_images
from halometry.errors import (
    DataError,
    ReadError,
    RunError,
    UnavailableError,
    UsageError,
    did_you_mean,
)
from halometry.io import atomic_write, check_writable, header
from halometry.log import logger
from halometry.models.onnx import INPUT, INSTALL, OUTPUT, OnnxPredictor, to_onnx
from halometry.runs.config import RunConfig
from halometry.runs.exported import ONNX_SUFFIX
from halometry.runs.lineage import lineage_to_dict, without_path, without_paths
from halometry.runs.run import Run, load_run
from halometry.simulation import OnlineImages, list_presets

FORMATS = ("onnx",)
TOLERANCE = 1e-4  # between the answers of PyTorch and ONNX Runtime
CHECK_IMAGES = 16  # images they are compared on


@dataclass(frozen=True)
class ExportResult:
    """What `export` wrote.

    Attributes:
        path: the file.
        bytes: its size.
        checked: what its answers were compared on.
        difference: the largest between them and PyTorch's; of masses, relative to the largest.
    """

    path: Path
    bytes: int
    checked_on: str
    difference: float


def export(
    run: str | Path | Run,
    out: str | Path,
    format: str = "onnx",
    check: str | Path | None = None,
) -> ExportResult:
    """Write a run as one ONNX file, from raw pixel values to probabilities or mass fractions.

    The file is written once ONNX Runtime answers with it as PyTorch does, to 1e-4, for images one
    by one and several at a time. Besides the network it holds what it says of itself: task,
    classes, shape of the images, and all that the run folder knows but the history.

    Args:
        run: a run, as `load_run` takes it.
        out: the file, ending in `.onnx`.
        format: `onnx`.
        check: images to compare the answers on: a file, a folder or a store. Without it the
            images that the run was trained on are taken where they still are, others simulated
            from their preset where they have one, and noise else.

    Raises:
        UsageError: another format or ending.
        UnavailableError: a package is missing.
        RunError: the run cannot be used, its network cannot be exported, or the answers differ.
        DataError: no image to check with fits the run.
        StorageError: the file cannot be written.
    """
    out = Path(out)
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}', {did_you_mean(format, FORMATS)}")
    if out.suffix != ONNX_SUFFIX:
        raise UsageError(f"{out}: must end in {ONNX_SUFFIX}, by which 'halometry predict' knows it")
    _need_packages()
    run = run if isinstance(run, Run) else load_run(run)
    check_writable(out)
    images, described = _images(run, check)
    content = _content(run)
    logger.info(f"{run.name}: comparing with PyTorch on {described}")
    difference = _difference(run, content, images, str(out))
    if not difference <= TOLERANCE:
        raise RunError(
            f"{out}: not written, for ONNX Runtime's answers differ from PyTorch's by"
            f" {difference:.2g} on {described}, more than {TOLERANCE:g}; try other versions of"
            f" onnxruntime and onnxscript ({INSTALL} --upgrade), and report it"
        )
    with atomic_write(out) as partial:
        partial.write_bytes(content)
    return ExportResult(out, len(content), described, difference)


def _need_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(name)
        except ImportError as error:
            raise UnavailableError(f"export needs the package {name}: {INSTALL}") from error


def _content(run: Run) -> bytes:
    """The bytes of an ONNX file with a run's predictor, and what it says of itself.

    Raises:
        RunError: PyTorch cannot export this network, or it is too large.
    """
    import onnx

    config = run.config
    any_size = config.preprocessing.size is not None
    name = f"{run.source} ({config.backbone})"
    model = to_onnx(run.predictor("cpu"), config.data.shape, any_size, name)
    metadata = _metadata(config, json.dumps(run.split().to_dict()))
    if (conformal := run.conformal()) is not None:
        metadata["conformal"] = conformal.model_dump_json()
    if lineage := [without_path(entry) for entry in run.lineage()]:
        metadata["lineage"] = json.dumps(lineage_to_dict(lineage))
    onnx.helper.set_model_props(model, metadata)
    model.doc_string = (
        f"{config.backbone} of halometry {__version__}: raw pixel values ({INPUT}) to"
        f" {_meaning(config)} ({OUTPUT})"
    )
    content: bytes = model.SerializeToString()
    return content


def _metadata(config: RunConfig, split: str) -> dict[str, str]:
    any_size = config.preprocessing.size is not None
    config = without_paths(config)  # others read it
    return {
        **{key: str(value) for key, value in header("onnx").items()},
        "task": config.task,
        "backbone": config.backbone,
        "class_names": json.dumps(config.class_names),
        "image_shape": json.dumps(config.data.shape),
        "any_size": json.dumps(any_size),
        "predictions": _meaning(config),
        "run": json.dumps(config.model_dump(mode="json"), separators=(",", ":")),
        "split": split,
    }


def _meaning(config: RunConfig) -> str:
    if (grid := config.grid) is not None:
        cells = f"{grid.cells} cells from {grid.low:g} to {grid.high:g}"
        return f"probability density of the mass fraction in subhalos, in {cells}"
    if config.class_names is None:
        return "mass fraction in subhalos"
    return f"probabilities of {', '.join(config.class_names)}"


def _difference(run: Run, content: bytes, images: list[np.ndarray], name: str) -> float:
    """The largest difference between the answers of ONNX Runtime and PyTorch.

    Probabilities as they are, mass fractions in units of the largest. Not a number where an
    answer is none.
    """
    mine, theirs = OnnxPredictor(content, name, "cpu"), run.predict_fn("cpu")
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
    for image in images:
        by_shape[image.shape].append(image)
    wanted, alone, together = [], [], []
    for group in map(np.stack, by_shape.values()):
        wanted.append(theirs(group))
        alone += [mine(group[i : i + 1]) for i in range(len(group))]
        together.append(mine(group))
    expected = np.concatenate(wanted).astype(np.float64)
    scale = 1.0 if run.config.class_names else np.abs(expected).max()
    answers = np.stack([np.concatenate(alone), np.concatenate(together)])
    return float(np.abs(answers - expected).max() / scale)


def _images(run: Run, check: str | Path | None) -> tuple[list[np.ndarray], str]:
    """Images (C, H, W) to compare answers on, and what they are.

    Raises:
        DataError: none of those given fits the run.
    """
    if check is not None:
        images, reasons = _fitting(Path(check), run)
        if not images:
            raise DataError(
                f"--check {check}: no image fits the run; {(*reasons, 'none found')[0]}"
            )
        return images, f"images of {check} ({len(images)})"
    trained_on = Path(run.config.data.path)
    if trained_on.exists() and (images := _fitting(trained_on, run)[0]):
        return images, f"images of {trained_on} ({len(images)})"
    preset = run.config.data.preset
    if preset in list_presets():
        ((simulated, _),) = OnlineImages(preset, seed=0, batch_size=CHECK_IMAGES, batches=1)
        if run.config.incompatibility(tuple(simulated.shape[1:])) is None:
            return list(simulated.numpy()), f"images simulated from {preset} ({CHECK_IMAGES})"
    rng = np.random.default_rng(0)
    counts = 10 ** rng.uniform(0.5, 3, (CHECK_IMAGES, 1, 1, 1))
    noise = rng.poisson(counts, (CHECK_IMAGES, *run.config.data.shape)).astype(np.float32)
    return list(noise), f"images of noise ({CHECK_IMAGES}; better give some with --check)"


def _fitting(path: Path, run: Run) -> tuple[list[np.ndarray], list[str]]:
    """A few images that the run could answer for, from all over a folder; why it cannot else."""
    files = find_files(path)
    every = max(1, len(files) // CHECK_IMAGES)
    images: list[np.ndarray] = []
    reasons: list[str] = []
    for item in islice(iter_images(files[::every]), 2 * CHECK_IMAGES):
        if isinstance(item, ReadError):
            reasons.append(f"{item.path} {item.reason}")
        elif (
            reason := run.config.incompatibility(item.pixels.shape, item.mass_map_preset)
        ) is not None:
            reasons.append(f"{item.path} {reason}")
        elif len(images) < CHECK_IMAGES:
            images.append(item.pixels)
    return images, reasons
