"""Everything a run is, settled before it begins: from a recipe and a set to a configuration."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np
import torch

from halometry.calibration.posterior import Grid
from halometry.config import Task
from halometry.datasets.dataset import LabeledImages, preset_from_dataset, take_rows
from halometry.datasets.splits import Split
from halometry.errors import UsageError
from halometry.models.predictor import TargetConfig
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig
from halometry.provenance import versions
from halometry.runs.config import DataRecord, RunConfig
from halometry.runs.execution import Execution
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run
from halometry.training.curriculum import curriculum
from halometry.training.hardware import choose_execution
from halometry.training.sampling import Order
from halometry.training.warm_start import start_note

STRETCH = 120.0  # seconds of training that a stopped run loses at most
SUSTAINED = 0.75  # of the speed measured on bare steps, what is left with all that training does


def configure(
    task: Task,
    data: LabeledImages,
    split: Split,
    backbone: str,
    recipe: Recipe,
    seed: int,
    device: str,
    start: Run | None,
    processes: int = 1,
) -> RunConfig:
    """What a run's `config.yaml` will say; measures how the machine at hand runs it fastest.

    Args:
        task, data, backbone, seed, device: as `train` has them, checked.
        split: of the set.
        recipe: resolved for this task and backbone.
        start: the run whose weights it begins from.
        processes: that share each batch.

    Raises:
        UsageError: a channel number that the images cannot give.
    """
    channels, height, width = data.images.shape[1:]
    wanted = recipe.channels or channels
    if channels == 3 and wanted == 1:
        raise UsageError(f"{data.source}: has three channels; use --set channels=3")
    mapped = data.attributes.get("mass_map_preset")
    preprocessing = PreprocessingConfig(
        scale="none" if mapped else recipe.scale,  # maps of mass have units, and two signs
        stretch="none" if mapped else recipe.stretch,
        size=recipe.size,
        channels=wanted,
    )
    if recipe.standardize:
        preprocessing = _standardized(preprocessing, data, split)
    config = RunConfig(
        task=task,
        backbone=backbone,
        class_names=data.class_names,
        recipe=recipe,
        preprocessing=preprocessing,
        target=_target(data, split, recipe),
        grid=None if recipe.posterior == "none" else Grid.from_labels(data.labels[split.train]),
        data=DataRecord(
            path=data.source,
            description=data.description,
            fingerprint=data.fingerprint,
            images=len(data),
            shape=(channels, height, width),
            preset=data.attributes.get("preset"),
            seed=data.attributes.get("seed"),
            mass_map_preset=mapped,
        ),
        execution=Execution(device=device),
        steps=1,
        seed=seed,
        initial_weights=start_note(backbone, recipe, wanted, start),
        versions=versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    order = Order(len(split.train), recipe.batch_size, seed)
    rows = np.sort(split.train[: -(-order.batch_size // processes)])
    example = Preprocessing(preprocessing)(take_rows(data.images, rows))
    _try_out(config, example[:1])
    execution = choose_execution(
        config.build_network, example, device, recipe.precision, recipe.channels_last
    )
    if execution.images_per_second:
        together = processes * execution.images_per_second
        execution = execution.model_copy(update={"images_per_second": together})
    steps = recipe.epochs * order.steps_per_epoch
    if recipe.max_seconds is not None and execution.images_per_second:
        seconds = order.batch_size / (SUSTAINED * execution.images_per_second)
        seconds += _seconds_of_fresh(data, recipe, order.batch_size, device) / processes
        steps = max(1, min(steps, int(recipe.max_seconds / seconds)))
    stretch = stretch_of(execution, order.batch_size)
    return config.model_copy(update={"execution": execution, "steps": steps, "stretch": stretch})


def stretch_of(execution: Execution, batch_size: int) -> int:
    """How many steps take `STRETCH` seconds, one at least, by the speed that was measured."""
    return max(1, int(STRETCH * (execution.images_per_second or 0.0) / batch_size))


def _seconds_of_fresh(data: LabeledImages, recipe: Recipe, batch: int, device: str) -> float:
    """How long it takes to make a step's fresh images."""
    fresh = curriculum(
        data,
        preset_from_dataset(data) if recipe.online_fraction else None,
        recipe,
        1,
        batch,
        0,
        device,
    )
    if fresh is None:
        return 0.0
    fresh.images(0)  # what is made once is no matter
    begin = time.monotonic()
    fresh.images(1)[0].cpu()
    return time.monotonic() - begin


def _try_out(config: RunConfig, example: torch.Tensor) -> None:
    """Refuse a network that cannot take these images, as some take one size only."""
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            config.build_network().eval()(example)
    except (AssertionError, RuntimeError, ValueError) as error:
        _, _, height, width = example.shape
        raise UsageError(
            f"{config.backbone} cannot take images of {width} x {height} pixels"
            f" ({' '.join(str(error).split())}); try --set size=224"
        ) from error


def _standardized(
    config: PreprocessingConfig, data: LabeledImages, split: Split
) -> PreprocessingConfig:
    """Mean and standard deviation of up to 1,000 training images, after scale and stretch.

    Of mapped images those of each channel, for their units differ.
    """
    rows = np.sort(split.train[:: max(1, len(split.train) // 1000)])
    images = Preprocessing(config.model_copy(update={"size": None, "channels": 1}))(
        take_rows(data.images, rows)
    )
    if "mass_map_preset" in data.attributes:
        means, stds = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3)).clamp_min(1e-12)
        return config.model_copy(
            update={"mean": tuple(means.tolist()), "std": tuple(stds.tolist())}
        )
    mean, std = float(images.mean()), float(images.std())
    return config.model_copy(update={"mean": mean, "std": max(std, 1e-12)})


def _target(data: LabeledImages, split: Split, recipe: Recipe) -> TargetConfig:
    if data.task == "classification":
        return TargetConfig()
    target = TargetConfig(transform=recipe.target)
    if recipe.standardize_target or recipe.posterior != "none":
        encoded = target.encode(torch.from_numpy(data.labels[split.train]))
        target = TargetConfig(
            transform=recipe.target, mean=float(encoded.mean()), std=float(encoded.std())
        )
    return target
