"""What cannot be trained, said before anything is."""

from __future__ import annotations

import numpy as np

from halometry.config import Task
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.splits import Split
from halometry.errors import DataError, UsageError
from halometry.runs.recipe import Recipe


def check_shares(processes: int, split: Split, recipe: Recipe) -> None:
    """Refuse more processes than there is work for.

    Raises:
        UsageError: a batch, or the validation set, has fewer images than there are processes.
    """
    batch = min(recipe.batch_size, len(split.train))
    for what, count in (("a batch", batch), ("the validation set", len(split.validation))):
        if processes > count:
            raise UsageError(
                f"--devices, --nodes: {processes} processes cannot share the {count} images of"
                f" {what}; use fewer"
            )


def check_labels(labeled: LabeledImages, task: Task, recipe: Recipe) -> None:
    """Refuse labels that this task or recipe cannot learn.

    Raises:
        UsageError: labels of the other task, or a posterior of classes.
        DataError: a class without images, or masses that are all equal, or not positive where
            their logarithm is wanted.
    """
    if labeled.task != task:
        other = "mass fractions" if labeled.task == "regression" else "classes"
        raise UsageError(f"{labeled.source}: holds {other}; use --task {labeled.task}")
    if task == "classification" and recipe.posterior != "none":
        raise UsageError(
            f"posterior={recipe.posterior} is for --task regression; probabilities of classes are"
            " what a classification answers anyway"
        )
    for k, name in enumerate(labeled.class_names or ()):
        if not (labeled.labels == k).any():
            raise DataError(
                f"{labeled.source}: has no image of class '{name}'; add some, or remove the class"
            )
    if task == "regression":
        if np.ptp(labeled.labels) == 0:
            raise DataError(f"{labeled.source}: all labels are {labeled.labels[0]:g}")
        if recipe.target == "log" and labeled.labels.min() <= 0:
            raise DataError(f"{labeled.source}: --target log needs labels above zero")
