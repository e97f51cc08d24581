"""OOD detector of a run: fit it, keep it in the run folder, and use it beside predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from halometry.datasets.dataset import LabeledImages, take_rows
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split
from halometry.errors import DataError, FormatError, RunError
from halometry.io import check_header
from halometry.log import logger, track, with_progress
from halometry.models.predictor import Predictor
from halometry.ood.detector import (
    MIN_IMAGES,
    FeatureGroups,
    GaussianModel,
    Groups,
    ImageScaling,
    OODDetector,
    OODResult,
    PrincipalSubspace,
)
from halometry.parallel import Workers, find_device
from halometry.runs.checks import image_incompatibility
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun
from halometry.runs.run import Run, load_run, write_tensors
from halometry.seeds import OOD_ENTROPY

DETECTOR = "ood.safetensors"
MAX_IMAGES = 3000  # images that a detector is fitted to
SCALING_IMAGES = 256  # images that unit and brightness levels are measured on
BATCH_SIZE = 64
REFIT = "fit it with halometry.fit_ood_detector(run, data)"

# Raw images (B, c, H, W) to predictions, and to one OOD result an image; None without a detector.
PredictWithOOD = Callable[[np.ndarray], tuple[np.ndarray, list[OODResult] | None]]


@with_progress
def fit_ood_detector(
    run: str | Path | Run,
    data: str | Path | LabeledImages,
    *,
    device: str = "auto",
    workers: Workers = "auto",
    progress: bool = True,
) -> OODDetector | None:
    """Fit the OOD detector of a finished run, as `train` does at its end.

    The detector is written to `ood.safetensors` in the run folder and replaces one that is there.

    Args:
        run: a run, as `load_run` takes it.
        data: the dataset that the run was trained on, or a larger one of the same preset and seed.
        device: `auto`, `cpu`, or as PyTorch names it.
        workers: processes that compute mass maps, if the run takes these; `auto` takes one for
            each core.
        progress: whether to show progress bars.

    Returns:
        The detector; None where there are too few images to fit one.

    Raises:
        DataError: the run was trained on other images.
        RunError: the run cannot be used.
        StorageError: the run folder cannot be written to.
        UsageError: the run came with the package or from the Hub.

    Example:
        >>> fit_ood_detector("runs/classes", "lenses.h5").false_positive_rate  # doctest: +SKIP
        0.01
    """
    run = run if isinstance(run, Run) else load_run(run)
    run.check_writable()
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    split = run.split()
    last = np.concatenate([split.validation, split.calibration]).max()
    fits = image_incompatibility(run, labeled) is None
    if not (fits and run.config.data.shares_images_with(labeled) and len(labeled) > last):
        raise DataError(
            f"{labeled.source}: is not the dataset that {run.source} was trained on"
            f" ({run.config.data.description}); give that one"
        )
    if run.config.data.mass_map_preset is not None:
        from halometry.massmaps.cached import mapped_dataset  # predictions need no physics

        labeled = mapped_dataset(labeled, run.config.data.mass_map_preset, workers=workers)
    return fit_and_write_detector(run, labeled, split, find_device(device))


def fit_and_write_detector(
    run: Run, data: LabeledImages, split: Split, device: str
) -> OODDetector | None:
    """Fit a detector to images that a run was not trained on, and write it to the run folder.

    The Gaussians are fitted to validation images, the p-values come from calibration images.

    Args:
        run: run with its weights written; other files need not be there.
        data, split: dataset that it was trained on.
        device: as PyTorch names it.

    Returns:
        The detector; None, with a message, where there are too few images.
    """
    parts = _detector_rows(split, run.config.seed)
    count = sum(map(len, parts))
    if len(parts[1]) < MIN_IMAGES:
        logger.info(
            f"{run.name}: has no OOD detector, since {count} validation and calibration images are"
            f" too few to fit one; {2 * MIN_IMAGES} are needed"
        )
        return None
    predictor, channels = run.predictor(device), run.config.data.shape[0]
    with track(f"{run.name}: OOD detector", count) as tracker, torch.inference_mode():
        every = -(-len(parts[0]) // SCALING_IMAGES)  # classes alternate, so all are among these
        raw = take_rows(data.images, parts[0][::every]).to(device)
        scaling = ImageScaling.fit(predictor.preprocessing(raw), channels)
        groups = []
        for part in parts:
            batches: list[Groups] = []
            for rows in np.array_split(part, -(-len(part) // BATCH_SIZE)):
                raw = take_rows(data.images, rows).to(device)
                batches.append(_groups(predictor, scaling, raw))
                tracker.advance(len(rows))
            groups.append({key: torch.cat([one[key] for one in batches]) for key in batches[0]})
        detector = OODDetector.fit(scaling, *groups)
    write_detector(run.path / DETECTOR, detector)
    return detector


def _detector_rows(split: Split, seed: int) -> list[np.ndarray]:
    """Rows that the Gaussians are fitted to, and rows of the reference images."""
    shuffled = np.random.default_rng([seed, OOD_ENTROPY]).permutation
    parts = [shuffled(rows)[: MAX_IMAGES // 2] for rows in (split.validation, split.calibration)]
    return [np.sort(part) for part in parts]


def _groups(predictor: Predictor, scaling: ImageScaling, raw: Tensor) -> Groups:
    images = predictor.preprocessing(raw)
    return scaling.groups(images, predictor.network.get_submodule("backbone")(images))


def predict_with_ood(run: AnyRun, device: str = "auto") -> PredictWithOOD:
    """Return a function that maps raw images to predictions and OOD results.

    The results are None where the run has no detector; a message says so.

    Raises:
        RunError: the weights or the detector are damaged.
        UsageError: the device does not exist here.
    """
    detector = _detector_of(run)
    if detector is None or not isinstance(run, Run):
        predict = run.predict_fn(device)
        return lambda images: (predict(images), None)
    where = find_device(device)
    predictor = run.predictor(where)
    check_unit = predictor.preprocessing.config.scale == "none"

    def predict_and_detect(images: np.ndarray) -> tuple[np.ndarray, list[OODResult] | None]:
        with torch.inference_mode():
            output = predictor.forward_features(torch.from_numpy(images).to(where))
            results = detector.detect(output.inputs, output.features, check_unit=check_unit)
            return output.predictions.cpu().numpy(), results

    return predict_and_detect


def _detector_of(run: AnyRun) -> OODDetector | None:
    if not isinstance(run, Run):
        what = "an ensemble" if isinstance(run, Ensemble) else "an exported file"
        logger.info(f"{run.source}: {what} has no OOD detector; a single run has one")
        return None
    detector = read_detector(run.path)
    if detector is None:
        logger.info(f"{run.source}: has no OOD detector; {REFIT}")
    return detector


def write_detector(path: Path, detector: OODDetector) -> None:
    """Write a detector as safetensors."""
    scaling, model = detector.scaling, detector.model
    tensors = {
        "scaling.unit": scaling.unit,
        "scaling.levels": scaling.levels,
        "scaling.channels": torch.tensor(scaling.channels),
        "subspace.mean": model.subspace.mean,
        "subspace.axes": model.subspace.axes,
        "distance_scales": detector.distance_scales,
        "reference_scores": detector.reference_scores,
    }
    for name, gaussian in model.gaussians.items():
        tensors[f"gaussians.{name}.mean"] = gaussian.mean
        tensors[f"gaussians.{name}.whitening"] = gaussian.whitening
    write_tensors(path, tensors, "ood")


def read_detector(folder: Path) -> OODDetector | None:
    """Read the detector of a run folder; None where there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / DETECTOR
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            check_header(file.metadata() or {}, "ood", path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        groups = sorted({key.split(".")[1] for key in tensors if key.startswith("gaussians.")})
        gaussians = {
            name: GaussianModel(
                tensors[f"gaussians.{name}.mean"], tensors[f"gaussians.{name}.whitening"]
            )
            for name in groups
        }
        return OODDetector(
            ImageScaling(
                tensors["scaling.unit"],
                tensors["scaling.levels"],
                int(tensors["scaling.channels"]),
            ),
            FeatureGroups(
                PrincipalSubspace(tensors["subspace.mean"], tensors["subspace.axes"]), gaussians
            ),
            tensors["distance_scales"],
            tensors["reference_scores"],
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{path}: is damaged ({error}); remove it, or {REFIT}") from error
    except FormatError as error:
        raise RunError(f"{error}; remove it, or {REFIT}") from error
