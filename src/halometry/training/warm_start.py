"""The run that another begins from, and what may be said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halometry.config import Task
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.splits import Split
from halometry.errors import RunError, UsageError
from halometry.log import logger
from halometry.models.backbones import SHALLOWER, check_pretrained, pretraining_note
from halometry.runs.lineage import WEIGHTS_OF_RUN
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run, load_run

DEEPER = ", with further blocks"
ANEW = ", with a new head"
# How images and masses come to a network.
LOOKED_AT = ("size", "channels", "scale", "stretch", "standardize", "target", "standardize_target")


def load_start(path: str | Path, task: Task, backbone: str, out: Path) -> Run:
    """The run whose weights the run in `out` begins from: of its backbone, or a shallower one.

    Raises:
        RunError: not a finished run, or of another task or backbone.
        UsageError: the run in `out` itself.
    """
    run = load_run(path, task)
    if run.path.resolve() == out.resolve():
        raise UsageError(f"--start {path}: is also the --out folder; choose another --out")
    if run.config.backbone not in (backbone, SHALLOWER.get(backbone)):
        raise RunError(f"{path}: is a {run.config.backbone}, not a {backbone}; see --start")
    return run


def check_start(start: Run, data: LabeledImages, split: Split) -> None:
    """Refuse to begin from weights that know images which this run is to be settled or judged by.

    Raises:
        UsageError: the start, or what that was begun from, learnt from some of them.
    """
    judges = np.concatenate([split.calibration, split.test])
    kept = len(split.validation) + len(judges)
    for one in start.lineage_with_own_data():
        if not one.data.shares_images_with(data):
            continue
        both = np.union1d(
            np.intersect1d(one.seen_rows, judges), np.intersect1d(one.split.train, split.validation)
        )
        if len(both):
            seed = one.split.seed
            split_alike = "" if seed == split.seed else f"use its split's seed (--seed {seed}), or "
            raise UsageError(
                f"--start {start.source}: it has learnt from {len(both)} of the {kept} images that"
                f" are to choose, calibrate or judge this run; {split_alike}train on other"
                " images, such as those of another seed"
            )


def say_differences(start: Run, recipe: Recipe) -> None:
    """Say what the weights of a start are not used to, which they may learn."""
    there = start.config.recipe
    differing = [key for key in LOOKED_AT if getattr(there, key) != getattr(recipe, key)]
    if differing:
        told = ", ".join(f"{key}={getattr(there, key)}" for key in differing)
        logger.info(f"--start {start.source}: has learnt with {told}; here it is otherwise")


def check_frozen(recipe: Recipe, start: Run | None) -> None:
    """Refuse to freeze a backbone that has learnt nothing.

    Raises:
        UsageError: there is neither a run to begin from, nor ImageNet weights.
    """
    if recipe.freeze_backbone and start is None and not recipe.pretrained:
        raise UsageError("freeze_backbone=true needs a trained backbone; give one with --start RUN")


def start_note(backbone: str, recipe: Recipe, channels: int, start: Run | None) -> str:
    """What the weights are before training, in words."""
    if start is not None:
        note = WEIGHTS_OF_RUN.format(start.source, start.config.data.preset or "other images")
        note += DEEPER if is_shallower(start, backbone) else ""
        return note + ANEW if has_other_head(start, recipe) else note
    if recipe.pretrained:
        check_pretrained(backbone)
        return pretraining_note(backbone, channels, recipe.stem_init)
    return "random weights"


def has_other_head(start: Run, recipe: Recipe) -> bool:
    """Whether only the backbone's weights can be taken, since the answers are of another kind."""
    return start.config.recipe.posterior != recipe.posterior


def is_shallower(start: Run, backbone: str) -> bool:
    """Whether the network has further blocks, that the run's weights say nothing of."""
    return start.config.backbone != backbone
