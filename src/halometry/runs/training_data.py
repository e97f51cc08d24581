"""What a run was trained on: the preset its images were drawn from, and their labels."""

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
from halometry.massmaps.mapper import format_shape
from halometry.massmaps.pool import preset_from_yaml
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun
from halometry.simulation import Preset, draw_scenes, list_presets, load_preset

DRAWN = 4096  # labels that tell the law of a preset's


def preset_of_run(run: AnyRun) -> Preset:
    """The preset that a run's training images were drawn from.

    It is read from the set where that is still there, and is otherwise the package's of that name.

    Raises:
        RunError: the images were not simulated, or their preset is not here.
        ConfigError: it is, and names files that are not.
    """
    trained = run.config.data
    if trained.preset is None:
        raise RunError(
            f"{run.source}: was trained on {trained.path}, which was not simulated from a preset"
        )
    store = _store_of(run)
    if store is not None and "preset_yaml" in store[0]:
        content = yaml.safe_load(store[0]["preset_yaml"])
        return validate(Preset, content, f"the preset in {trained.path}")
    if trained.preset in list_presets():
        return load_preset(trained.preset)
    raise RunError(
        f"{run.source}: was trained on images of the preset '{trained.preset}', which is none of"
        f" the package's, and {trained.path} is not here to read it from"
    )


def preset_for(run: AnyRun, given: str | Path | Preset | None) -> Preset:
    """The preset whose images a run is asked about: one that is given, or its own.

    Raises:
        RunError: it has other classes or another shape than the run's images; the run has none of
            its own.
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
        there, here = (
            ", ".join(names) if names else "masses"
            for names in (run.config.class_names, preset.class_names)
        )
        raise RunError(
            f"{run.source}: answers for {there}; preset {preset.name} has {here}; give another with"
            " --preset"
        )
    if (reason := _misfit(run, preset.image.shape)) is not None:
        raise RunError(
            f"{run.source}: each image of preset {preset.name} {reason}; give another with --preset"
        )
    return preset


def _misfit(run: AnyRun, shape: tuple[int, int, int]) -> str | None:
    """Why plain images (C, H, W) cannot be given to a run, which may have to map them; or None."""
    if run.config.data.mass_map_preset is None:
        return run.config.incompatibility(shape)
    wanted = preset_from_yaml(run.config.data.mass_map_preset).image.shape
    if shape == wanted:
        return None
    return f"is {format_shape(shape)}; to be mapped it must be {format_shape(wanted)}"


def labels_of_run(run: AnyRun) -> np.ndarray:
    """What a run's training images were labeled with: class indices or mass fractions (n,).

    Raises:
        RunError: the set is not here, and its preset neither.
    """
    trained = run.config.data
    store = _store_of(run)
    if store is not None:
        labels: np.ndarray = store[1][_split_of(run).train]
        return labels
    if trained.preset is not None:
        return labels_of_preset(preset_of_run(run), trained.seed or 0, min(trained.images, DRAWN))
    if Path(trained.path).exists():
        data = open_dataset(trained.path)
        if data.fingerprint == trained.fingerprint:
            return data.labels[_split_of(run).train]
        raise RunError(f"{run.source}: {trained.path} has changed since it was trained on it")
    raise RunError(f"{run.source}: the set it was trained on, {trained.path}, is not here")


def labels_of_preset(preset: Preset, seed: int, count: int) -> np.ndarray:
    """What a preset's images are labeled with (count,)."""
    if preset.task == "classification":  # in turn
        return np.arange(count) % len(preset.kinds)
    labels: np.ndarray = draw_scenes(preset, seed, 0, count).labels.numpy()
    return labels


def _store_of(run: AnyRun) -> tuple[dict[str, Any], np.ndarray] | None:
    """Attributes and labels of the simulated set that a run was trained on, if it is here."""
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
    """How the set was split; of runs that answer together as that one says whose set it is."""
    return (run.strictest if isinstance(run, Ensemble) else run).split()
