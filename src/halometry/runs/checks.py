"""TODO docstring."""

from __future__ import annotations

from halometry.datasets.dataset import LabeledImages
from halometry.errors import DataError, RunError
from halometry.runs.open import AnyRun


def check_compatible(run: AnyRun, data: LabeledImages) -> None:
    """Refuse images that a run cannot answer for.

    Raises:
        RunError: they are for the other task.
        DataError: they have other classes, or another shape.
    """
    config = run.config
    if data.task != config.task:
        raise RunError(
            f"{run.source}: is a run for {config.task}, {data.source} is for {data.task}"
        )
    if config.class_names is not None and data.class_names != config.class_names:
        there, here = ", ".join(data.class_names or ()), ", ".join(config.class_names)
        raise DataError(f"{data.source}: has classes {there}; {run.source} was trained on {here}")
    if (
        reason := config.incompatibility(
            data.images.shape[1:], data.attributes.get("mass_map_preset")
        )
    ) is not None:
        raise DataError(f"{data.source}: each image {reason}")
