"""What cannot be trained, said before anything is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halometry.data.labelled import LabelledImages
from halometry.data.split import Split
from halometry.errors import DataError, RunError, UsageError
from halometry.tasks import Task
from halometry.training.recipe import Recipe
from halometry.training.run import Run, load_run


def load_start(path: str | Path, task: Task, backbone: str, out: Path) -> Run:
    """The run whose weights the run in `out` begins from.

    Raises:
        RunError: not a finished run, or of another task or backbone.
        UsageError: the run in `out` itself.
    """
    run = load_run(path, task)
    if run.path.resolve() == out.resolve():
        raise UsageError(f"--start {path}: is also the --out folder; choose another --out")
    if run.config.backbone != backbone:
        raise RunError(f"{path}: is a {run.config.backbone}, not a {backbone}; see --start")
    return run


def check_start(start: Run, data: LabelledImages, split: Split) -> None:
    """Refuse to begin from weights that have seen the images this run will be judged on.

    Raises:
        UsageError: the start learnt from some of them.
    """
    if not start.config.data.begins_like(data):
        return
    seen = start.split()
    both = np.intersect1d(np.concatenate([seen.train, seen.selection]), split.test)
    if len(both):
        raise UsageError(
            f"--start {start.source}: it was trained on {len(both)} of the {len(split.test)} test"
            f" images; use its seed (--seed {start.config.seed}), or start from other images"
        )


def check_shares(processes: int, split: Split, recipe: Recipe) -> None:
    """Refuse more processes than there is work for.

    Raises:
        UsageError: a batch, or the selection set, has fewer images than there are processes.
    """
    batch = min(recipe.batch_size, len(split.train))
    for what, count in (("a batch", batch), ("the selection set", len(split.selection))):
        if processes > count:
            raise UsageError(
                f"--devices, --nodes: {processes} processes cannot share the {count} images of"
                f" {what}; use fewer"
            )


def check_labels(labelled: LabelledImages, task: Task, recipe: Recipe) -> None:
    """Refuse labels that this task or recipe cannot learn.

    Raises:
        UsageError: labels of the other task.
        DataError: labels that are all equal, or not positive where their logarithm is wanted.
    """
    if labelled.task != task:
        other = "mass fractions" if labelled.task == "regression" else "classes"
        raise UsageError(f"{labelled.source}: holds {other}; use --task {labelled.task}")
    if task == "regression":
        if np.ptp(labelled.labels) == 0:
            raise DataError(f"{labelled.source}: all labels are {labelled.labels[0]:g}")
        if recipe.target == "log" and labelled.labels.min() <= 0:
            raise DataError(f"{labelled.source}: --target log needs labels above zero")
