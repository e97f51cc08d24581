"""Checks that a dataset fits a run."""

from __future__ import annotations

from halometry.datasets.dataset import LabeledImages
from halometry.errors import DataError, RunError
from halometry.runs.open import AnyRun


def check_compatible(run: AnyRun, data: LabeledImages) -> None:
    """Check that a run can predict the images of a dataset.

    Raises:
        RunError: the dataset is for the other task.
        DataError: it has other classes, or images of another shape.
    """
    config = run.config
    if data.task != config.task:
        raise RunError(
            f"{run.source}: is a run for {config.task}, {data.source} is for {data.task}"
        )
    given, expected = (", ".join(names or ()) for names in (data.class_names, config.class_names))
    if given.casefold() != expected.casefold():
        raise DataError(
            f"{data.source}: has classes {given}; {run.source} was trained on {expected}"
        )
    mass_map_preset = data.attributes.get("mass_map_preset")
    reason = config.incompatibility(data.images.shape[1:], mass_map_preset)
    if reason is not None:
        raise DataError(f"{data.source}: each image {reason}")
