"""Inputs of training: the images of a labeled set, or their mass maps."""

from __future__ import annotations

from pathlib import Path

from halometry.config import INPUTS, Inputs, Task
from halometry.datasets.dataset import LabeledImages, preset_from_dataset
from halometry.datasets.open import open_dataset
from halometry.errors import ConfigError, UsageError, did_you_mean
from halometry.lensfit.observation import noise_is_known
from halometry.massmaps.cached import mapped_dataset
from halometry.massmaps.mapper import format_shape
from halometry.parallel import Workers
from halometry.runs.recipe import Recipe
from halometry.simulation import Preset, list_presets, load_preset
from halometry.training.assumed_preset import assume_preset


def open_inputs(
    data: str | Path | LabeledImages,
    task: Task,
    inputs: Inputs = "raw",
    preset: str | Path | Preset | None = None,
    workers: Workers = "auto",
    *,
    recipe: Recipe | None = None,
) -> LabeledImages:
    """Open a labeled set as a network is trained on it.

    Args:
        data: a labeled set or its path.
        task: expected type of the labels.
        inputs: `raw` for the images as they are, `maps` for their mass maps.
        preset: preset that the images follow; None for that of a simulated set.
        workers: processes that compute mass maps.
        recipe: of the run, which scales raw images; None for no scaling.

    Raises:
        DataError: there is no such set, or an image cannot be mapped.
        UsageError: an option is unknown, or the preset is missing or does not fit.
        StorageError: the cache has no room for the maps.
    """
    if inputs not in INPUTS:
        raise UsageError(f"--inputs {inputs}: unknown; {did_you_mean(inputs, INPUTS)}")
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data, task=task)
    given = preset if isinstance(preset, Preset | None) else load_preset(preset)
    if inputs == "raw":
        return labeled if given is None else assume_preset(labeled, given, recipe or Recipe())
    mapped_by = labeled.attributes.get("mass_map_preset")
    if mapped_by is not None and given is None:
        return labeled
    chosen = given or preset_from_dataset(labeled)
    if chosen is None:
        raise UsageError(_missing_preset(labeled))
    return mapped_dataset(labeled, chosen, workers=workers)


def _missing_preset(data: LabeledImages) -> str:
    """Message that a set does not say its preset, with presets whose images have its shape."""
    shape = data.images.shape[1:]
    names = [name for name in list_presets() if _fits(name, data)]
    size = format_shape(shape)
    choice = (
        f"those of {size} images are {', '.join(names)}" if names else f"none has {size} images"
    )
    return (
        f"{data.source}: does not say which preset its images follow; give it with --preset"
        f" ({choice}; a YAML file describes others)"
    )


def _fits(name: str, data: LabeledImages) -> bool:
    """Whether a preset has the task of a set and its shape, and images that can be mapped."""
    try:
        preset = load_preset(name)
    except ConfigError:  # it needs a file that is not here
        return False
    fits = preset.task == data.task and preset.image.shape == tuple(data.images.shape[1:])
    return fits and noise_is_known(preset.image)
