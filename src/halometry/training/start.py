"""The run that another begins from, and what may be said of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from halometry import hub
from halometry.data.labelled import LabelledImages
from halometry.data.split import Split
from halometry.errors import RunError, UsageError
from halometry.models.backbone import pretraining_note
from halometry.shipped import weights
from halometry.tasks import Task
from halometry.training.recipe import Recipe
from halometry.training.run import Run, load_run
from halometry.training.run_config import RunConfig

START = "weights of the run {} on {}"
ANEW = ", with a new head"
_FROM_A_RUN = re.compile(START.format("(?P<run>.+)", "(?P<images>.+)"))


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
        note = START.format(start.source, start.config.data.preset or "other images")
        return note + ANEW if has_other_head(start, recipe) else note
    if recipe.pretrained:
        return pretraining_note(backbone, channels, recipe.first_convolution)
    return "random weights"


def has_other_head(start: Run, recipe: Recipe) -> bool:
    """Whether only the backbone's weights can be taken, since the answers are of another kind."""
    return start.config.recipe.posterior != recipe.posterior


def without_paths(config: RunConfig) -> RunConfig:
    """A configuration for others, without paths of this machine: what images and start were."""
    data = config.data
    path = called(data.path, data.preset, data.seed)
    changed: dict[str, Any] = {"data": data.model_copy(update={"path": path})}
    start = _FROM_A_RUN.fullmatch(config.start)
    if start is not None and not (hub.is_address(start["run"]) or start["run"] in weights()):
        run = Path(start["run"]).name
        changed["start"] = START.format(run, start["images"])
    return config.model_copy(update=changed)


def called(path: str, preset: Any, seed: Any) -> str:
    """What a set is called where its path says nothing."""
    return f"{preset}, seed {seed}" if preset else Path(path).name
