"""Warm start: training that begins with the weights of another run."""

from __future__ import annotations

from pathlib import Path

from halometry.config import Task
from halometry.errors import RunError, UsageError
from halometry.log import logger
from halometry.models import Network
from halometry.models.backbones import SHALLOWER_BACKBONES, check_pretrained, pretraining_note
from halometry.models.d4net import RESIDUAL_BLOCKS
from halometry.runs import run as run_folder
from halometry.runs.config import RunConfig
from halometry.runs.lineage import WEIGHTS_OF_RUN
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run, load_run

DEEPER_NOTE = ", with further blocks"
NEW_HEAD_NOTE = ", with a new head"
# Keys of the recipe that define the network's input and the label's encoding.
INPUT_KEYS = ("size", "channels", "scale", "stretch", "standardize", "target", "standardize_target")


def load_initial_run(path: str | Path, task: Task, backbone: str, out: Path) -> Run:
    """Open the run whose weights the run in `out` begins with.

    Args:
        path: as `load_run` takes it.
        task: of the new run.
        backbone: of the new run; the initial run has the same one or a shallower one.
        out: the new run's folder.

    Raises:
        RunError: the run is not finished, or is of another task or backbone.
        UsageError: it is the run in `out` itself.
    """
    run = load_run(path, task)
    if run.path.resolve() == out.resolve():
        raise UsageError(f"--init-from {path}: is also the --out folder; choose another --out")
    if run.config.backbone not in (backbone, SHALLOWER_BACKBONES.get(backbone)):
        raise RunError(f"{path}: is a {run.config.backbone}, not a {backbone}; see --init-from")
    return run


def initial_network(config: RunConfig, initial_run: Run | None) -> Network:
    """Build the network with the weights that training begins with.

    Raises:
        RunError: the weights of the initial run are damaged or do not fit.
        UnavailableError: ImageNet weights do not exist or cannot be fetched.
    """
    network = config.build_network(config.recipe.pretrained and initial_run is None)
    if initial_run is not None:
        new_head = needs_new_head(initial_run, config.recipe)
        part, module = ("backbone", network.backbone) if new_head else ("", network)
        optional = RESIDUAL_BLOCKS if is_shallower(initial_run, config.backbone) else None
        run_folder.load_weights(initial_run.path, module, part=part, optional=optional)
    return network


def log_input_differences(initial_run: Run, recipe: Recipe) -> None:
    """Log which of `INPUT_KEYS` differ between the initial run and the new recipe."""
    before = initial_run.config.recipe
    changed = [key for key in INPUT_KEYS if getattr(before, key) != getattr(recipe, key)]
    if changed:
        values = ", ".join(f"{key}={getattr(before, key)}" for key in changed)
        logger.info(
            f"--init-from {initial_run.source}: was trained with {values}; the recipe differs"
        )


def describe_initial_weights(
    backbone: str, recipe: Recipe, channels: int, initial_run: Run | None
) -> str:
    """Describe the weights that training begins with, for `config.yaml`.

    Args:
        backbone: of the new run.
        recipe: of the new run.
        channels: of the network's input.
        initial_run: the run that gives the weights, or None.
    """
    if initial_run is not None:
        preset = initial_run.config.data.preset or "other images"
        note = WEIGHTS_OF_RUN.format(initial_run.source, preset)
        note += DEEPER_NOTE if is_shallower(initial_run, backbone) else ""
        return note + NEW_HEAD_NOTE if needs_new_head(initial_run, recipe) else note
    if recipe.pretrained:
        check_pretrained(backbone)
        return pretraining_note(backbone, channels, recipe.stem_init)
    return "random weights"


def needs_new_head(initial_run: Run, recipe: Recipe) -> bool:
    """Whether only the backbone's weights can be used, because the outputs have another meaning."""
    return initial_run.config.recipe.posterior != recipe.posterior


def is_shallower(initial_run: Run, backbone: str) -> bool:
    """Whether the new network has further blocks, for which the initial run has no weights."""
    return initial_run.config.backbone != backbone
