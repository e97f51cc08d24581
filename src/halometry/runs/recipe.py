"""Recipes: settings of training in YAML, resolved for a task and a backbone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from halometry.config import TASKS, StrictModel, Task, read_yaml, validate
from halometry.errors import ConfigError, UsageError, did_you_mean
from halometry.models.backbones import PLAIN_NAMES, StemInit, timm_name
from halometry.models.heads import DensityFamily
from halometry.models.preprocessing import Scale, Stretch
from halometry.resources import list_resources, resource_label, resource_path

FOLDER = "runs/recipes"


class Recipe(StrictModel):
    """Settings of a training run, resolved for one task and one backbone.

    Attributes:
        size: side of the network's input in pixels; None keeps the size of the images.
        channels: channels of the network's input; None keeps those of the images.
        scale: scaling of pixel values; `minmax` maps each image to 0 to 1.
        stretch: stretch of pixel values; `sqrt` makes Poisson noise nearly uniform, `log` raises
            faint arcs.
        standardize: subtract the mean and divide by the standard deviation of the training images,
            after scale and stretch.
        flip_probability: probability of a left-right flip, and of an up-down flip, of each
            training image.
        rot90: rotate each training image by a random multiple of 90 degrees.
        pretrained: start from ImageNet weights.
        stem_init: first convolution of a pretrained network for images of one channel: `summed`
            adds the three color filters, `random` draws new ones.
        zero_init_residual: initialize residual blocks as the identity.
        head_hidden: widths of the hidden layers of the head.
        head_activation: activation between the layers of the head.
        head_dropout: dropout probability before the last layer of the head.
        tta: test-time augmentation: predict the mean over the eight flips and 90-degree rotations
            of an image (four if it is not square). It takes eight times as long.
        online_fraction: fraction of each batch that is simulated during training, from the preset
            that the images follow; 0 for images that follow no known preset.
        curriculum_mass_factor: factor by which the mass of substructure in online images is
            multiplied at first; it falls geometrically to 1.
        curriculum_fraction: fraction of the training steps until that factor is 1.
        aux_loss_weight: weight of an auxiliary loss: the error of a map of the mass in
            substructure, predicted from the network's features. Images without known substructure
            do not count.
        ema_decay: decay of the exponential moving average (EMA) of the weights, which is
            evaluated and saved; 0 saves the weights themselves.
        target: target of a regression: the mass fraction (`linear`) or its logarithm (`log`).
        posterior: prediction of a regression: the mass fraction (`none`), or its posterior
            density: `gaussian`, or a normalizing `flow`. Densities are trained by maximum
            likelihood, without `huber_delta`.
        freeze_backbone: train the head only.
        class_weights: weights of the classes in the loss of a classification: `none`, or
            `balanced`, which gives each class the same total weight. Calibration restores the
            class frequencies in the probabilities.
        huber_delta: threshold of the Huber loss in units of the target; None for the squared error.
        standardize_target: standardize targets by mean and standard deviation of the training
            labels.
        optimizer: the optimizer.
        learning_rate: peak learning rate.
        weight_decay: weight decay of the optimizer.
        schedule: schedule of the learning rate. `plateau` multiplies it by `plateau_factor` after
            more than `plateau_patience` validations without a lower validation loss. `cosine`
            rises over the first `warmup` fraction of the steps and falls to zero. `trapezoid`
            rises likewise, stays constant, and falls linearly over the last `cooldown` fraction.
            `constant` does not change.
        plateau_factor: factor of the learning rate in the schedule `plateau`.
        plateau_patience: validations without a lower validation loss that it accepts.
        warmup: fraction of the steps in which the learning rate rises.
        cooldown: fraction of the steps in which it falls in the schedule `trapezoid`.
        gradient_clip: largest norm of the gradient; None for no clipping.
        batch_size: images in a batch.
        epochs: largest number of epochs.
        val_checks_per_epoch: validations in an epoch.
        monitor: the saved checkpoint has the lowest validation loss, or the highest validation
            metric (AUC or R²).
        early_stopping_patience: validations without a lower validation loss after which training
            stops; None for no early stopping.
        precision: precision of matrix products and convolutions; `auto` is bfloat16 where the
            device computes it natively, else float32. On CPUs it is float32 for networks with
            depthwise convolutions, which are slower in bfloat16.
        channels_last: memory format; None is true for convolutional networks.
    """

    name: str = "recipe"
    description: str = ""
    size: int | None = Field(default=None, ge=16, le=2048)
    channels: Literal[1, 3] | None = None
    scale: Scale = "none"
    stretch: Stretch = "none"
    standardize: bool = False
    flip_probability: float = Field(default=0.0, ge=0, le=1)
    rot90: bool = False
    pretrained: bool = False
    stem_init: StemInit = "summed"
    zero_init_residual: bool = False
    head_hidden: tuple[int, ...] = ()
    head_activation: Literal["none", "relu"] = "none"
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    tta: bool = False
    online_fraction: float = Field(default=0.0, ge=0, le=1)
    curriculum_mass_factor: float = Field(default=1.0, ge=1, le=20)
    curriculum_fraction: float = Field(default=0.5, gt=0, le=1)
    aux_loss_weight: float = Field(default=0.0, ge=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    target: Literal["linear", "log"] = "linear"
    posterior: DensityFamily = "none"
    freeze_backbone: bool = False
    class_weights: Literal["none", "balanced"] = "none"
    huber_delta: float | None = Field(default=None, gt=0)
    standardize_target: bool = False
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    schedule: Literal["plateau", "cosine", "trapezoid", "constant"] = "cosine"
    plateau_factor: float = Field(default=0.1, gt=0, lt=1)
    plateau_patience: int = Field(default=1, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    cooldown: float = Field(default=0.2, gt=0, le=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=64, ge=1)
    epochs: int = Field(default=20, ge=1)
    val_checks_per_epoch: int = Field(default=1, ge=1)
    monitor: Literal["val_loss", "val_metric"] = "val_loss"
    early_stopping_patience: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool | None = None


class RecipeFile:
    """Recipe as written in YAML: general values, and other values for a task or a backbone.

    The keys of `Recipe` at the top level hold for all runs. Keys under `backbones: NAME:` hold for
    one backbone, keys under `classification:` or `regression:` for one task, and keys under
    `backbones: NAME:` of these for both. The more specific value wins.

    Args:
        content: content of the file.
        where: name of the file, for messages.

    Raises:
        ConfigError: an unknown key or a value out of range, anywhere in the file.
    """

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self.content, self.where = content, where
        self.name = str(content.get("name", Path(where).stem))
        for task in TASKS:
            named = self._backbones_in(content) | self._backbones_of_task(task)
            for backbone in named:
                try:
                    timm_name(backbone)
                except UsageError as error:
                    raise ConfigError(f"{where}: backbones: {error}") from error
            for backbone in named.union(PLAIN_NAMES):
                self.resolve(task, backbone)

    @property
    def description(self) -> str:
        """Description of the recipe on one line."""
        return " ".join(str(self.content.get("description", "")).split())

    def resolve(self, task: Task, backbone: str, overrides: dict[str, Any] | None = None) -> Recipe:
        """Return the recipe for one task and backbone.

        Args:
            task: classification or regression.
            backbone: name of the backbone, in halometry or timm.
            overrides: values that replace those of the file.
        """
        general = {k: v for k, v in self.content.items() if k not in (*TASKS, "backbones")}
        special = self._section(self.content, task)
        merged = {
            **general,
            **self._section(self._section(self.content, "backbones"), backbone),
            **{k: v for k, v in special.items() if k != "backbones"},
            **self._section(self._section(special, "backbones"), backbone),
            **(overrides or {}),
        }
        known = [*Recipe.model_fields]
        for key in merged:
            if key not in known:
                hint = did_you_mean(key, [*known, *TASKS, "backbones"])
                raise ConfigError(f"{self.where}: unknown key '{key}', {hint}")
        return validate(Recipe, {"name": self.name, **merged}, self.where)

    def _section(self, content: dict[str, Any], key: str) -> dict[str, Any]:
        section = content.get(key) or {}
        if not isinstance(section, dict):
            raise ConfigError(f"{self.where}: '{key}' must hold keys and values")
        return section

    def _backbones_in(self, content: dict[str, Any]) -> set[str]:
        return set(self._section(content, "backbones"))

    def _backbones_of_task(self, task: Task) -> set[str]:
        return self._backbones_in(self._section(self.content, task))


def list_recipes() -> list[str]:
    """List the names of the recipes that come with the package."""
    return list_resources(FOLDER)


def load_recipe(name: str | Path) -> RecipeFile:
    """Load a recipe by name, or from a YAML file.

    Raises:
        UsageError: unknown name.
        ConfigError: the file is missing or wrong.

    Example:
        >>> load_recipe("baseline").resolve("classification", "resnet18").learning_rate
        0.001
    """
    with resource_path(FOLDER, name) as path:
        return RecipeFile(read_yaml(path), resource_label(FOLDER, name))


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """Parse `key=value` strings, reading each value as YAML.

    Example:
        >>> parse_overrides(["epochs=3", "rot90=true", "size=null"])
        {'epochs': 3, 'rot90': True, 'size': None}
    """
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write it as key=value, for example --set epochs=5")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair}: the value is not valid YAML") from error
        # YAML 1.1 reads 1e-3 as text.
        if isinstance(parsed, str):
            with contextlib.suppress(ValueError):
                parsed = float(parsed)
        values[key.strip()] = parsed
    return values
