"""Networks that predict no better than chance: how to tell, and what to try."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from halometry.config import Task
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.splits import Split
from halometry.errors import ChanceWarning
from halometry.log import logger, warn
from halometry.models.backbones import SHALLOWER_BACKBONES
from halometry.resources import list_weights, weights_folder
from halometry.runs import run as run_folder
from halometry.runs.config import RunConfig
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run
from halometry.training.assumed_preset import find_preset

ONE_SIDED_LEVEL = 0.975  # the lower limit of a 95 % interval lies above chance


def chance_limit(task: Task, labels: np.ndarray) -> float:
    """Largest metric that predictions without any skill reach, in 97.5 % of cases.

    Args:
        task: of the network.
        labels: of the images that give the metric: classes or mass fractions (n,).

    Returns:
        A limit of the mean AUC of each class against the rest, or of R². Both are upper bounds. The
        mean AUC scatters at most as much as the AUC of one class does on average. R² is at most the
        squared correlation of labels and predictions. Infinite where there are too few images.

    References:
        Mann & Whitney (1947), Ann. Math. Stat. 18, 50, for the variance of the AUC;
        Student (1908), Biometrika 6, 302, for the distribution of the correlation.

    Example:
        >>> round(chance_limit("classification", np.arange(300) % 3), 3)
        0.569
        >>> round(chance_limit("regression", np.linspace(0, 1, 300)), 3)
        0.013
    """
    count = len(labels)
    if task == "regression":
        if count < 3:
            return math.inf
        t = float(stats.t.ppf(ONE_SIDED_LEVEL, count - 2))
        return t**2 / (count - 2 + t**2)
    positives = np.unique(labels, return_counts=True)[1]
    if len(positives) < 2:
        return math.inf
    deviations = np.sqrt((count + 1) / (12 * positives * (count - positives)))
    return float(0.5 + stats.norm.ppf(ONE_SIDED_LEVEL) * deviations.mean())


def recommend_preset(config: RunConfig, data: LabeledImages) -> None:
    """Log that a preset would help, before a network with random weights learns raw images."""
    if _has_preset(data) or config.initial_weights != "random weights":
        return
    if (name := find_preset(data, config.recipe.scale)) is not None:
        use = "--preset" if _uses_preset(config.recipe) else "--inputs maps --preset"
        logger.info(
            f"{data.source}: its images look like those of preset {name}; training with"
            f" {use} {name} is recommended"
        )


def warn_if_at_chance(run: Run, data: LabeledImages, split: Split) -> None:
    """Warn if the validation metric of a finished run is not above chance.

    Args:
        run: the run.
        data: its dataset.
        split: of the dataset.
    """
    metrics = run.training_metrics()
    validation, seen = metrics["validation"], metrics["images"]
    if validation["above_chance"]:
        return
    limit = chance_limit(run.config.task, data.labels[split.validation])
    value = f"{validation['metric']} is {validation['value']:.3f}"
    count = f"{len(split.validation):,} images"
    if limit >= 1:
        verdict = f"the validation set of {count} is too small to show any skill. Its {value}."
    else:
        verdict = (
            f"the network is not better than chance. Its validation {value} on {count},"
            f" where predictions without skill reach up to {limit:.3f}."
        )
    sentences = [f"{run.source}: {verdict}", f"It saw {seen:,} images in training."]
    if not _is_mapped(data):
        sentences.append(
            "A network that sees raw images must learn the lens before it can see substructure."
        )
    options = _options(run.config, data, stopped_early=metrics["stopped"] == "early")
    sentences.append(f"Try {', '.join([*options, 'or more images'])}.")
    warn(" ".join(sentences), ChanceWarning)


def _options(config: RunConfig, data: LabeledImages, *, stopped_early: bool) -> list[str]:
    """Options of `train` that may lift a network off chance."""
    options = []
    preset = ""
    if not _has_preset(data):
        preset = f" --preset {find_preset(data, config.recipe.scale) or 'FILE'}"
    if not _is_mapped(data):
        online = ("" if _uses_preset(config.recipe) else " --recipe default") + preset
        options += [option for option in (online.strip(), f"--inputs maps{preset}") if option]
    if config.initial_weights == "random weights" and (weights := _fitting_weights(config)):
        options.append(f"--init-from {weights}")
    if not stopped_early:
        options.append(f"--epochs above {config.recipe.epochs}")
    return options


def _fitting_weights(config: RunConfig) -> str | None:
    """Weights of the package with which a run could have begun; None if there are none."""
    for name in list_weights():
        other = run_folder.read_config(weights_folder(name))
        if (
            other.backbone in (config.backbone, SHALLOWER_BACKBONES.get(config.backbone))
            and (other.task, other.class_names) == (config.task, config.class_names)
            and other.recipe.posterior == config.recipe.posterior
            and other.preprocessing.scale == config.preprocessing.scale
            and other.incompatibility(config.data.shape, config.data.mass_map_preset) is None
        ):
            return name
    return None


def _has_preset(data: LabeledImages) -> bool:
    """Whether it is known which preset the images follow, or were mapped by."""
    return "preset_yaml" in data.attributes or _is_mapped(data)


def _is_mapped(data: LabeledImages) -> bool:
    return "mass_map_preset" in data.attributes


def _uses_preset(recipe: Recipe) -> bool:
    """Whether a recipe simulates images in training."""
    return recipe.online_fraction > 0
