"""How a network learns, as data: recipes in YAML, resolved for a task and a backbone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from halometry.config import TASKS, StrictModel, Task, read_yaml, validate
from halometry.errors import ConfigError, UsageError, did_you_mean
from halometry.models.backbones import PLAIN_NAMES, StemInit, timm_name
from halometry.models.heads import DensityFamily
from halometry.models.preprocessing import Scale, Stretch
from halometry.resources import list_resources, resource_label, resource_path

FOLDER = "runs/recipes"


class Recipe(StrictModel):
    """Every choice of a training run, resolved for one task and one backbone.

    Attributes:
        size: side of the network's input in pixels; None keeps the images' own.
        channels: of the network's input; None as the images have.
        scale, stretch: of pixel values, see `PreprocessingConfig`.
        standardize: subtract the mean and divide by the standard deviation of the training
            images, after scale and stretch.
        flip_probability: of a left-right and, independently, an up-down flip of a training image.
        rot90: turn training images by a random multiple of 90 degrees.
        pretrained, stem_init: begin from ImageNet weights, see `create_backbone`.
        zero_init_residual: begin with residual branches switched off.
        head_hidden, head_activation, head_dropout: see `Network`.
        tta: an answer is the mean over the image's eight flips and quarter turns
            (four where it is not square); takes eight times as long.
        fresh: share of each batch that is simulated anew, by the preset the set was simulated
            from; images of other origin have none.
        heaviest: how many times as heavy the substructure of fresh images is at first; it falls
            to the preset's own, geometrically, over the first `curriculum_fraction` of the steps.
        auxiliary: weight of a second loss in training: the error of a map of the mass in
            substructure, which only simulated images have, read from the network's features.
        averaging: the weights that are judged and kept are a running mean of those of the
            steps, that forgets a step's by this factor with each that follows; 0 is none.
        target: what a regression network learns: the mass fraction or its natural logarithm.
        posterior: what it puts out: the mass itself, or its probability density, a `gaussian` or a
            normalizing `flow`, which is trained by likelihood (`huber_delta` has no part in it).
        freeze_backbone: let only the head learn, from the features of the run it begins from.
        huber: errors of a regression beyond this count linearly, in units of what is learnt (the
            labels' standard deviation where they are standardized); None squares them all.
        standardize_target: by mean and standard deviation of the training labels.
        optimizer, learning_rate, weight_decay: of the optimizer; `learning_rate` is the peak.
        schedule: `plateau` multiplies the rate by `plateau_factor` after more than
            `plateau_patience` validations without a better validation loss; `cosine` rises over
            the first `warmup` fraction of the steps and falls to zero; `trapezoid` rises like it,
            stays, and falls in a straight line over the last `cooldown` fraction; `constant` stays.
        gradient_clip: largest norm of the gradient; None leaves it alone.
        batch_size: images a step.
        epochs: passes over the training images, at most.
        val_checks_per_epoch: how often the validation set is looked at.
        monitor: the best checkpoint has the lowest validation loss, or the best validation
            metric (AUC or R²).
        early_stopping_patience: validations without a better validation loss before training ends.
        precision: of matrix products and convolutions; `auto` is bfloat16 where the device
            computes it natively, else float32.
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
    """A recipe as written: general values, then what differs for a task or a backbone.

    In YAML, the keys of `Recipe` at the top hold everywhere. Under `backbones: NAME:` stands
    what differs for a backbone, under `classification:` and `regression:` what differs for a
    task, and under their own `backbones: NAME:` what differs for both; the more special wins.

    Raises:
        ConfigError: an unknown key or a value out of range, anywhere in the file.
    """

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self.content, self.where = content, where
        self.name = str(content.get("name", Path(where).stem))
        for task in TASKS:
            for backbone in (*self._backbones_in(content), *self._of_task(task)):
                try:
                    timm_name(backbone)
                except UsageError as error:
                    raise ConfigError(f"{where}: backbones: {error}") from error
            for backbone in {*PLAIN_NAMES, *self._backbones_in(content), *self._of_task(task)}:
                self.resolve(task, backbone)

    @property
    def description(self) -> str:
        return " ".join(str(self.content.get("description", "")).split())

    def resolve(self, task: Task, backbone: str, overrides: dict[str, Any] | None = None) -> Recipe:
        """The recipe for one task and backbone.

        Args:
            task: classification or regression.
            backbone: its name, plain or timm's.
            overrides: values that win over everything written in the file.
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

    def _of_task(self, task: Task) -> set[str]:
        return self._backbones_in(self._section(self.content, task))


def list_recipes() -> list[str]:
    """The recipes that come with the package."""
    return list_resources(FOLDER)


def load_recipe(name: str | Path) -> RecipeFile:
    """A recipe by name, or from a YAML file of the user's own.

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
    """Turn `key=value` strings into recipe values, reading each value as YAML.

    Example:
        >>> parse_overrides(["epochs=3", "rot90=true", "size=null"])
        {'epochs': 3, 'rot90': True, 'size': None}
    """
    import yaml

    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write it as key=value, for example --set epochs=5")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair}: the value is not valid YAML") from error
        # YAML 1.1 reads 1e-3 as text; a person means the number.
        if isinstance(parsed, str):
            with contextlib.suppress(ValueError):
                parsed = float(parsed)
        values[key.strip()] = parsed
    return values
