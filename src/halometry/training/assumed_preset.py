"""Preset that the images of a dataset are assumed to follow, where they were not simulated here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from halometry.datasets.dataset import LabeledImages, preset_from_dataset, take_rows
from halometry.errors import UsageError
from halometry.log import logger, warn
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig, Scale
from halometry.runs.recipe import Recipe
from halometry.simulation import Preset, list_presets, load_preset
from halometry.simulation.render import sample

COMPARED_IMAGES = 64  # of the dataset, and of the preset, whose brightness is compared
CENTRAL_QUANTILES = (0.16, 0.84)


def assume_preset(
    data: LabeledImages, preset: str | Path | Preset, recipe: Recipe
) -> LabeledImages:
    """Record in a dataset the preset that its images follow, as the user says.

    Training can then simulate further images and knows their mass maps. The preset gets the
    classes of the dataset, in their order.

    Args:
        data: dataset of images, plain ones.
        preset: name, YAML file, or preset.
        recipe: of the run, which says how images are scaled.

    Returns:
        The dataset with `preset_yaml` among its attributes.

    Raises:
        UsageError: the images have another task, shape, class or brightness than the preset's; or
            they were simulated from another preset; or they cannot be simulated in training.
        ConfigError: the preset is wrong.
    """
    preset = preset if isinstance(preset, Preset) else load_preset(preset)
    if "preset" in data.attributes:
        if preset_from_dataset(data) == preset:
            return data
        raise UsageError(
            f"{data.source}: was simulated from its own preset {data.attributes['preset']};"
            " leave --preset out"
        )
    if "mass_map_preset" in data.attributes:
        raise UsageError(
            f"{data.source}: holds mass maps, which cannot be simulated in training;"
            " leave --preset out"
        )
    if (difference := _difference(data, preset)) is not None:
        raise UsageError(
            f"{data.source}: {difference}; give another preset, see 'halometry presets'"
        )
    if preset.halos is not None:
        raise UsageError(
            f"preset {preset.name}: its images have halos along the line of sight, which take"
            " seconds an image; they cannot be simulated in training, leave --preset out"
        )
    preset = _with_classes_of(data, preset)
    _check_brightness(data, preset, recipe.scale)
    if recipe.online_fraction or recipe.aux_loss_weight:
        logger.info(
            f"{data.source}: a fraction {recipe.online_fraction:g} of each batch is simulated from"
            f" preset {preset.name}"
        )
    else:
        logger.info(
            f"recipe {recipe.name}: simulates no images in training; --preset changes nothing in it"
        )
    return replace(data, attributes={**data.attributes, "preset_yaml": preset.to_yaml()})


def find_preset(data: LabeledImages, scale: Scale) -> str | None:
    """Find a preset of the package whose images have the task, classes, shape and brightness.

    Args:
        data: dataset of plain images.
        scale: scaling of the images by the recipe.

    Returns:
        Its name; None if there is none.
    """
    for name in sorted(list_presets(), key=len):
        preset = load_preset(name)
        if preset.halos is None and _difference(data, preset) is None:
            compared = _compare_brightness(data, _with_classes_of(data, preset), scale)
            if all(each.is_typical for each in compared):
                return name
    return None


def _difference(data: LabeledImages, preset: Preset) -> str | None:
    """Difference of a dataset from a preset in task, classes or shape; None if there is none."""
    if data.task != preset.task or not set(data.class_names or ()) <= set(preset.classes):
        own, other = (
            f"classes {', '.join(names)}" if names else "mass fractions"
            for names in (data.class_names, preset.class_names)
        )
        return f"has {own}, preset {preset.name} has {other}"
    own, other = (" x ".join(map(str, s)) for s in (data.images.shape[1:], preset.image.shape))
    if own != other:
        return f"its images are {own}, those of preset {preset.name} are {other}"
    return None


def _with_classes_of(data: LabeledImages, preset: Preset) -> Preset:
    """The preset with the classes of a dataset in their order, which gives their indices."""
    if data.class_names is None:
        return preset
    return preset.model_copy(
        update={"classes": {name: preset.classes[name] for name in data.class_names}}
    )


@dataclass(frozen=True)
class Compared:
    """A statistic of the pixels of images, of a dataset and of a preset.

    Attributes:
        name: of the statistic.
        median: of the images of the dataset.
        simulated: of each image of the preset (n,).
    """

    name: str
    median: float
    simulated: np.ndarray

    @property
    def is_typical(self) -> bool:
        """Whether the dataset's median is among the central values of the preset's images."""
        low, high = np.quantile(self.simulated, CENTRAL_QUANTILES)
        return bool(low <= self.median <= high)

    @property
    def is_possible(self) -> bool:
        """Whether the dataset's median is between the extreme values of the preset's images."""
        return bool(self.simulated.min() <= self.median <= self.simulated.max())

    def __str__(self) -> str:
        low, middle, high = np.quantile(self.simulated, (0, 0.5, 1))
        return f"{self.name} {self.median:.3g}, not {middle:.3g} ({low:.3g} to {high:.3g})"


def _compare_brightness(data: LabeledImages, preset: Preset, scale: Scale) -> list[Compared]:
    """Compare mean and standard deviation of the pixels of images, scaled as in training."""
    rows = np.unique(np.linspace(0, len(data) - 1, COMPARED_IMAGES).astype(int))
    own = _pixels(take_rows(data.images, rows), scale)
    simulated = _pixels(sample(preset, 0, 0, COMPARED_IMAGES)[0], scale)
    return [
        Compared("mean", float(own.mean(1).median()), simulated.mean(1).numpy()),
        Compared("standard deviation", float(own.std(1).median()), simulated.std(1).numpy()),
    ]


def _pixels(images: Tensor, scale: Scale) -> Tensor:
    return Preprocessing(PreprocessingConfig(scale=scale))(images).flatten(1)


def _check_brightness(data: LabeledImages, preset: Preset, scale: Scale) -> None:
    """Check that the network sees images of a dataset and of a preset on the same footing.

    Raises:
        UsageError: images that are not scaled one by one have another unit than the preset's.
    """
    compared = _compare_brightness(data, preset, scale)
    different = [each for each in compared if not each.is_typical]
    if not different:
        return
    values = f"their pixels have a {' and a '.join(map(str, different))}"
    if scale == "none" and not all(each.is_possible for each in different):
        raise UsageError(
            f"{data.source}: its images are not in the counts of preset {preset.name}: {values};"
            " give images in these counts, a preset of their brightness, or --set scale=minmax"
        )
    scaled = ", also after min-max scaling" if scale == "minmax" else ""
    warn(
        f"{data.source}: its images differ in brightness from those of preset {preset.name}"
        f"{scaled}: {values}; check that they follow this preset"
    )
