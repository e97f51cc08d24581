"""What a run remembers of its images, and how it recognizes that one is unlike them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from halometry.datasets.dataset import LabeledImages, take_rows
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split
from halometry.errors import DataError, RunError
from halometry.io import atomic_write
from halometry.log import logger, track
from halometry.models.predictor import Predictor
from halometry.ood.detector import (
    FEATURES,
    FEWEST,
    Cloud,
    Directions,
    Familiar,
    Novelty,
    Shape,
    Sides,
    View,
)
from halometry.parallel import find_device
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun
from halometry.runs.run import Answerer, Run, load_run
from halometry.simulation.rng import OOD_ENTROPY

NOVELTY = "novelty.safetensors"
FORMAT, VERSION = "halometry-novelty", "1"
MOST = 3000  # images looked at
BATCH = 64
FIRST = 256  # images that settle how the others are looked at
ANEW = "write it anew with halometry.fit_ood_detector(run, data)"


def fit_ood_detector(
    run: str | Path | Run, data: str | Path | LabeledImages, device: str = "auto"
) -> Familiar | None:
    """Let a finished run that does not know what is unusual learn it; `train` does so by itself.

    Writes `novelty.safetensors` into the run folder, in the place of one that is there.

    Args:
        run: a run, as `load_run` takes it.
        data: the set that it was trained on, or a larger one of the same preset and seed.
        device: `auto`, `cpu`, or as PyTorch names it.

    Returns:
        What it knows; None if it has too few images to learn from.

    Raises:
        DataError: it was trained on other images.
        RunError: the run cannot be used.
        StorageError: its folder cannot be written to.
        UsageError: it came with the package or from the Hub.

    Example:
        >>> familiarise("runs/kinds", "lenses.h5").rate  # doctest: +SKIP
        0.01
    """
    run = run if isinstance(run, Run) else load_run(run)
    run.check_own()
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    split = run.split()
    last = np.concatenate([split.validation, split.calibration]).max()
    mapped = labeled.attributes.get("mass_map_preset")
    fits = run.config.incompatibility(labeled.images.shape[1:], mapped) is None
    if not (fits and run.config.data.shares_images_with(labeled) and len(labeled) > last):
        raise DataError(
            f"{labeled.source}: is not the set that {run.source} was trained on"
            f" ({run.config.data.description}); give that one"
        )
    return learn(run, labeled, split, find_device(device))


def learn(run: Run, data: LabeledImages, split: Split, device: str) -> Familiar | None:
    """Look at images that a run has not learnt from, and write down what is familiar.

    The validation images say what images look like, the calibration images how far from that is
    unusual.

    Args:
        run: with its weights written; the rest may not be there yet.
        data, split: what it was trained on.
        device: as PyTorch names it.

    Returns:
        What was written; None, with a line that says so, of too few images.
    """
    parts = _parts(split, run.config.seed)
    count = sum(map(len, parts))
    if len(parts[1]) < FEWEST:
        logger.info(
            f"{run.name}: will not tell which images are unusual, since {count} images that it"
            f" has not learnt from are too few to know; {2 * FEWEST} are needed"
        )
        return None
    predictor, channels = run.predictor(device), run.config.data.shape[0]
    with track(f"{run.name}: what is familiar", count) as tracker, torch.inference_mode():
        some = parts[0][:: -(-len(parts[0]) // FIRST)]  # of all classes, which come in turns
        first = take_rows(data.images, some).to(device)
        view = View.of(predictor.preprocessing(first), channels)
        seen = []
        for part in parts:
            batches = np.array_split(part, -(-len(part) // BATCH))
            sides: list[Sides] = []
            for batch in batches:
                raw = take_rows(data.images, batch).to(device)
                sides.append(_sides(predictor, view, raw))
                tracker.advance(len(batch))
            seen.append({key: torch.cat([one[key] for one in sides]) for key in sides[0]})
        known = Familiar.of(view, *seen)
    write_familiar(run.path / NOVELTY, known)
    return known


def _parts(split: Split, seed: int) -> list[np.ndarray]:
    """The rows that say what is familiar, and those that say how far from it is unusual.

    Splits of earlier versions have no calibration images; the validation images are then halved.
    """
    mixed = np.random.default_rng([seed, OOD_ENTROPY]).permutation
    if len(split.calibration):
        parts = [mixed(split.validation)[: MOST // 2], mixed(split.calibration)[: MOST // 2]]
    else:
        parts = np.array_split(mixed(split.validation)[:MOST], 2)
    return [np.sort(part) for part in parts]


def _sides(predictor: Predictor, view: View, raw: Tensor) -> Sides:
    images = predictor.preprocessing(raw)
    return view.sides(images, predictor.network.get_submodule("backbone")(images))


class Watch:
    """Tells how familiar the images are that a predictor has just answered for.

    The network's features are read while it is at work, so that nothing is computed twice.

    Args:
        known: what its own images look like.
    """

    def __init__(self, known: Familiar) -> None:
        self.known = known
        self._images: Tensor | None = None
        self._features: Tensor | None = None
        self._in_units = False

    def over(self, predictor: Predictor) -> None:
        """Watch a predictor from now on."""
        self._in_units = predictor.preprocessing.config.scale == "none"
        predictor.preprocessing.register_forward_hook(self._see)
        predictor.network.get_submodule("backbone").register_forward_hook(self._note)

    def _see(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._images, self._features = output, None

    def _note(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if self._features is None:  # of an average over symmetric forms, the image as it is
            self._features = output

    def judge(self) -> list[Novelty]:
        """How familiar the last batch was."""
        assert self._images is not None
        assert self._features is not None
        view = self.known.view
        sides = view.sides(self._images, self._features)
        other_unit = view.in_another_unit(self._images) if self._in_units else None
        return self.known.judge(sides, other_unit)


def watched(run: AnyRun, device: str = "auto") -> tuple[Answerer, Watch | None]:
    """What maps raw images to answers, and who then tells how familiar they were.

    The latter is None where the run cannot tell, which a line says.

    Raises:
        RunError: the weights, or what is written of its images, are damaged.
        UsageError: the device does not exist here.
    """
    if not isinstance(run, Run):
        what = "several together" if isinstance(run, Ensemble) else "an exported file"
        logger.info(f"{run.source}: {what} cannot tell which images are unusual; a single run can")
        return run.answerer(device), None
    known = read_familiar(run.path)
    if known is None:
        logger.info(f"{run.source}: cannot tell which images are unusual; {ANEW}")
        return run.answerer(device), None
    watch = Watch(known)
    return run.answerer(device, watch.over), watch


def write_familiar(path: Path, known: Familiar) -> None:
    """Write what is familiar, whole or not at all."""
    view, shape = known.view, known.shape
    tensors = {"unit": view.unit, "levels": view.levels, "channels": torch.tensor(view.channels)}
    tensors |= {"units": known.units, "compared": known.compared}
    tensors |= {f"{FEATURES}.{key}": value for key, value in vars(shape.directions).items()}
    for side, cloud in shape.clouds.items():
        tensors |= {f"clouds.{side}.{key}": value for key, value in vars(cloud).items()}
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    with atomic_write(path) as partial:
        save_file(tensors, partial, {"format": FORMAT, "version": VERSION})


def read_familiar(folder: Path) -> Familiar | None:
    """What a run folder says of its images; None where it says nothing that is known here.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / NOVELTY
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("version") != VERSION:
                return None
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        view = View(tensors["unit"], tensors["levels"], int(tensors["channels"]))
        directions = Directions(tensors[f"{FEATURES}.mean"], tensors[f"{FEATURES}.axes"])
        shape = Shape(directions, dict(_clouds(tensors)))
        units, compared = tensors["units"], tensors["compared"]
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{path}: is damaged ({error}); remove it, or {ANEW}") from error
    return Familiar(view, shape, units, compared)


def _clouds(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Cloud]]:
    sides = {key.split(".")[1] for key in tensors if key.startswith("clouds.")}
    for side in sorted(sides):
        yield side, Cloud(*(tensors[f"clouds.{side}.{key}"] for key in ("mean", "whitening")))
