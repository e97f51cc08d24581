"""The Lightning module: one network, its loss, optimiser and schedule."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import R2Score
from torchmetrics.classification import MulticlassAUROC

from halometry.models.predictor import Predictor
from halometry.training.batches import Order, augment, step_seed
from halometry.training.run import RunConfig


class Learner(L.LightningModule):
    """Train a predictor by a recipe.

    Every random choice of a step follows from the seed and the step's number, so that a run
    that was stopped ends with the weights it would have had.

    Args:
        predictor: preprocessing, network and the meaning of its output.
        config: of the run.
        order: of the training images.
    """

    def __init__(self, predictor: Predictor, config: RunConfig, order: Order) -> None:
        super().__init__()
        self.predictor = predictor
        self.config, self.order = config, order
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.quality = (
            MulticlassAUROC(config.outputs) if config.task == "classification" else R2Score()
        )
        self._selection_loss, self._selection_count = 0.0, 0

    def loss(self, outputs: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy of (B, K) outputs, or squared error of (B, 1) against encoded labels."""
        if self.config.task == "classification":
            return functional.cross_entropy(outputs, labels, reduction=reduction)
        encoded = self.predictor.target.encode(labels).to(outputs.dtype)
        return functional.mse_loss(outputs[:, 0], encoded, reduction=reduction)

    def _outputs(self, raw: Tensor) -> Tensor:
        images = self.predictor.preprocessing(raw)
        images = images.contiguous(memory_format=self.config.execution.memory_format)
        with self.config.execution.autocast():
            outputs: Tensor = self.predictor.network(images)
        return outputs.float()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        recipe = self.config.recipe
        seed = step_seed(self.config.seed, self.global_step)
        images = augment(images, recipe.flip_probability, recipe.quarter_turns, seed)
        torch.manual_seed(seed)  # dropout and its kind
        loss = self.loss(self._outputs(images), labels)
        self.log("loss", loss)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        outputs = self._outputs(images)
        self._selection_loss += float(self.loss(outputs, labels, reduction="sum"))
        self._selection_count += len(labels)
        answers = self.predictor.answer(outputs)
        self.quality.update(answers, labels.to(answers.dtype) if answers.ndim == 1 else labels)

    def on_validation_epoch_start(self) -> None:
        self._selection_loss, self._selection_count = 0.0, 0
        self.quality.reset()

    def on_validation_epoch_end(self) -> None:
        loss = self._selection_loss / max(self._selection_count, 1)
        self.log("selection_loss", loss if math.isfinite(loss) else float("inf"))
        self.log("selection_metric", float(self.quality.compute()))

    def on_validation_end(self) -> None:
        # Lightning would step it after the point a stopped run goes on from was written.
        if self.plateau is not None:
            self.plateau.step(self.trainer.callback_metrics["selection_loss"])

    def configure_optimizers(self) -> Any:
        recipe = self.config.recipe
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        if recipe.optimiser == "sgd":
            options["momentum"] = 0.9
        optimiser = kinds[recipe.optimiser](self.predictor.network.parameters(), **options)
        if recipe.schedule == "plateau":
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser, factor=recipe.plateau_factor, patience=recipe.plateau_patience
            )
            kept = {"scheduler": self.plateau, "monitor": "selection_loss", "strict": False}
            return {"optimizer": optimiser, "lr_scheduler": kept}
        shape = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate_at)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": shape, "interval": "step"},
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if scheduler is not self.plateau:
            super().lr_scheduler_step(scheduler, metric)

    def _rate_at(self, step: int) -> float:
        """The learning rate of a step in units of its peak."""
        recipe = self.config.recipe
        if recipe.schedule == "constant":
            return 1.0
        rise = max(1, round(recipe.warmup * self.config.steps))
        if step < rise:
            return (step + 1) / rise
        fallen = (step - rise) / max(1, self.config.steps - rise)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))
