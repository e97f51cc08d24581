"""Training of one network on one labeled set, into a run folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from halometry.config import Inputs, Task
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.splits import Split, split_dataset
from halometry.errors import RunError, UsageError
from halometry.log import logger, silence, with_progress
from halometry.massmaps.presets import preset_hash
from halometry.parallel import Workers, check_devices, find_device
from halometry.runs import run as run_folder
from halometry.runs.config import RunConfig
from halometry.runs.execution import pinned_threads
from halometry.runs.recipe import Recipe, RecipeFile, load_recipe
from halometry.runs.run import Run
from halometry.simulation import Preset
from halometry.training.chance import recommend_preset, warn_if_at_chance
from halometry.training.checks import check_frozen, check_labels, check_process_count, check_unseen
from halometry.training.configure import configure, data_record
from halometry.training.distributed import find_context
from halometry.training.inputs import open_inputs
from halometry.training.trainer import TrainSpec, fit
from halometry.training.warm_start import (
    describe_initial_weights,
    initial_network,
    load_initial_run,
    log_input_differences,
)


@with_progress
def train(
    task: Task,
    data: str | Path | LabeledImages,
    backbone: str,
    out: str | Path,
    *,
    inputs: Inputs = "raw",
    preset: str | Path | Preset | None = None,
    workers: Workers = "auto",
    recipe: str | Path | RecipeFile = "default",
    overrides: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    init_from: str | Path | None = None,
    overwrite: bool = False,
    devices: int = 1,
    nodes: int = 1,
    progress: bool = True,
) -> Run:
    """Train a network and write its run folder; resume where an earlier call was stopped.

    Args:
        task: classification or regression.
        data: a labeled set, or the path of one (a store, or a folder of images).
        backbone: a plain name, such as `resnet18` or `d4net` (`halometry.list_backbones()`), or any
            name of timm's.
        out: the run folder. If it holds the same run, this is resumed, or returned if finished.
        inputs: `raw` trains on the images as they are, `maps` on their mass maps, which are kept
            in the cache.
        preset: preset that the images follow (name, YAML file, or preset); by default that of a
            simulated set. With `inputs="maps"` it describes the lens fits. With `inputs="raw"`
            images of this preset are simulated in training, as the recipe says.
        workers: processes that compute mass maps; `auto` takes one for each core.
        recipe: `baseline`, `default`, or a YAML file.
        overrides: single values of the recipe, such as `{"epochs": 5}`.
        seed: of weights, order, augmentation and split.
        device: `auto`, `cpu`, or as PyTorch names it.
        init_from: a finished run, as `load_run` takes it, whose weights training begins with. Its
            network is the same, or a shallower one of the same family.
        overwrite: delete another run in `out`.
        devices: processes on each machine that share the work, one for each device. On one
            machine they are started here. A script then needs `if __name__ == "__main__":`,
            because Python imports the script in each of them.
        nodes: machines. On several, torchrun or SLURM starts the same program on each.
        progress: whether to show progress bars.

    Returns:
        The finished run.

    Raises:
        DataError, UsageError, RunError, StorageError: one line that says what to do.

    Example:
        >>> run = train("classification", "demo.h5", "resnet18", "runs/r18")  # doctest: +SKIP
    """
    out = Path(out)
    context = find_context(devices, nodes)
    if not context.is_first:
        silence()
    device = check_devices(find_device(device), devices, nodes)
    recipe_file = recipe if isinstance(recipe, RecipeFile) else load_recipe(recipe)
    resolved = recipe_file.resolve(task, backbone, overrides)
    if _holds_files(out) and not run_folder.is_run_folder(out):
        raise RunError(f"{out}: is not empty and not a run folder; choose another --out")
    processes = devices * nodes
    starts_processes = processes > 1 and context.processes == 1
    threads = max(1, torch.get_num_threads() // (devices if starts_processes else 1))
    with context.connected(device):
        labeled = context.local_first(
            lambda: open_inputs(data, task, inputs, preset, workers, recipe=resolved)
        )
        check_labels(labeled, task, resolved)
        split = split_dataset(labeled, seed=seed)
        check_process_count(processes, split, resolved)
        initial_run = _open_initial_run(init_from, task, backbone, out, resolved, labeled, split)
        choices = _Choices(
            task, backbone, resolved, seed, device, processes, labeled, split, initial_run
        )
        with pinned_threads(threads):
            config = context.broadcast(lambda: _settle(out, choices, overwrite))
        if config is not None:
            recommend_preset(config, labeled)
            spec = TrainSpec(out, config, labeled, split, initial_run)
            if starts_processes:
                from halometry.training.launch import launch

                launch(fit, spec, devices=devices, device=device, threads=threads)
            else:
                fit(spec, context)
    if config is not None and not context.is_first:
        return Run(out, config, str(out))  # another machine may see the files later
    run = run_folder.load_run(out)
    if config is not None:
        warn_if_at_chance(run, labeled, split)
    return run


def _open_initial_run(
    path: str | Path | None,
    task: Task,
    backbone: str,
    out: Path,
    recipe: Recipe,
    data: LabeledImages,
    split: Split,
) -> Run | None:
    """Open the initial run and check that the new run may begin with its weights."""
    run = None if path is None else load_initial_run(path, task, backbone, out)
    check_frozen(recipe, run)
    if run is not None:
        check_unseen(run, data, split)
        log_input_differences(run, recipe)
    return run


@dataclass(frozen=True)
class _Choices:
    """What the caller of `train` has chosen, checked."""

    task: Task
    backbone: str
    recipe: Recipe
    seed: int
    device: str
    processes: int
    data: LabeledImages
    split: Split
    initial_run: Run | None

    def new_config(self) -> RunConfig:
        return configure(
            self.task,
            self.data,
            self.split,
            self.backbone,
            self.recipe,
            seed=self.seed,
            device=self.device,
            initial_run=self.initial_run,
        )


def _settle(out: Path, choices: _Choices, overwrite: bool) -> RunConfig | None:
    """Configuration of the run that is to be trained or resumed; None if it is finished.

    With `overwrite`, the run in the folder is deleted once the new one is known to be possible.
    """
    if not _holds_files(out):
        return choices.new_config()
    if not overwrite:
        config = _read_same_config(out, choices)
        return None if run_folder.is_finished(out) else _on_device(out, config, choices)
    config = choices.new_config()
    initial_network(config, choices.initial_run)
    shutil.rmtree(out)
    return config


def _holds_files(out: Path) -> bool:
    return out.is_dir() and any(out.iterdir())


def _read_same_config(out: Path, choices: _Choices) -> RunConfig:
    """Read the configuration of the run in `out`.

    Raises:
        RunError: it is another run than the one asked for.
    """
    config = run_folder.read_config(out)
    initial_weights = describe_initial_weights(
        choices.backbone, choices.recipe, config.preprocessing.channels, choices.initial_run
    )
    wanted = data_record(choices.data)
    pairs = {
        "task": (config.task, choices.task),
        "backbone": (config.backbone, choices.backbone),
        "seed": (config.seed, choices.seed),
        "data": (config.data.fingerprint, wanted.fingerprint),
        "inputs": (_maps_of(config.data.mass_map_preset), _maps_of(wanted.mass_map_preset)),
        "preset": (config.data.assumed_preset, wanted.assumed_preset),
        "recipe": (config.recipe, choices.recipe),
        "initial weights": (config.initial_weights, initial_weights),
    }
    different = [name for name, (before, now) in pairs.items() if before != now]
    if different:
        raise RunError(
            f"{out}: holds another run (its {' and '.join(different)} differ);"
            f" choose another --out, or remove {out} if it is not needed"
        )
    return config


def _maps_of(mass_map_preset: str | None) -> str:
    """Inputs of a run: `raw`, or `maps` with the preset that they were computed by."""
    return "raw" if mass_map_preset is None else f"maps {preset_hash(mass_map_preset)}"


def _on_device(out: Path, config: RunConfig, choices: _Choices) -> RunConfig:
    """The configuration of a run that is resumed on a device, which may be another one.

    Raises:
        UsageError: it is another one, and several processes are to share the work.
    """
    before, device = config.execution.device, choices.device
    if before == device:
        return config
    if choices.processes > 1:
        raise UsageError(
            f"{out}: was begun on {before}, not on {device}; go on with --device as it was, or"
            " with --devices 1"
        )
    logger.info(f"{out}: was begun on {before}, and goes on on {device}")
    execution = config.execution.model_copy(update={"device": device})
    return config.model_copy(update={"execution": execution})
