"""Train one network on one labelled set into a run folder."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from timm.layers import convert_sync_batchnorm
from torch import Tensor

from halometry.data.dataset import open_dataset
from halometry.data.labelled import LabelledImages
from halometry.data.split import Split, split_dataset
from halometry.devices import check_devices, find_device
from halometry.errors import DataError, RunError, UsageError
from halometry.models import Network, Preprocessing
from halometry.progress import duration, hush, say, track
from halometry.tasks import Task
from halometry.training import run as folder
from halometry.training.auxiliary import MassMap
from halometry.training.batches import Order, take
from halometry.training.callbacks import Keeper, Statistics, Watcher
from halometry.training.execution import pinned_threads
from halometry.training.feed import Feed, Stretches
from halometry.training.fresh import curriculum, mass_maps
from halometry.training.group import Group, find_group
from halometry.training.launch import run_in_processes
from halometry.training.learner import Learner
from halometry.training.memory import freed_memory_kept
from halometry.training.prepare import configure, start_note
from halometry.training.recipe import Recipe, RecipeFile, load_recipe
from halometry.training.run import Run, RunConfig
from halometry.writing import write_text

METRICS = {"classification": "AUC", "regression": "R²"}


def train(
    task: Task,
    data: str | Path | LabelledImages,
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
        data: a labelled set, or the path of one (a store, or a folder of images).
        backbone: `mobilenetv3_small`, `resnet18`, `efficientnet_b5`, or any name of timm's.
        out: the run folder. A finished run in it is returned as it is if it is the same run.
        recipe: `baseline`, `default`, or a YAML file.
        overrides: single values of the recipe, such as `{"epochs": 5}`.
        seed: of weights, order, augmentation and split.
        device: `auto`, `cpu`, or as PyTorch names it.
        start: a finished run of the same network, as `load_run` takes it, whose weights to begin
            from.
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
        hush()
    where = check_devices(find_device(device), devices, nodes)
    recipe_file = recipe if isinstance(recipe, RecipeFile) else load_recipe(recipe)
    resolved = recipe_file.resolve(task, backbone, overrides)
    if _is_there(out) and not folder.is_run_folder(out):
        raise RunError(f"{out}: is not empty and not a run folder; choose another --out")
    together = devices * nodes
    with group.joined(where):
        labelled = (
            data
            if isinstance(data, LabelledImages)
            else group.in_turn(lambda: open_dataset(data, task=task))
        )
        check_labels(labelled, task, resolved)
        split = split_dataset(labelled, seed=seed)
        check_shares(together, split, resolved)
        start_run = load_start(start, task, backbone, out) if start is not None else None
        if start_run is not None:
            _check_start(start_run, labelled, split)

        def settle() -> RunConfig | None:
            if _is_there(out) and not overwrite:
                config = _same_run(out, task, backbone, resolved, labelled, seed, start_run)
                return None if folder.is_finished(out) else config
            config = configure(
                task, labelled, split, backbone, resolved, seed, where, start_run, together
            )
            if _is_there(out):
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
            job = (out, config, labelled, split, start_run)
            if starting:
                run_in_processes(devices, config.execution.device, threads, _fit, *job)
            else:
                _fit(*job, group)
    if config is not None and not group.is_first:
        return Run(out, config, str(out))  # another machine may see the files later
    return folder.load_run(out)


def _is_there(out: Path) -> bool:
    return out.is_dir() and any(out.iterdir())


def load_start(path: str | Path, task: Task, backbone: str, out: Path) -> Run:
    """The run whose weights the run in `out` begins from.

    Raises:
        RunError: not a finished run, or of another task or backbone.
        UsageError: the run in `out` itself.
    """
    run = folder.load_run(path, task)
    if run.path.resolve() == out.resolve():
        raise UsageError(f"--start {path}: is also the --out folder; choose another --out")
    if run.config.backbone != backbone:
        raise RunError(f"{path}: is a {run.config.backbone}, not a {backbone}; see --start")
    return run


def _check_start(start: Run, data: LabelledImages, split: Split) -> None:
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


def _same_run(
    out: Path,
    task: Task,
    backbone: str,
    recipe: Recipe,
    data: LabelledImages,
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
        "start": (config.start, start_note(backbone, recipe, config.preprocessing.channels, start)),
    }
    different = [name for name, (there, here) in asked.items() if there != here]
    if different:
        raise RunError(
            f"{out}: holds another run (its {' and '.join(different)} differ);"
            f" choose another --out, or remove {out} if it is not needed"
        )
    return config


def _fit(
    out: Path,
    config: RunConfig,
    data: LabelledImages,
    split: Split,
    start: Run | None,
    group: Group,
) -> None:
    """Train, in one of the processes of a group."""
    threads = config.execution.threads
    if group.processes > 1:
        threads = min(threads, torch.get_num_threads())  # others want some too
    with freed_memory_kept(), pinned_threads(threads):
        _fit_here(out, config, data, split, start, group)


def _fit_here(
    out: Path,
    config: RunConfig,
    data: LabelledImages,
    split: Split,
    start: Run | None,
    group: Group,
) -> None:
    recipe, execution = config.recipe, config.execution
    order = Order(len(split.train), recipe.batch_size, config.seed)
    stretches = Stretches(order, config.steps, recipe.validations_per_epoch)
    torch.manual_seed(config.seed)
    resume = out / folder.RESUME
    goes_on = group.agreed(resume.exists)  # other machines may see it later
    pretrained = recipe.pretrained and start is None and not goes_on
    network = config.build_network(pretrained)
    if start is not None:
        folder.load_weights(start.path, network)
    network = network.to(memory_format=execution.memory_format)
    if group.processes > 1 and execution.device.startswith("cuda"):
        network = convert_sync_batchnorm(network)
    if group.is_first:
        folder.write_config(out, config)
        write_text(out / folder.SPLIT, split.to_json())

    images, labels = _on_device(data, execution.device)
    predictor = config.predictor(network)
    mass_map, maps = _mass_map(network, config, data, images, split)
    fresh = curriculum(data, recipe, config.steps, order.batch_size, config.seed, execution.device)
    learner = Learner(
        predictor, config, order, mass_map, group.share, fresh.count if fresh is not None else 0
    )
    keeper = Keeper(out)
    say(f"{config.backbone}: {execution.summary()}; {config.steps} steps of {order.batch_size}")
    say(f"{config.backbone}: from {config.start}")
    with track(f"training {config.backbone}", config.steps) as tracker, _quiet():
        trainer = L.Trainer(
            accelerator="gpu" if execution.device.startswith("cuda") else "cpu",
            devices=_trainer_devices(execution.device, group),
            num_nodes=group.nodes,
            strategy=group.strategy(),
            max_epochs=len(stretches),
            check_val_every_n_epoch=stretches.per_validation,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            gradient_clip_val=recipe.gradient_clip,
            callbacks=[
                *_stopping(recipe),
                Statistics(),
                keeper,
                Watcher(tracker, METRICS[config.task]),
            ],
            logger=TensorBoardLogger(str(out), name="", version="tensorboard"),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=20,
        )
        with _interruptible(trainer):
            trainer.fit(
                learner,
                datamodule=Feed(images, labels, split, order, stretches, maps, fresh, group.share),
                ckpt_path=str(resume) if goes_on else None,
                weights_only=True,
            )
    if group.is_first:
        _finish(out, config, keeper, trainer, order)


def _mass_map(
    network: Network, config: RunConfig, data: LabelledImages, images: Any, split: Split
) -> tuple[MassMap | None, Tensor | None]:
    """What reads maps of the mass off the network, and the true maps, where there are any."""
    if not config.recipe.auxiliary or data.attributes.get("preset_yaml") is None:
        return None, None
    rows = np.sort(split.train[:1])
    example = Preprocessing(config.preprocessing)(take(images, rows)).cpu()
    mass_map = MassMap(network.backbone, example)
    maps = mass_maps(data, mass_map.cells)
    if maps is None:
        return None, None
    mass_map.standardise(maps[torch.from_numpy(split.train)])
    return mass_map, maps.to(config.execution.device)


def _trainer_devices(device: str, group: Group) -> int | list[int]:
    """What Lightning calls `cuda:1`, or how many devices each machine gives."""
    if group.processes > 1:
        return group.devices
    kind, _, number = device.partition(":")
    return [int(number)] if kind == "cuda" and number else 1


@contextmanager
def _interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Let Ctrl-C end training as it ends anything else; Lightning would leave the process."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if trainer.interrupted:
            raise KeyboardInterrupt from end
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _on_device(data: LabelledImages, device: str) -> tuple[Any, Tensor]:
    """Images where they are needed: on the device if they fit there, else as they are kept."""
    labels = torch.from_numpy(data.labels).to(device)
    if not isinstance(data.images, np.ndarray):
        return data.images, labels
    images = torch.from_numpy(data.images)
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes < free // 2:
            return images.to(device), labels
    return images, labels


def _stopping(recipe: Recipe) -> list[L.Callback]:
    if recipe.early_stopping is None:
        return []
    patience = recipe.early_stopping
    return [EarlyStopping("selection_loss", patience=patience, check_on_train_epoch_end=False)]


def _finish(out: Path, config: RunConfig, keeper: Keeper, trainer: L.Trainer, order: Order) -> None:
    """Write what training was like, and take the way back away: the run is finished."""
    assert keeper.best is not None
    steps, seen = trainer.global_step, order.images_seen(trainer.global_step)
    record = {
        "selection": {"loss": keeper.best["selection_loss"], "metric": METRICS[config.task]}
        | {"value": keeper.best["selection_metric"]},
        "best_step": int(keeper.best["step"]),
        "steps": steps,
        "images": seen,
        "epochs": round(seen / order.count, 2),
        "seconds": round(keeper.seconds, 1),
        "images_per_second": round(seen / keeper.seconds, 1),
        "processes": trainer.world_size,
        "precision": config.execution.precision,
        "stopped": "early" if steps < config.steps else "at the planned number of steps",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(out / folder.METRICS, json.dumps(record, indent=1) + "\n")
    (out / folder.RESUME).unlink(missing_ok=True)
    best = f"{METRICS[config.task]} {keeper.best['selection_metric']:.3f}"
    say(f"{config.backbone}: {duration(keeper.seconds)}, selection {best} -> {out}")


class _quiet:  # noqa: N801  (a context manager, used like a function)
    """Keep Lightning's own remarks out of the way; ours say what matters."""

    def __enter__(self) -> None:
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        self._levels = {}
        for name in ("lightning.pytorch", "lightning.fabric"):
            self._levels[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        self._caught.__exit__(None, None, None)
