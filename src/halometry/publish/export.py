"""Export of a run as one ONNX file, from raw pixel values to predictions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from halometry import __version__
from halometry.datasets.inputs import find_files, iter_images
from halometry.datasets.readers import Image
from halometry.errors import (
    DataError,
    ReadError,
    RunError,
    UsageError,
    did_you_mean,
)
from halometry.extras import EXTRAS, import_optional, install_command
from halometry.io import atomic_write, check_writable, header
from halometry.log import logger, with_progress
from halometry.models.onnx import INPUT, OUTPUT, OnnxPredictor, to_onnx
from halometry.runs.config import RunConfig
from halometry.runs.exported import ONNX_SUFFIX
from halometry.runs.lineage import lineage_to_dict, without_path, without_paths
from halometry.runs.mapped_inputs import mapped_images
from halometry.runs.run import Run, load_run
from halometry.simulation import OnlineImages, list_presets

FORMATS = ("onnx",)
TOLERANCE = 1e-4  # between the predictions of PyTorch and ONNX Runtime
CHECK_IMAGES = 16  # on which the predictions are compared


@dataclass(frozen=True)
class ExportResult:
    """Result of `export`.

    Attributes:
        path: the file.
        bytes: its size.
        checked_on: images on which its predictions were compared to those of PyTorch.
        difference: largest difference of a probability; for masses relative to the largest mass.
    """

    path: Path
    bytes: int
    checked_on: str
    difference: float


@with_progress
def export(
    run: str | Path | Run,
    out: str | Path,
    *,
    format: str = "onnx",
    check: str | Path | None = None,
    progress: bool = True,
) -> ExportResult:
    """Write a run as one ONNX file, from raw pixel values to probabilities or mass fractions.

    The file is written only if the predictions of ONNX Runtime and PyTorch agree to 1e-4, for
    single images and for a batch. Its metadata hold the task, the classes, the shape of the
    images, and the content of the run folder except the history.

    Args:
        run: a run, as `load_run` takes it.
        out: the file, ending in `.onnx`.
        format: `onnx`.
        check: images to compare the predictions on: a file, a folder or a dataset. By default the
            images of the training set if they exist, else simulated ones of its preset, else
            noise.
        progress: whether to show progress bars.

    Raises:
        UsageError: another format or ending.
        UnavailableError: a package is missing.
        RunError: the run cannot be used, its network cannot be exported, or predictions differ.
        DataError: no image of `check` fits the run.
        StorageError: the file cannot be written.
    """
    out = Path(out)
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}', {did_you_mean(format, FORMATS)}")
    if out.suffix != ONNX_SUFFIX:
        raise UsageError(f"{out}: must end in {ONNX_SUFFIX}, by which 'halometry predict' knows it")
    _check_packages()
    run = run if isinstance(run, Run) else load_run(run)
    check_writable(out)
    images, description = _check_images(run, check)
    content = _to_bytes(run)
    logger.info(f"{run.name}: comparing with PyTorch on {description}")
    difference = _largest_difference(run, content, images, str(out))
    if not difference <= TOLERANCE:
        raise RunError(
            f"{out}: not written, since the predictions of ONNX Runtime differ from those of"
            f" PyTorch by {difference:.2g} on {description}, more than {TOLERANCE:g}; try other"
            f" versions of onnxruntime and onnxscript ({install_command('onnx')} --upgrade), and"
            " report it"
        )
    with atomic_write(out) as partial:
        partial.write_bytes(content)
    return ExportResult(out, len(content), description, difference)


def _check_packages() -> None:
    for name in EXTRAS["onnx"].modules:
        import_optional(name, extra="onnx")


def _to_bytes(run: Run) -> bytes:
    """The content of the ONNX file of a run.

    Raises:
        RunError: PyTorch cannot export this network, or it is too large.
    """
    import onnx

    config = run.config
    any_size = config.preprocessing.size is not None
    name = f"{run.source} ({config.backbone})"
    model = to_onnx(run.predictor("cpu"), config.data.shape, any_size, name)
    onnx.helper.set_model_props(model, _metadata(run))
    model.doc_string = (
        f"{config.backbone} of halometry {__version__}: raw pixel values ({INPUT}) to"
        f" {_describe_output(config)} ({OUTPUT})"
    )
    content: bytes = model.SerializeToString()
    return content


def _metadata(run: Run) -> dict[str, str]:
    """Metadata of the ONNX file, without paths of this machine."""
    config = without_paths(run.config)
    metadata = {key: str(value) for key, value in header("onnx").items()} | {
        "task": config.task,
        "backbone": config.backbone,
        "class_names": json.dumps(config.class_names),
        "image_shape": json.dumps(config.data.shape),
        "any_size": json.dumps(config.preprocessing.size is not None),
        OUTPUT: _describe_output(config),
        "run": json.dumps(config.model_dump(mode="json"), separators=(",", ":")),
        "split": json.dumps(run.split().to_dict()),
    }
    if (conformal := run.conformal()) is not None:
        metadata["conformal"] = conformal.model_dump_json()
    if lineage := [without_path(entry) for entry in run.lineage()]:
        metadata["lineage"] = json.dumps(lineage_to_dict(lineage))
    return metadata


def _describe_output(config: RunConfig) -> str:
    if (grid := config.grid) is not None:
        cells = f"{grid.cells} cells from {grid.low:g} to {grid.high:g}"
        return f"probability density of the mass fraction in subhalos, in {cells}"
    if config.class_names is None:
        return "mass fraction in subhalos"
    return f"probabilities of {', '.join(config.class_names)}"


def _largest_difference(run: Run, content: bytes, images: list[np.ndarray], name: str) -> float:
    """Largest difference between the predictions of ONNX Runtime and PyTorch.

    For masses relative to the largest mass. NaN if a prediction is NaN.
    """
    onnx_predict, torch_predict = OnnxPredictor(content, name, "cpu"), run.predict_fn("cpu")
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
    for image in images:
        by_shape[image.shape].append(image)
    torch_outputs, single_outputs, batch_outputs = [], [], []
    for batch in map(np.stack, by_shape.values()):
        torch_outputs.append(torch_predict(batch))
        single_outputs += [onnx_predict(batch[i : i + 1]) for i in range(len(batch))]
        batch_outputs.append(onnx_predict(batch))
    expected = np.concatenate(torch_outputs).astype(np.float64)
    scale = 1.0 if run.config.class_names else np.abs(expected).max()
    outputs = np.stack([np.concatenate(single_outputs), np.concatenate(batch_outputs)])
    return float(np.abs(outputs - expected).max() / scale)


def _check_images(run: Run, check: str | Path | None) -> tuple[list[np.ndarray], str]:
    """Images (C, H, W) to compare predictions on, and a description of them.

    Raises:
        DataError: none of `check` fits the run.
    """
    if check is not None:
        images, reasons = _find_images(Path(check), run)
        if not images:
            raise DataError(
                f"--check {check}: no image fits the run; {(*reasons, 'none found')[0]}"
            )
        return images, f"images of {check} ({len(images)})"
    training_set = Path(run.config.data.path)
    if training_set.exists() and (images := _find_images(training_set, run)[0]):
        return images, f"images of {training_set} ({len(images)})"
    preset = run.config.data.preset
    if preset in list_presets():
        ((simulated, _),) = OnlineImages(preset, seed=0, batch_size=CHECK_IMAGES, batches=1)
        if images := _usable_images(run, [Image(one, None, preset) for one in simulated.numpy()])[
            0
        ]:
            return images, f"images simulated from {preset} ({len(images)})"
    rng = np.random.default_rng(0)
    counts = 10 ** rng.uniform(0.5, 3, (CHECK_IMAGES, 1, 1, 1))
    noise = rng.poisson(counts, (CHECK_IMAGES, *run.config.data.shape)).astype(np.float32)
    return list(noise), f"images of noise ({CHECK_IMAGES}; better give some with --check)"


def _find_images(path: Path, run: Run) -> tuple[list[np.ndarray], list[str]]:
    """Images from all parts of a folder that the run can predict, and why it cannot others."""
    files = find_files(path)
    step = max(1, len(files) // CHECK_IMAGES)
    return _usable_images(run, list(islice(iter_images(files[::step]), 2 * CHECK_IMAGES)))


def _usable_images(
    run: Run, items: Sequence[Image | ReadError]
) -> tuple[list[np.ndarray], list[str]]:
    """Images that a run can predict, or their mass maps, and why it cannot predict others."""
    images: list[np.ndarray] = []
    reasons: list[str] = []
    with mapped_images(run, items, len(items), workers=1) as inputs:
        for item in inputs:
            if isinstance(item, ReadError):
                reasons.append(f"{item.path} {item.reason}")
            elif reason := run.config.incompatibility(item.pixels.shape, item.mass_map_preset):
                reasons.append(f"{item.path} {reason}")
            elif len(images) < CHECK_IMAGES:
                images.append(item.pixels)
    return images, reasons
