"""Train one network on one labeled set into a run folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from halometry.config import Task
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import split_dataset
from halometry.errors import RunError, UsageError
from halometry.log import logger, silence
from halometry.parallel import check_devices, find_device
from halometry.runs import run as folder
from halometry.runs.config import RunConfig
from halometry.runs.execution import pinned_threads
from halometry.runs.recipe import Recipe, RecipeFile, load_recipe
from halometry.runs.run import Run
from halometry.training.checks import check_labels, check_shares
from halometry.training.configure import configure
from halometry.training.distributed import find_group
from halometry.training.launch import run_in_processes
from halometry.training.memory import freed_memory_kept
from halometry.training.trainer import Job, fit, network_at_first
from halometry.training.warm_start import (
    check_frozen,
    check_start,
    load_start,
    say_differences,
    start_note,
)


def train(
    task: Task,
    data: str | Path | LabeledImages,
    backbone: str,
    out: str | Path,
    recipe: str | Path | RecipeFile = "default",
    overrides: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    start: str | Path | None = None,
    overwrite: bool = False,
    devices: int = 1,
    nodes: int = 1,
) -> Run:
    """Train a network and write its run folder; go on where an earlier call was stopped.

    Args:
        task: classification or regression.
        data: a labeled set, or the path of one (a store, or a folder of images).
        backbone: a plain name, such as `resnet18` or `d4net` (`halometry.list_backbones()`), or any
            name of timm's.
        out: the run folder. A finished run in it is returned as it is if it is the same run.
        recipe: `baseline`, `default`, or a YAML file.
        overrides: single values of the recipe, such as `{"epochs": 5}`.
        seed: of weights, order, augmentation and split.
        device: `auto`, `cpu`, or as PyTorch names it.
        start: a finished run of the same network, or of a shallower one of its family, as
            `load_run` takes it, whose weights to begin from.
        overwrite: throw an earlier run in `out` away.
        devices: processes on each machine that share the work, one a device. Alone on one
            machine, they are started here; a script then needs the usual
            `if __name__ == "__main__":`, since Python imports the script in each of them.
        nodes: machines. On several, torchrun or SLURM starts the same program on each.

    Returns:
        The finished run.

    Raises:
        DataError, UsageError, RunError, StorageError: one line that says what to do.

    Example:
        >>> run = train("classification", "demo.h5", "resnet18", "runs/r18")  # doctest: +SKIP
    """
    out = Path(out)
    group = find_group(devices, nodes)
    if not group.is_first:
        silence()
    where = check_devices(find_device(device), devices, nodes)
    recipe_file = recipe if isinstance(recipe, RecipeFile) else load_recipe(recipe)
    resolved = recipe_file.resolve(task, backbone, overrides)
    if _is_there(out) and not folder.is_run_folder(out):
        raise RunError(f"{out}: is not empty and not a run folder; choose another --out")
    together = devices * nodes
    with group.joined(where):
        labeled = (
            data
            if isinstance(data, LabeledImages)
            else group.in_turn(lambda: open_dataset(data, task=task))
        )
        check_labels(labeled, task, resolved)
        split = split_dataset(labeled, seed=seed)
        check_shares(together, split, resolved)
        start_run = load_start(start, task, backbone, out) if start is not None else None
        check_frozen(resolved, start_run)
        if start_run is not None:
            check_start(start_run, labeled, split)
            say_differences(start_run, resolved)

        def settle() -> RunConfig | None:
            if _is_there(out) and not overwrite:
                config = _same_run(out, task, backbone, resolved, labeled, seed, start_run)
                return None if folder.is_finished(out) else config
            config = configure(
                task, labeled, split, backbone, resolved, seed, where, start_run, together
            )
            if _is_there(out):
                network_at_first(config, start_run)  # before what is there is thrown away
                shutil.rmtree(out)
            return config

        starting = together > 1 and group.processes == 1
        threads = max(1, torch.get_num_threads() // (devices if starting else 1))
        with freed_memory_kept(), pinned_threads(threads):
            config = group.agreed(settle)
        if config is not None:
            if together > 1 and config.execution.device != where:
                raise UsageError(
                    f"{out}: was begun on {config.execution.device}, not on {where}; go on with"
                    " --device as it was, or with --devices 1"
                )
            if config.execution.device != where:
                logger.info(
                    f"{out}: was begun on {config.execution.device}, and goes on on {where}"
                )
                execution = config.execution.model_copy(update={"device": where})
                config = config.model_copy(update={"execution": execution})
            job = Job(out, config, labeled, split, start_run)
            if starting:
                run_in_processes(devices, config.execution.device, threads, fit, job)
            else:
                fit(job, group)
    if config is not None and not group.is_first:
        return Run(out, config, str(out))  # another machine may see the files later
    return folder.load_run(out)


def _is_there(out: Path) -> bool:
    return out.is_dir() and any(out.iterdir())


def _same_run(
    out: Path,
    task: Task,
    backbone: str,
    recipe: Recipe,
    data: LabeledImages,
    seed: int,
    start: Run | None,
) -> RunConfig:
    """The configuration of the run in `out`, if it is the one asked for."""
    config = folder.read_config(out)
    asked = {
        "task": (config.task, task),
        "backbone": (config.backbone, backbone),
        "seed": (config.seed, seed),
        "data": (config.data.fingerprint, data.fingerprint),
        "recipe": (config.recipe, recipe),
        "start": (
            config.initial_weights,
            start_note(backbone, recipe, config.preprocessing.channels, start),
        ),
    }
    different = [name for name, (there, here) in asked.items() if there != here]
    if different:
        raise RunError(
            f"{out}: holds another run (its {' and '.join(different)} differ);"
            f" choose another --out, or remove {out} if it is not needed"
        )
    return config
