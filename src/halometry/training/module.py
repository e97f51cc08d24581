"""Lightning module: network, loss, optimizer and learning-rate schedule of a run."""

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
from halometry.training.mass_map_head import MassMapHead
from halometry.training.sampling import Batch, TrainingBatches, augment, step_seed

SGD_MOMENTUM = 0.9


class TrainingModule(L.LightningModule):
    """Trains the network of a predictor as the recipe says.

    Every random choice of a step follows from the seed and the number of the step. A run that was
    stopped therefore ends with the weights that it would have had.

    Args:
        predictor: preprocessing, network and decoding of its output.
        config: of the run.
        batches: of the training steps.
        mass_map_head: auxiliary head, or None.
    """

    def __init__(
        self,
        predictor: Predictor,
        config: RunConfig,
        batches: TrainingBatches,
        mass_map_head: MassMapHead | None = None,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.mass_map_head = mass_map_head
        self.ema_network = (
            deepcopy(predictor.network).requires_grad_(False) if config.recipe.ema_decay else None
        )
        if mass_map_head is not None:  # after the copy, which must not feed the head
            mass_map_head.attach(predictor.network.get_submodule("backbone"))
        self.config, self.batches = config, batches
        weights = torch.tensor(config.class_weights) if config.class_weights else None
        self.register_buffer("class_weights", weights, persistent=False)
        self.plateau_scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.metric = (
            MulticlassAUROC(config.n_outputs) if config.task == "classification" else R2Score()
        )
        self._val_loss, self._val_count = 0.0, 0

    class_weights: Tensor | None

    def loss(self, outputs: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Loss of a batch.

        The loss of a classification is the cross-entropy, with the class weights of the run. The
        loss of a posterior is the negative log likelihood. That of a mass is the squared error of
        the encoded label or, with `huber_delta`, twice the Huber loss, which equals the squared
        error of small errors.

        Args:
            outputs: (B, K) logits, (B, P) parameters of a density, or (B, 1) encoded masses.
            labels: (B,), classes or mass fractions.
            reduction: `mean` or `sum` over the batch.
        """
        if self.config.task == "classification":
            losses = functional.cross_entropy(outputs, labels, self.class_weights, reduction="none")
            return losses.sum() if reduction == "sum" else losses.mean()
        encoded = self.predictor.target.encode(labels).to(outputs.dtype)
        if (density := self.predictor.density) is not None:
            losses = -density.log_density(outputs, encoded[:, None])
            return losses.sum() if reduction == "sum" else losses.mean()
        if (delta := self.config.recipe.huber_delta) is not None:
            return 2 * functional.huber_loss(outputs[:, 0], encoded, reduction, delta)
        return functional.mse_loss(outputs[:, 0], encoded, reduction=reduction)

    @property
    def evaluated_network(self) -> nn.Module:
        """The network that is validated and saved: the EMA where there is one."""
        return self.predictor.network if self.ema_network is None else self.ema_network

    def _outputs(self, network: nn.Module, raw: Tensor) -> Tensor:
        images = self.predictor.preprocessing(raw)
        images = images.contiguous(memory_format=self.config.execution.memory_format)
        with self.config.execution.autocast():
            outputs: Tensor = network(images)
        return outputs.float()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss of a batch: of the labels and, with an auxiliary head, of the maps."""
        images, labels, maps = batch
        recipe = self.config.recipe
        seed = step_seed(self.config.seed, self.global_step)
        shard, part_sizes = self.batches.shard, self.batches.part_sizes(self.global_step)
        weight = shard.weight(*part_sizes)

        def augmented(tensor: Tensor) -> Tensor:
            return augment(
                tensor,
                recipe.flip_probability,
                recipe.rot90,
                seed=seed,
                shard=shard,
                part_sizes=part_sizes,
            )

        images = augmented(images)
        torch.manual_seed(seed + shard.rank)  # of dropout and the like
        label_loss = weight * self.loss(self._outputs(self.predictor.network, images), labels)
        loss = label_loss
        if self.mass_map_head is not None and maps is not None:
            mapped = self.batches.mapped_sizes(self.global_step)
            map_loss = self.mass_map_head.loss(augmented(maps[:, None])[:, 0])
            map_loss = shard.weight(*mapped) * map_loss
            self.log("map_loss", map_loss)
            loss = label_loss + recipe.aux_loss_weight * map_loss
        self.log("loss", label_loss)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return {"loss": loss, "label_loss": label_loss.detach()}

    def on_train_batch_end(self, *_: Any) -> None:
        if self.ema_network is not None:
            self._update_ema(self.ema_network)

    @torch.no_grad()
    def _update_ema(self, ema_network: nn.Module) -> None:
        """Update the EMA of weights and batch statistics; its decay is smaller in early steps."""
        decay = min(self.config.recipe.ema_decay, (self.global_step - 1) / (self.global_step + 8))
        means, values = ema_network.state_dict(), self.predictor.network.state_dict()
        pairs = list(zip(means.values(), values.values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floats], [new for _, new in floats], 1 - decay)
        for mean, new in pairs:
            if not mean.is_floating_point():  # counters of batch normalization
                mean.copy_(new)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add a batch to the validation loss and metric."""
        images, labels = batch
        outputs = self._outputs(self.evaluated_network, images)
        self._val_loss += float(self.loss(outputs, labels, reduction="sum"))
        self._val_count += len(labels)
        predictions = self.predictor.point_predictions(self.predictor.decode(outputs))
        is_mass = predictions.ndim == 1
        self.metric.update(predictions, labels.to(predictions.dtype) if is_mass else labels)

    def on_validation_epoch_start(self) -> None:
        self._val_loss, self._val_count = 0.0, 0
        self.metric.reset()

    def on_validation_epoch_end(self) -> None:
        sums = torch.tensor([self._val_loss, self._val_count], dtype=torch.float64)
        total = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        loss = float(total[0] / total[1].clamp_min(1))
        self.log("val_loss", loss if math.isfinite(loss) else float("inf"))
        self.log("val_metric", float(self.metric.compute()))

    def on_validation_end(self) -> None:
        # Lightning would step it only after the checkpoint was written.
        if self.plateau_scheduler is not None:
            self.plateau_scheduler.step(self.trainer.callback_metrics["val_loss"])

    def configure_optimizers(self) -> Any:
        """Create the optimizer and the learning-rate schedule."""
        recipe = self.config.recipe
        optimizers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        options["fused"] = True  # one pass over each weight instead of ten or more
        if recipe.optimizer == "sgd":
            options["momentum"] = SGD_MOMENTUM
        trainable = [p for p in self.parameters() if p.requires_grad]
        optimizer = optimizers[recipe.optimizer](trainable, **options)
        if recipe.schedule == "plateau":
            self.plateau_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=recipe.plateau_factor, patience=recipe.plateau_patience
            )
            plateau = {"scheduler": self.plateau_scheduler, "monitor": "val_loss", "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": plateau}
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._relative_learning_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if scheduler is not self.plateau_scheduler:
            super().lr_scheduler_step(scheduler, metric)

    def _relative_learning_rate(self, step: int) -> float:
        """Learning rate of a step in units of its peak."""
        recipe, steps = self.config.recipe, self.config.steps
        if recipe.schedule == "constant":
            return 1.0
        rise = max(1, round(recipe.warmup * steps))
        if recipe.schedule == "trapezoid":
            fall = max(1, round(recipe.cooldown * steps))
            return max(0.0, min(1.0, (step + 1) / rise, (steps - step) / fall))
        if step < rise:
            return (step + 1) / rise
        progress = (step - rise) / max(1, steps - rise)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
