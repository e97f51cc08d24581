"""Checks of the data, the recipe and the initial run, made before training begins."""

from __future__ import annotations

import numpy as np

from halometry.config import Task
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.splits import Split
from halometry.errors import DataError, UsageError
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run


def check_process_count(processes: int, split: Split, recipe: Recipe) -> None:
    """Check that each process gets at least one image of every batch and of the validation set.

    Raises:
        UsageError: there are more processes than images.
    """
    batch = min(recipe.batch_size, len(split.train))
    for name, count in (("a batch", batch), ("the validation set", len(split.validation))):
        if processes > count:
            raise UsageError(
                f"--devices, --nodes: {processes} processes cannot share the {count} images of"
                f" {name}; use fewer"
            )


def check_labels(labeled: LabeledImages, task: Task, recipe: Recipe) -> None:
    """Check that the labels of a set suit the task and the recipe.

    Raises:
        UsageError: the labels belong to the other task, or the recipe asks for a posterior in a
            classification or for class weights in a regression.
        DataError: a class has no images; or all masses are equal; or a mass is not positive
            although its logarithm is wanted.
    """
    if labeled.task != task:
        other = "mass fractions" if labeled.task == "regression" else "classes"
        raise UsageError(f"{labeled.source}: holds {other}; use --task {labeled.task}")
    if task == "classification" and recipe.posterior != "none":
        raise UsageError(
            f"posterior={recipe.posterior} is for --task regression; a classification predicts"
            " probabilities of classes anyway"
        )
    if task == "regression" and recipe.class_weights != "none":
        raise UsageError(f"class_weights={recipe.class_weights} is for --task classification")
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


def check_frozen(recipe: Recipe, initial_run: Run | None) -> None:
    """Check that a backbone that is to be frozen has trained weights.

    Raises:
        UsageError: there is neither an initial run, nor are there ImageNet weights.
    """
    if recipe.freeze_backbone and initial_run is None and not recipe.pretrained:
        raise UsageError(
            "freeze_backbone=true needs a trained backbone; give one with --init-from RUN"
        )


def check_unseen(initial_run: Run, data: LabeledImages, split: Split) -> None:
    """Check that the initial weights have not seen the images that will evaluate the new run.

    Calibration and test images must not have trained or selected the initial weights, nor those
    of its own lineage; validation images must not have trained them.

    Raises:
        UsageError: they have.
    """
    evaluation_rows = np.concatenate([split.calibration, split.test])
    count = len(split.validation) + len(evaluation_rows)
    for entry in initial_run.lineage_with_own_data():
        if not entry.data.shares_images_with(data):
            continue
        seen = np.union1d(
            np.intersect1d(entry.seen_rows, evaluation_rows),
            np.intersect1d(entry.split.train, split.validation),
        )
        if len(seen):
            seed = entry.split.seed
            hint = "" if seed == split.seed else f"use the seed of its split (--seed {seed}), or "
            raise UsageError(
                f"--init-from {initial_run.source}: was trained on {len(seen)} of the {count}"
                " validation, calibration and test images of the new run;"
                f" {hint}train on other images, such as those of another seed"
            )
