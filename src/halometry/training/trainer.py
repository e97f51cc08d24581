"""The training itself, in one of the processes that share it."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from halometry.datasets.dataset import LabeledImages, preset_from_dataset, take_rows
from halometry.datasets.splits import Split, write_split
from halometry.io import write_json
from halometry.log import duration, logger, track
from halometry.models import Network, Preprocessing
from halometry.models.d4net import RESIDUAL_BLOCKS
from halometry.runs import run as folder
from halometry.runs.calibrate import calibration_rows, fit_calibration
from halometry.runs.config import RunConfig
from halometry.runs.execution import pinned_threads
from halometry.runs.lineage import write_lineage
from halometry.runs.ood import fit_and_write_detector
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run
from halometry.simulation import Preset
from halometry.training.callbacks import Keeper, Patience, Statistics, Watcher
from halometry.training.curriculum import curriculum, has_mass, mass_maps
from halometry.training.datamodule import Feed, Selection, Stretches
from halometry.training.distributed import Group
from halometry.training.mass_map_head import MassMap
from halometry.training.memory import freed_memory_kept
from halometry.training.module import Learner
from halometry.training.sampling import Batches, Order
from halometry.training.warm_start import has_other_head, is_shallower

METRICS = {"classification": "AUC", "regression": "R²"}


@dataclass(frozen=True)
class Job:
    """What is to be trained; settled, checked, and the same in all processes.

    Attributes:
        out: the run folder.
        config: of the run.
        data, split: the set, and what its images are for.
        start: the run whose weights it begins from, if any.
    """

    out: Path
    config: RunConfig
    data: LabeledImages
    split: Split
    start: Run | None


def fit(job: Job, group: Group) -> None:
    """Train, as one of the processes of a group."""
    # Others may want some too, and a run may go on where there are fewer than where it began.
    threads = min(job.config.execution.threads, torch.get_num_threads())
    with freed_memory_kept(), pinned_threads(threads):
        _fit(job, group)


def _fit(job: Job, group: Group) -> None:
    config, recipe = job.config, job.config.recipe
    order = Order(len(job.split.train), recipe.batch_size, config.seed)
    stretches = Stretches(
        order, config.steps, recipe.val_checks_per_epoch, config.checkpoint_every_n_steps
    )
    resume = job.out / folder.RESUME
    goes_on = group.agreed(resume.exists)  # other machines may see it later
    network = _network(job, group, goes_on)
    if group.is_first:
        folder.write_config(job.out, config)
        write_split(job.out / folder.SPLIT, job.split)
        if job.start is not None:
            write_lineage(job.out / folder.LINEAGE, job.start.lineage_with_own_data())

    device, steps = config.execution.device, config.steps
    images, labels = _on_device(job.data, device)
    preset = (
        preset_from_dataset(job.data) if recipe.online_fraction or recipe.aux_loss_weight else None
    )
    mass_map, maps = _mass_map(network, job, preset, images)
    fresh = curriculum(job.data, preset, recipe, steps, order.batch_size, config.seed, device)
    batches = Batches(images, labels, job.split.train, order, maps, fresh, group.share)
    rows = np.sort(job.split.validation)
    validation = Selection(images, labels, rows, max(64, order.batch_size), group.share)
    learner = Learner(config.build_predictor(network), config, batches, mass_map)
    keeper = Keeper(job.out)
    logger.info(
        f"{config.backbone}: {config.execution.summary()}; {steps} steps of {order.batch_size}"
    )
    logger.info(f"{config.backbone}: from {config.initial_weights}")
    with track(f"training {config.backbone}", config.steps) as tracker, _quiet():
        callbacks = [Statistics(), keeper, Watcher(tracker, METRICS[config.task])]
        trainer = _trainer(job, group, stretches, callbacks)
        with interruptible(trainer):
            trainer.fit(
                learner,
                datamodule=Feed(batches, validation, stretches),
                ckpt_path=str(resume) if goes_on else None,
                weights_only=True,
            )
    if group.is_first:
        _finish(job, keeper, trainer, batches)


def network_at_first(config: RunConfig, start: Run | None) -> Network:
    """The network as training begins.

    Raises:
        RunError: the start's weights are damaged, or do not fit.
        UnavailableError: there are no ImageNet weights, or they cannot be fetched.
    """
    network = config.build_network(config.recipe.pretrained and start is None)
    if start is not None:
        other_head = has_other_head(start, config.recipe)
        part, net = ("backbone", network.backbone) if other_head else ("", network)
        further = RESIDUAL_BLOCKS if is_shallower(start, config.backbone) else None
        folder.load_weights(start.path, net, part=part, optional=further)
    return network


def _network(job: Job, group: Group, goes_on: bool) -> Network:
    """The network as training begins, or for what was written on the way to be put into."""
    config = job.config
    torch.manual_seed(config.seed)
    network = config.build_network() if goes_on else network_at_first(config, job.start)
    network = network.to(memory_format=config.execution.memory_format)
    if group.processes > 1 and config.execution.device.startswith("cuda"):
        from timm.layers import convert_sync_batchnorm

        network = convert_sync_batchnorm(network)
    return network


def _mass_map(
    network: Network, job: Job, preset: Preset | None, images: Any
) -> tuple[MassMap | None, Tensor | None]:
    """What reads maps of the mass off the network, and the true maps, where there are any."""
    if not job.config.recipe.aux_loss_weight or preset is None or not has_mass(job.data):
        return None, None
    example = take_rows(images, np.sort(job.split.train[:1])).cpu()
    mass_map = MassMap.of(network.backbone, Preprocessing(job.config.preprocessing)(example))
    if mass_map is None:
        logger.info(
            f"{job.config.backbone}: has no maps of features; it learns no map of the mass beside"
        )
        return None, None
    maps = mass_maps(job.data, preset, mass_map.cells)
    mass_map.standardize(maps[torch.from_numpy(job.split.train)])
    return mass_map, maps.to(job.config.execution.device)


def _trainer(
    job: Job, group: Group, stretches: Stretches, callbacks: list[L.Callback]
) -> L.Trainer:
    recipe, device = job.config.recipe, job.config.execution.device
    return L.Trainer(
        accelerator="gpu" if device.startswith("cuda") else "cpu",
        devices=_trainer_devices(device, group),
        num_nodes=group.nodes,
        strategy=group.strategy(),
        max_epochs=len(stretches),
        check_val_every_n_epoch=stretches.per_validation,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        gradient_clip_val=recipe.gradient_clip,
        callbacks=[*_stopping(recipe), *callbacks],
        logger=TensorBoardLogger(str(job.out), name="", version="tensorboard"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=20,
    )


def _trainer_devices(device: str, group: Group) -> int | list[int]:
    """What Lightning calls `cuda:1`, or how many devices each machine gives."""
    if group.processes > 1:
        return group.devices
    kind, _, number = device.partition(":")
    return [int(number)] if kind == "cuda" and number else 1


@contextmanager
def interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Let Ctrl-C end training as it ends anything else, whatever it breaks on its way.

    Lightning would leave the process, and what is interrupted may fail with an error of its own.
    """
    handler = signal.getsignal(signal.SIGINT)
    asked = False

    def interrupt(*_: object) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except (Exception, SystemExit) as error:
        if asked or (isinstance(error, SystemExit) and trainer.interrupted):
            raise KeyboardInterrupt from error
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


