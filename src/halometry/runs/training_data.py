"""Training data of a run: the preset that the images follow, and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from halometry.config import validate
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split
from halometry.datasets.store import is_store, open_store, read_attributes
from halometry.errors import ConfigError, RunError
from halometry.runs.checks import plain_incompatibility
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun
from halometry.simulation import Preset, draw_scenes, list_presets, load_preset

MAX_DRAWN_LABELS = 4096  # labels that are simulated where the dataset is not here


def preset_of_run(run: AnyRun) -> Preset:
    """Return the preset that a run's training images follow.

    That of simulated images is read from the dataset if it is still there. Otherwise it is the
    package's preset of that name. That of other images is what the user gave with `--preset`, for
    training or for mass maps.

    Raises:
        RunError: the images follow no known preset, or their preset is not here.
        ConfigError: the preset names files that are not here.
    """
    trained = run.config.data
    if trained.preset is None:
        text = trained.assumed_preset or trained.mass_map_preset
        if text is not None:
            return validate(Preset, yaml.safe_load(text), f"the preset in {run.source}")
        raise RunError(
            f"{run.source}: was trained on {trained.path}, which follows no known preset"
        )
    store = _store_of(run)
    if store is not None and "preset_yaml" in store[0]:
        content = yaml.safe_load(store[0]["preset_yaml"])
        return validate(Preset, content, f"the preset in {trained.path}")
    if trained.preset in list_presets():
        return load_preset(trained.preset)
    raise RunError(
        f"{run.source}: was trained on images of the preset '{trained.preset}', which does not come"
        f" with halometry, and {trained.path} is not here to read it from"
    )


def preset_for(run: AnyRun, given: str | Path | Preset | None) -> Preset:
    """Return the preset of the images that a run is applied to.

    Args:
        run: the run.
        given: name, file or preset; None takes the run's own.

    Raises:
        RunError: the preset has other classes or another shape than the run's images, or the run
            has no preset of its own.
        ConfigError, UsageError: there is no such preset, or it is wrong.
    """
    if given is None:
        try:
            preset = preset_of_run(run)
        except (RunError, ConfigError) as error:
            raise RunError(f"{error}; say which preset its images follow with --preset") from error
    else:
        preset = given if isinstance(given, Preset) else load_preset(given)
    if preset.class_names != run.config.class_names:
        predicted, simulated = (
            ", ".join(names) if names else "masses"
            for names in (run.config.class_names, preset.class_names)
        )
        raise RunError(
            f"{run.source}: predicts {predicted}; preset {preset.name} has {simulated}; give"
            " another with --preset"
        )
    if (reason := plain_incompatibility(run, preset.image.shape)) is not None:
        raise RunError(
            f"{run.source}: each image of preset {preset.name} {reason}; give another with --preset"
        )
    return preset


def labels_of_run(run: AnyRun) -> np.ndarray:
    """Return the labels of a run's training images: class indices or mass fractions (n,).

    Raises:
        RunError: neither the dataset nor its preset is here.
    """
    trained = run.config.data
    store = _store_of(run)
    if store is not None:
        labels: np.ndarray = store[1][_split_of(run).train]
        return labels
    if trained.preset is not None:
        return labels_of_preset(
            preset_of_run(run), trained.seed or 0, min(trained.images, MAX_DRAWN_LABELS)
        )
    if Path(trained.path).exists():
        data = open_dataset(trained.path)
        if data.fingerprint == trained.fingerprint:
            return data.labels[_split_of(run).train]
        raise RunError(f"{run.source}: {trained.path} has changed since the run was trained on it")
    raise RunError(f"{run.source}: the dataset it was trained on, {trained.path}, is not here")


def labels_of_preset(preset: Preset, seed: int, count: int) -> np.ndarray:
    """Return the labels of the first images of a preset (count,)."""
    if preset.task == "classification":  # classes alternate
        return np.arange(count) % len(preset.kinds)
    labels: np.ndarray = draw_scenes(preset, seed, 0, count).labels.numpy()
    return labels


def _store_of(run: AnyRun) -> tuple[dict[str, Any], np.ndarray] | None:
    """Return attributes and labels of the simulated dataset of a run; None if it is not here."""
    trained = run.config.data
    if trained.preset is None or not is_store(trained.path):
        return None
    with open_store(trained.path) as file:
        attributes = read_attributes(file)
        if (attributes.get("preset"), attributes.get("seed")) != (trained.preset, trained.seed):
            return None
        labels: np.ndarray = file["labels"][:]
    return (attributes, labels) if len(labels) >= trained.images else None


def _split_of(run: AnyRun) -> Split:
    """Return the split of a run; for an ensemble that of the member with its configuration."""
    return (run.strictest_member if isinstance(run, Ensemble) else run).split()
