"""Checks that a dataset fits a run."""

from __future__ import annotations

from halometry.datasets.dataset import LabeledImages
from halometry.errors import DataError, RunError
from halometry.runs.open import AnyRun


def check_compatible(run: AnyRun, data: LabeledImages) -> None:
    """Check that a run can predict the images of a dataset, or their mass maps.

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
    if (reason := image_incompatibility(run, data)) is not None:
        raise DataError(f"{data.source}: each image {reason}")


def image_incompatibility(run: AnyRun, data: LabeledImages) -> str | None:
    """Reason why a run can predict neither the images of a dataset nor their mass maps; or None."""
    shape, mass_map_preset = data.images.shape[1:], data.attributes.get("mass_map_preset")
    if mass_map_preset is None:
        return plain_incompatibility(run, shape)
    return run.config.incompatibility(shape, mass_map_preset)


def plain_incompatibility(run: AnyRun, shape: tuple[int, ...]) -> str | None:
    """Reason why a run cannot predict plain images, even if it maps their mass; None if it can.

    Args:
        run: the run.
        shape: (C, H, W).
    """
    if run.config.data.mass_map_preset is None:
        return run.config.incompatibility(shape)
    from halometry.massmaps.mapper import format_shape  # here, because predictions need no physics
    from halometry.massmaps.pool import preset_from_yaml

    expected = preset_from_yaml(run.config.data.mass_map_preset).image.shape
    if tuple(shape) == expected:
        return None
    return f"is {format_shape(shape)}; to be mapped it must be {format_shape(expected)}"
