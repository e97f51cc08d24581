"""What watches a training run: the best weights, the history, the way back, the progress."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import distributed

from halometry.errors import DataError
from halometry.io import atomic_write, write_table
from halometry.log import Tracker
from halometry.runs.run import HISTORY, RESUME, WEIGHTS, write_weights
from halometry.training.module import Learner


class Keeper(L.Callback):
    """Write the best weights, the history and what is needed to go on.

    Args:
        path: the run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self._seconds_before = 0.0
        self._begin = time.monotonic()
        self._losses: list[torch.Tensor] = []

    @property
    def seconds(self) -> float:
        """Time spent in training, earlier processes included."""
        return self._seconds_before + time.monotonic() - self._begin

    def state_dict(self) -> dict[str, Any]:
        # The losses since the last validation too: they belong to the next line of the history.
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
        self, trainer: L.Trainer, learner: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._losses.append(outputs["of_labels"])

    def on_validation_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        assert isinstance(learner, Learner)
        metrics = trainer.callback_metrics
        self._share_losses(trainer, learner)
        loss = float(self._stacked(learner.device).mean()) if self._losses else math.nan
        self._losses = []
        step = trainer.global_step
        row = {
            "step": step,
            "images": sum(learner.batches.seen(step)),
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
        if self._better(row, learner):
            self.best = row
            if trainer.is_global_zero:
                write_weights(self.path / WEIGHTS, learner.judged)
        if trainer.is_global_zero:
            self._write_history()

    def _better(self, row: dict[str, float], learner: Learner) -> bool:
        if self.best is None:
            return True
        if learner.config.recipe.monitor == "val_metric":
            return improves(row["val_metric"], self.best["val_metric"])
        return improves(-row["val_loss"], -self.best["val_loss"])

    def _write_history(self) -> None:
        write_table(self.path / HISTORY, "history", list(self.history[0]), self.history)

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        self._share_losses(trainer, learner)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path / RESUME)  # takes part, but writes nothing
            return
        with atomic_write(self.path / RESUME) as partial:
            trainer.save_checkpoint(partial)

    def _stacked(self, device: torch.device) -> torch.Tensor:
        # Those that were written down come back on the CPU.
        return torch.stack([loss.to(device) for loss in self._losses])

    def _share_losses(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Put the mean of all processes in the place of each loss."""
        if self._losses:
            losses = self._stacked(learner.device)
            means = trainer.strategy.reduce(losses, reduce_op="mean")
            self._losses = list(means.unbind())


class Statistics(L.Callback):
    """Let all processes judge the network that the first one keeps.

    Running statistics of batch normalization may differ, and Lightning makes them equal only
    when training goes on.
    """

    def on_validation_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in learner.buffers():
                distributed.broadcast(buffer, 0)


def improves(now: float, best: float) -> bool:
    """Whether a figure of merit is larger, or the first that is a number at all."""
    return now > best or (math.isfinite(now) and not math.isfinite(best))


class Patience(EarlyStopping):
    """Early stopping that also holds where a run goes on after it had been stopped by it."""

    def on_train_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class Watcher(L.Callback):
    """Move a progress bar along, with the latest losses and validation metric beside it."""

    def __init__(self, tracker: Tracker, metric: str) -> None:
        self.tracker, self.metric = tracker, metric
        self._loss, self._val = "", ""

    def on_train_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        self.tracker.start_at(trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, learner: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        if trainer.global_step % 10 == 0:
            self._loss = f"loss {float(outputs['of_labels']):.3g}"
        self.tracker.advance(1, f"{self._loss}{self._val}")

    def on_validation_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        value = float(trainer.callback_metrics["val_metric"])
        self._val = f", {self.metric} {value:.3f}"
