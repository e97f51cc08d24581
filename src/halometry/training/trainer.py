"""Training of a network in one process, alone or as one of several."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor

from halometry.datasets.dataset import LabeledImages, preset_from_dataset
from halometry.datasets.splits import Split, write_split
from halometry.extras import missing_modules
from halometry.io import write_json
from halometry.log import duration, logger, track
from halometry.models import Network
from halometry.runs import run as run_folder
from halometry.runs.calibrate import calibration_rows, fit_calibration
from halometry.runs.config import RunConfig
from halometry.runs.execution import pinned_threads
from halometry.runs.lineage import write_lineage
from halometry.runs.ood import fit_and_write_detector
from halometry.runs.recipe import Recipe
from halometry.runs.run import Run
from halometry.training.callbacks import (
    BestCheckpoint,
    ProgressCallback,
    ResumableEarlyStopping,
    SyncBuffers,
)
from halometry.training.chance import chance_limit
from halometry.training.contexts import interruptible, quiet_lightning
from halometry.training.curriculum import create_curriculum
from halometry.training.datamodule import CheckpointIntervals, DataModule, ValidationBatches
from halometry.training.distributed import DistributedContext
from halometry.training.mass_map_head import MassMapHead, create_mass_map_head
from halometry.training.memory import keep_freed_memory
from halometry.training.module import TrainingModule
from halometry.training.sampling import EpochSampler, TrainingBatches
from halometry.training.warm_start import initial_network

METRIC_NAMES = {"classification": "AUC", "regression": "R²"}
MIN_VALIDATION_BATCH_SIZE = 64
STEPS_BETWEEN_LOGS = 20  # of losses to TensorBoard


@dataclass(frozen=True)
class TrainSpec:
    """Everything that a process needs to train; equal in all processes.

    Attributes:
        out: the run folder.
        config: of the run.
        data: the labeled set.
        split: of the set.
        initial_run: the run whose weights training begins with, or None.
    """

    out: Path
    config: RunConfig
    data: LabeledImages
    split: Split
    initial_run: Run | None


def fit(spec: TrainSpec, context: DistributedContext) -> None:
    """Train a network and write its run folder, as one of the processes of a context."""
    # A run may be resumed by a process that has fewer threads.
    threads = min(spec.config.execution.threads, torch.get_num_threads())
    with keep_freed_memory(), pinned_threads(threads):
        _fit(spec, context)


def _fit(spec: TrainSpec, context: DistributedContext) -> None:
    config, recipe = spec.config, spec.config.recipe
    sampler = EpochSampler(len(spec.split.train), recipe.batch_size, config.seed)
    intervals = CheckpointIntervals(
        sampler,
        config.steps,
        val_checks_per_epoch=recipe.val_checks_per_epoch,
        max_steps=config.checkpoint_every_n_steps,
    )
    checkpoint = spec.out / run_folder.RESUME
    is_resumed = context.broadcast(checkpoint.exists)  # other machines may see the file later
    network = _create_network(spec, context, is_resumed)
    if context.is_first:
        _begin_run_folder(spec)
    batches, validation, mass_map_head = _create_batches(spec, context, sampler, network)
    module = TrainingModule(config.build_predictor(network), config, batches, mass_map_head)
    best = BestCheckpoint(spec.out)
    logger.info(
        f"{config.backbone}: {config.execution.summary()};"
        f" {config.steps} steps of {sampler.batch_size}"
    )
    logger.info(f"{config.backbone}: from {config.initial_weights}")
    with track(f"training {config.backbone}", config.steps) as tracker, quiet_lightning():
        progress = ProgressCallback(tracker, METRIC_NAMES[config.task])
        trainer = _create_trainer(spec, context, intervals, [SyncBuffers(), best, progress])
        with interruptible(trainer):
            trainer.fit(
                module,
                datamodule=DataModule(batches, validation, intervals),
                ckpt_path=str(checkpoint) if is_resumed else None,
                weights_only=True,
            )
    if context.is_first:
        _finish(spec, best, trainer, batches)


def _begin_run_folder(spec: TrainSpec) -> None:
    """Write what is known before training."""
    run_folder.write_config(spec.out, spec.config)
    write_split(spec.out / run_folder.SPLIT, spec.split)
    if spec.initial_run is not None:
        write_lineage(spec.out / run_folder.LINEAGE, spec.initial_run.lineage_with_own_data())


def _create_network(spec: TrainSpec, context: DistributedContext, is_resumed: bool) -> Network:
    """Create the network; its weights are loaded later if the run is resumed."""
    config = spec.config
    torch.manual_seed(config.seed)
    network = (
        config.build_network() if is_resumed else initial_network(config, spec.initial_run)
    ).to(memory_format=config.execution.memory_format)
    if context.processes > 1 and config.execution.device.startswith("cuda"):
        from timm.layers import convert_sync_batchnorm

        network = convert_sync_batchnorm(network)
    return network


def _create_batches(
    spec: TrainSpec, context: DistributedContext, sampler: EpochSampler, network: Network
) -> tuple[TrainingBatches, ValidationBatches, MassMapHead | None]:
    """Create training and validation batches, and the auxiliary head that learns their maps."""
    config, recipe, device = spec.config, spec.config.recipe, spec.config.execution.device
    images, labels = _images_and_labels(spec.data, device)
    needs_preset = bool(recipe.online_fraction or recipe.aux_loss_weight)
    preset = preset_from_dataset(spec.data) if needs_preset else None
    curriculum = create_curriculum(
        spec.data,
        preset,
        recipe,
        steps=config.steps,
        batch_size=sampler.batch_size,
        seed=config.seed,
        device=device,
    )
    mass_map_head, maps = create_mass_map_head(
        network, config, spec.data, spec.split.train, preset=preset, curriculum=curriculum
    )
    batches = TrainingBatches(
        images,
        labels,
        spec.split.train,
        sampler,
        maps=maps,
        curriculum=curriculum,
        shard=context.shard,
    )
    validation = ValidationBatches(
        images,
        labels,
        np.sort(spec.split.validation),
        max(MIN_VALIDATION_BATCH_SIZE, sampler.batch_size),
        context.shard,
    )
    return batches, validation, mass_map_head


def _images_and_labels(data: LabeledImages, device: str) -> tuple[Any, Tensor]:
    """Images and labels of a set; images on the GPU if half of its free memory holds them."""
    labels = torch.from_numpy(data.labels).to(device)
    if not isinstance(data.images, np.ndarray):
        return data.images, labels
    images = torch.from_numpy(data.images)
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes < free // 2:
            return images.to(device), labels
    return images, labels


def _create_trainer(
    spec: TrainSpec,
    context: DistributedContext,
    intervals: CheckpointIntervals,
    callbacks: list[L.Callback],
) -> L.Trainer:
    recipe, device = spec.config.recipe, spec.config.execution.device
    return L.Trainer(
        accelerator="gpu" if device.startswith("cuda") else "cpu",
        devices=_trainer_devices(device, context),
        num_nodes=context.nodes,
        strategy=context.strategy(),
        max_epochs=len(intervals),
        check_val_every_n_epoch=intervals.per_validation,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        gradient_clip_val=recipe.gradient_clip,
        callbacks=[*_early_stopping(recipe), *callbacks],
        logger=_create_logger(spec.out),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=STEPS_BETWEEN_LOGS,
    )


def _create_logger(out: Path) -> Logger | bool:
    """Logger for TensorBoard, if that is installed; `history.csv` is written without it."""
    if missing_modules("tensorboard"):
        return False
    return TensorBoardLogger(str(out), name="", version="tensorboard")


def _trainer_devices(device: str, context: DistributedContext) -> int | list[int]:
    """Lightning's `devices`: a number of devices, or the index of one GPU."""
    if context.processes > 1:
        return context.devices
    kind, _, index = device.partition(":")
    return [int(index)] if kind == "cuda" and index else 1


