"""Lightning callbacks: best checkpoint and history, buffers, early stopping, progress bar."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, distributed

from halometry.errors import DataError
from halometry.io import atomic_write, write_table
from halometry.log import Tracker
from halometry.runs.run import HISTORY, RESUME, WEIGHTS, write_weights
from halometry.training.module import TrainingModule

STEPS_BETWEEN_LOSSES = 10  # that the progress bar shows; each makes a GPU wait


class BestCheckpoint(L.Callback):
    """Writes the best weights, the history, and the checkpoint from which a run resumes.

    Args:
        path: the run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self._seconds_before = 0.0
        self._begin = time.monotonic()
        self._losses: list[Tensor] = []

    @property
    def seconds(self) -> float:
        """Training time in seconds, including that before the run was resumed."""
        return self._seconds_before + time.monotonic() - self._begin

    def state_dict(self) -> dict[str, Any]:
        # Losses since the last validation belong to the next row of the history.
        return {
            "history": self.history,
            "best": self.best,
            "seconds": self.seconds,
            "losses": [float(loss) for loss in self._losses],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.best = state["history"], state["best"]
        self._seconds_before, self._begin = state["seconds"], time.monotonic()
        self._losses = [torch.tensor(loss) for loss in state["losses"]]

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._losses.append(outputs["label_loss"])

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        metrics = trainer.callback_metrics
        self._average_losses(trainer, module)
        loss = float(self._stacked(module.device).mean()) if self._losses else math.nan
        self._losses = []
        step = trainer.global_step
        row = {
            "step": step,
            "images": sum(module.batches.count_images(step)),
            "seconds": round(self.seconds, 2),
            "loss": loss,
            "val_loss": float(metrics["val_loss"]),
            "val_metric": float(metrics["val_metric"]),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        if not math.isfinite(loss):
            raise DataError(
                f"{self.path}: the training loss became {loss} at step {step}; "
                "lower the learning rate (--set learning_rate=...)"
            )
        self.history.append(row)
        if self._is_best(row, module):
            self.best = row
            if trainer.is_global_zero:
                write_weights(self.path / WEIGHTS, module.evaluated_network)
        if trainer.is_global_zero:
            write_table(self.path / HISTORY, "history", list(self.history[0]), self.history)

    def _is_best(self, row: dict[str, float], module: TrainingModule) -> bool:
        if self.best is None:
            return True
        if module.config.recipe.monitor == "val_metric":
            return improves(row["val_metric"], self.best["val_metric"])
        return improves(-row["val_loss"], -self.best["val_loss"])

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._average_losses(trainer, module)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path / RESUME)  # a collective call that writes nothing
            return
        with atomic_write(self.path / RESUME) as partial:
            trainer.save_checkpoint(partial)

    def _stacked(self, device: torch.device) -> Tensor:
        # Losses that were loaded from a checkpoint are on the CPU.
        return torch.stack([loss.to(device) for loss in self._losses])

    def _average_losses(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Replace each loss by its mean over processes."""
        if self._losses:
            losses = self._stacked(module.device)
            means = trainer.strategy.reduce(losses, reduce_op="mean")
            self._losses = list(means.unbind())


class SyncBuffers(L.Callback):
    """Copies the first process's buffers to all processes before a validation.

    The running statistics of batch normalization differ between processes. Only the first
    process's network is saved, so all processes must validate that one.
    """

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that also ends a run that is resumed after it was stopped early."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class ProgressCallback(L.Callback):
    """Advances a progress bar and shows the latest loss and validation metric beside it.

    Args:
        tracker: the progress bar.
        metric_name: of the validation metric.
    """

    def __init__(self, tracker: Tracker, metric_name: str) -> None:
        self.tracker, self.metric_name = tracker, metric_name
        self._loss, self._metric = "", ""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.tracker.start_at(trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        if trainer.global_step % STEPS_BETWEEN_LOSSES == 0:
            self._loss = f"loss {float(outputs['label_loss']):.3g}"
        self.tracker.advance(1, f"{self._loss}{self._metric}")

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        value = float(trainer.callback_metrics["val_metric"])
        self._metric = f", {self.metric_name} {value:.3f}"


def improves(value: float, best: float) -> bool:
    """Whether a figure of merit is larger than the best one, or the first that is finite."""
    return value > best or (math.isfinite(value) and not math.isfinite(best))
