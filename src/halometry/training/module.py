"""The Lightning module: one network, its loss, optimizer and schedule."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import R2Score
from torchmetrics.classification import MulticlassAUROC

from halometry.models.predictor import Predictor
from halometry.runs.config import RunConfig
from halometry.training.mass_map_head import MassMap
from halometry.training.sampling import Batch, Batches, augment, step_seed


class Learner(L.LightningModule):
    """Train a predictor by a recipe.

    Every random choice of a step follows from the seed and the step's number, so that a run
    that was stopped ends with the weights it would have had.

    Args:
        predictor: preprocessing, network and the meaning of its output.
        config: of the run.
        batches: that it is given.
        mass_map: what learns the map of the mass in substructure beside, or None.
    """

    def __init__(
        self,
        predictor: Predictor,
        config: RunConfig,
        batches: Batches,
        mass_map: MassMap | None = None,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.mass_map = mass_map
        self.averaged = (
            deepcopy(predictor.network).requires_grad_(False) if config.recipe.ema_decay else None
        )
        if mass_map is not None:  # after the copy, which has no map to be read off
            mass_map.read_from(predictor.network.get_submodule("backbone"))
        self.config, self.batches = config, batches
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.quality = (
            MulticlassAUROC(config.n_outputs) if config.task == "classification" else R2Score()
        )
        self._val_loss, self._val_count = 0.0, 0

    def loss(self, outputs: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy of (B, K) outputs, or the error of (B, 1) against encoded labels.

        Of a density's parameters (B, P), the negative logarithm of what it is there.
        """
        if self.config.task == "classification":
            return functional.cross_entropy(outputs, labels, reduction=reduction)
        encoded = self.predictor.target.encode(labels).to(outputs.dtype)
        if (density := self.predictor.density) is not None:
            losses = -density.log_density(outputs, encoded[:, None])
            return losses.sum() if reduction == "sum" else losses.mean()
        if (delta := self.config.recipe.huber_delta) is not None:
            # Twice Huber's, which is the squared error where that is small.
            return 2 * functional.huber_loss(outputs[:, 0], encoded, reduction, delta)
        return functional.mse_loss(outputs[:, 0], encoded, reduction=reduction)

    @property
    def judged(self) -> nn.Module:
        """The network that is judged and kept: the running mean, where there is one."""
        return self.predictor.network if self.averaged is None else self.averaged

    def _outputs(self, network: nn.Module, raw: Tensor) -> Tensor:
        images = self.predictor.preprocessing(raw)
        images = images.contiguous(memory_format=self.config.execution.memory_format)
        with self.config.execution.autocast():
            outputs: Tensor = network(images)
        return outputs.float()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        images, labels, maps = batch
        recipe = self.config.recipe
        seed = step_seed(self.config.seed, self.global_step)
        share, parts = self.batches.share, self.batches.parts(self.global_step)
        weight = share.weight(*parts)

        def moved(batch: Tensor) -> Tensor:
            return augment(batch, recipe.flip_probability, recipe.rot90, seed, share, parts)

        images = moved(images)
        torch.manual_seed(seed + share.rank)  # dropout and its kind
        of_labels = weight * self.loss(self._outputs(self.predictor.network, images), labels)
        loss = of_labels
        if self.mass_map is not None and maps is not None:
            of_maps = weight * self.mass_map.loss(moved(maps[:, None])[:, 0])
            self.log("map_loss", of_maps)
            loss = of_labels + recipe.aux_loss_weight * of_maps
        self.log("loss", of_labels)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return {"loss": loss, "of_labels": of_labels.detach()}

    def on_train_batch_end(self, *_: Any) -> None:
        if self.averaged is not None:
            self._average(self.averaged)

    @torch.no_grad()
    def _average(self, averaged: nn.Module) -> None:
        """Let the running mean of weights and statistics follow; its memory is short at first."""
        factor = min(self.config.recipe.ema_decay, (self.global_step - 1) / (self.global_step + 8))
        kept, new = averaged.state_dict().values(), self.predictor.network.state_dict().values()
        pairs = list(zip(kept, new, strict=True))
        real = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([k for k, _ in real], [n for _, n in real], 1 - factor)
        for count, counted in pairs:
            if not count.is_floating_point():
                count.copy_(counted)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        outputs = self._outputs(self.judged, images)
        self._val_loss += float(self.loss(outputs, labels, reduction="sum"))
        self._val_count += len(labels)
        answers = self.predictor.point_predictions(self.predictor.decode(outputs))
        self.quality.update(answers, labels.to(answers.dtype) if answers.ndim == 1 else labels)

    def on_validation_epoch_start(self) -> None:
        self._val_loss, self._val_count = 0.0, 0
        self.quality.reset()

    def on_validation_epoch_end(self) -> None:
        found = torch.tensor([self._val_loss, self._val_count], dtype=torch.float64)
        total = self.trainer.strategy.reduce(found.to(self.device), reduce_op="sum")
        loss = float(total[0] / total[1].clamp_min(1))
        self.log("val_loss", loss if math.isfinite(loss) else float("inf"))
        self.log("val_metric", float(self.quality.compute()))

    def on_validation_end(self) -> None:
        # Lightning would step it after the point a stopped run goes on from was written.
        if self.plateau is not None:
            self.plateau.step(self.trainer.callback_metrics["val_loss"])

    def configure_optimizers(self) -> Any:
        recipe = self.config.recipe
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        options["fused"] = True  # one pass over each weight; otherwise ten and more
        if recipe.optimizer == "sgd":
            options["momentum"] = 0.9
        learning = [p for p in self.parameters() if p.requires_grad]
        optimizer = kinds[recipe.optimizer](learning, **options)
        if recipe.schedule == "plateau":
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=recipe.plateau_factor, patience=recipe.plateau_patience
            )
            kept = {"scheduler": self.plateau, "monitor": "val_loss", "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": kept}
        shape = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate_at)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": shape, "interval": "step"},
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if scheduler is not self.plateau:
            super().lr_scheduler_step(scheduler, metric)

    def _rate_at(self, step: int) -> float:
        """The learning rate of a step in units of its peak."""
        recipe, steps = self.config.recipe, self.config.steps
        if recipe.schedule == "constant":
            return 1.0
        rise = max(1, round(recipe.warmup * steps))
        if recipe.schedule == "trapezoid":
            fall = max(1, round(recipe.cooldown * steps))
            return max(0.0, min(1.0, (step + 1) / rise, (steps - step) / fall))
        if step < rise:
            return (step + 1) / rise
        fallen = (step - rise) / max(1, steps - rise)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))
