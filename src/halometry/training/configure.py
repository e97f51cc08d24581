"""Configuration of a run: everything that is fixed before training begins."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import torch

from halometry.calibration.posterior import Grid
from halometry.config import Task
from halometry.datasets.dataset import LabeledImages, take_rows
from halometry.datasets.splits import Split
from halometry.errors import UsageError
from halometry.models.predictor import TargetConfig
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig
from halometry.provenance import versions
from halometry.runs.config import DataRecord, RunConfig, build_network, count_outputs
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run
from halometry.training.hardware import (
    NetworkProfile,
    choose_execution,
    profile_network,
    steps_per_checkpoint,
)
from halometry.training.sampling import EpochSampler
from halometry.training.warm_start import describe_initial_weights

STANDARDIZATION_IMAGES = 1000  # about so many training images give the mean and its deviation
MIN_STD = 1e-12


def configure(
    task: Task,
    data: LabeledImages,
    split: Split,
    backbone: str,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    initial_run: Run | None = None,
) -> RunConfig:
    """Create the configuration of a run, as it is written to `config.yaml`.

    Args:
        task: of the run.
        data: the labeled set.
        split: of the set.
        backbone: its name.
        recipe: resolved for this task and backbone.
        seed: of weights, order and augmentation.
        device: of the run, checked.
        initial_run: the run whose weights it begins with, or None.

    Raises:
        UsageError: the recipe wants a number of channels that the images do not have, or the
            network cannot take images of this size.
    """
    preprocessing = _preprocessing(data, split, recipe)
    profile = _profile(data, split, backbone, recipe, preprocessing)
    sampler = EpochSampler(len(split.train), recipe.batch_size, seed)
    return RunConfig(
        task=task,
        backbone=backbone,
        class_names=data.class_names,
        recipe=recipe,
        preprocessing=preprocessing,
        target=_target(data, split, recipe),
        class_weights=_class_weights(data, split, recipe),
        grid=None if recipe.posterior == "none" else Grid.from_labels(data.labels[split.train]),
        data=data_record(data),
        execution=choose_execution(profile, recipe, device),
        steps=recipe.epochs * sampler.steps_per_epoch,
        checkpoint_every_n_steps=steps_per_checkpoint(profile, sampler.batch_size),
        seed=seed,
        initial_weights=describe_initial_weights(
            backbone, recipe, preprocessing.channels, initial_run
        ),
        versions=versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def data_record(data: LabeledImages) -> DataRecord:
    """Record of a dataset for `config.yaml`."""
    is_simulated = "preset" in data.attributes
    return DataRecord(
        path=data.source,
        description=data.description,
        fingerprint=data.fingerprint,
        images=len(data),
        shape=data.images.shape[1:],
        preset=data.attributes.get("preset"),
        seed=data.attributes.get("seed"),
        assumed_preset=None if is_simulated else data.attributes.get("preset_yaml"),
        mass_map_preset=data.attributes.get("mass_map_preset"),
    )


def _preprocessing(data: LabeledImages, split: Split, recipe: Recipe) -> PreprocessingConfig:
    """Preprocessing of a run. Mass maps, which are signed, are neither scaled nor stretched."""
    available = data.images.shape[1]
    channels = recipe.channels or available
    if available == 3 and channels == 1:
        raise UsageError(f"{data.source}: has three channels; use --set channels=3")
    is_mapped = "mass_map_preset" in data.attributes
    preprocessing = PreprocessingConfig(
        scale="none" if is_mapped else recipe.scale,
        stretch="none" if is_mapped else recipe.stretch,
        size=recipe.size,
        channels=channels,
    )
    return _standardized(preprocessing, data, split) if recipe.standardize else preprocessing


def _profile(
    data: LabeledImages,
    split: Split,
    backbone: str,
    recipe: Recipe,
    preprocessing: PreprocessingConfig,
) -> NetworkProfile:
    """Profile of the network, by a forward pass of one training image.

    Raises:
        UsageError: the network cannot take images of this size.
    """
    image = Preprocessing(preprocessing)(take_rows(data.images, np.sort(split.train[:1])))
    n_outputs = count_outputs(recipe, data.class_names)
    try:
        with torch.random.fork_rng(devices=[]):
            network = build_network(
                backbone, recipe, channels=preprocessing.channels, n_outputs=n_outputs
            )
            return profile_network(network, image)
    except (AssertionError, RuntimeError, ValueError) as error:
        _, _, height, width = image.shape
        raise UsageError(
            f"{backbone} cannot take images of {width} x {height} pixels"
            f" ({' '.join(str(error).split())}); try --set size=224"
        ) from error


def _standardized(
    config: PreprocessingConfig, data: LabeledImages, split: Split
) -> PreprocessingConfig:
    """Add mean and standard deviation of training images, after scale and stretch.

    Those of mass maps are taken for each channel, because their units differ.
    """
    rows = np.sort(split.train[:: max(1, len(split.train) // STANDARDIZATION_IMAGES)])
    images = Preprocessing(config.model_copy(update={"size": None, "channels": 1}))(
        take_rows(data.images, rows)
    )
    if "mass_map_preset" in data.attributes:
        means, stds = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3)).clamp_min(MIN_STD)
        return config.model_copy(
            update={"mean": tuple(means.tolist()), "std": tuple(stds.tolist())}
        )
    mean, std = float(images.mean()), float(images.std())
    return config.model_copy(update={"mean": mean, "std": max(std, MIN_STD)})


def _class_weights(data: LabeledImages, split: Split, recipe: Recipe) -> tuple[float, ...]:
    if recipe.class_weights == "none":
        return ()
    counts = np.bincount(data.labels[split.train], minlength=len(data.class_names or ()))
    return tuple((counts.mean() / counts).tolist())


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