def _early_stopping(recipe: Recipe) -> list[L.Callback]:
    if recipe.early_stopping_patience is None:
        return []
    return [
        ResumableEarlyStopping(
            "val_loss",
            patience=recipe.early_stopping_patience,
            check_on_train_epoch_end=False,
            check_finite=False,
        )
    ]


def _finish(
    spec: TrainSpec, best: BestCheckpoint, trainer: L.Trainer, batches: TrainingBatches
) -> None:
    """Calibrate the run, fit its OOD detector, write its metrics, and delete the checkpoint.

    A run folder with metrics and without checkpoint is finished.
    """
    assert best.best is not None
    out, config = spec.out, spec.config
    run, device = Run(out, config, str(out)), config.execution.device
    seconds = best.seconds
    fit_calibration(run, spec.data, calibration_rows(spec.split), device)
    fit_and_write_detector(run, spec.data, spec.split, device)
    steps, metric_name = trainer.global_step, METRIC_NAMES[config.task]
    stored, simulated = batches.count_images(steps)
    limit = chance_limit(config.task, spec.data.labels[spec.split.validation])
    record = {
        "validation": {
            "loss": best.best["val_loss"],
            "metric": metric_name,
            "value": best.best["val_metric"],
            "above_chance": best.best["val_metric"] > limit,
        },
        "best_step": int(best.best["step"]),
        "steps": steps,
        "images": stored + simulated,
        "online_images": simulated,
        "epochs": round(stored / batches.sampler.count, 2),
        "seconds": round(seconds, 1),
        "images_per_second": round((stored + simulated) / seconds, 1),
        "processes": trainer.world_size,
        "precision": config.execution.precision,
        "stopped": "early" if steps < config.steps else "at the planned number of steps",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(out / run_folder.METRICS, "training", record)
    (out / run_folder.RESUME).unlink(missing_ok=True)
    result = f"{metric_name} {best.best['val_metric']:.3f}"
    logger.info(f"{config.backbone}: {duration(seconds)}, validation {result} -> {out}")