def _on_device(data: LabeledImages, device: str) -> tuple[Any, Tensor]:
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
    if recipe.early_stopping_patience is None:
        return []
    patience = recipe.early_stopping_patience
    return [
        Patience("val_loss", patience=patience, check_on_train_epoch_end=False, check_finite=False)
    ]


def _finish(job: Job, keeper: Keeper, trainer: L.Trainer, batches: Batches) -> None:
    """Write what is familiar and what training was like; without a way back, it is finished."""
    assert keeper.best is not None
    out, config = job.out, job.config
    run, device, seconds = Run(out, config, str(out)), config.execution.device, keeper.seconds
    fit_calibration(run, job.data, calibration_rows(job.split), device)
    fit_and_write_detector(run, job.data, job.split, device)
    steps = trainer.global_step
    stored, fresh = batches.seen(steps)
    record = {
        "validation": {"loss": keeper.best["val_loss"], "metric": METRICS[config.task]}
        | {"value": keeper.best["val_metric"]},
        "best_step": int(keeper.best["step"]),
        "steps": steps,
        "images": stored + fresh,
        "online_images": fresh,
        "epochs": round(stored / batches.order.count, 2),
        "seconds": round(seconds, 1),
        "images_per_second": round((stored + fresh) / seconds, 1),
        "processes": trainer.world_size,
        "precision": config.execution.precision,
        "stopped": "early" if steps < config.steps else "at the planned number of steps",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(out / folder.METRICS, "training", record)
    (out / folder.RESUME).unlink(missing_ok=True)
    best = f"{METRICS[config.task]} {keeper.best['val_metric']:.3f}"
    logger.info(f"{config.backbone}: {duration(seconds)}, validation {best} -> {out}")


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
