"""Configuration of a run: how it was trained, and what belongs to its weights."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator
from torch import nn

from halometry.calibration.posterior import Grid
from halometry.config import StrictModel, Task
from halometry.datasets.dataset import LabeledImages
from halometry.io import header
from halometry.massmaps.presets import preset_hash
from halometry.models.heads import DENSITIES
from halometry.models.network import Network
from halometry.models.predictor import Predictor, TargetConfig
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig
from halometry.runs.execution import Execution
from halometry.runs.recipe import Recipe

HEADER: dict[str, Any] = header("run")


class DataRecord(StrictModel):
    """Dataset that a run was trained on.

    Attributes:
        path: path of the dataset.
        description: number, shape and classes of the images, in words.
        fingerprint: see `LabeledImages.fingerprint`; of mass maps that of the plain images.
        images: number of images.
        shape: shape of an image (C, H, W).
        preset, seed: preset and seed that the images were simulated with; None for other images.
        assumed_preset: YAML of the preset that other images follow, as the user says; None where
            it is not known.
        mass_map_preset: YAML of the preset by which mass was mapped in the images; None for plain
            images.
    """

    path: str
    description: str
    fingerprint: str
    images: int
    shape: tuple[int, int, int]
    preset: str | None = None
    seed: int | None = None
    assumed_preset: str | None = None
    mass_map_preset: str | None = None

    def shares_images_with(self, data: LabeledImages) -> bool:
        """Whether both have the same image k: the same dataset, or the same preset and seed."""
        simulated = data.attributes.get("preset"), data.attributes.get("seed")
        same_simulation = None not in simulated and simulated == (self.preset, self.seed)
        return same_simulation or data.fingerprint == self.fingerprint


class RunConfig(StrictModel):
    """Content of `config.yaml`.

    Attributes:
        format, format_version, halometry_version: see `halometry.io.header`.
        task: classification or regression.
        backbone: name of the backbone.
        class_names: names of the classes; None for a regression.
        recipe: recipe for this task and backbone, with overrides.
        preprocessing: preprocessing of the images.
        target: encoding of the labels.
        class_weights: weight of each class in the training loss, with a mean of 1 over the training
            images; empty for equal weights.
        grid: grid of mass fractions for posteriors; None where the run predicts mass fractions.
        temperature, bias: calibration of the probabilities, see `halometry.runs.calibrate`.
        data: dataset that the run was trained on.
        execution: device, precision, memory format and threads.
        steps: number of training steps.
        checkpoint_every_n_steps: largest number of steps between checkpoints.
        seed: seed of weights, order of images, augmentation and split.
        initial_weights: `random weights`, ImageNet weights, or the run that the weights are from.
        versions: versions of Python and of the packages that matter.
        date: when training began.
    """

    format: str = HEADER["format"]
    format_version: int = HEADER["format_version"]
    halometry_version: str = HEADER["halometry_version"]
    task: Task
    backbone: str
    class_names: tuple[str, ...] | None = None
    recipe: Recipe
    preprocessing: PreprocessingConfig
    target: TargetConfig
    class_weights: tuple[float, ...] = ()
    grid: Grid | None = None
    temperature: float = Field(default=1.0, gt=0)
    bias: tuple[float, ...] = ()
    data: DataRecord
    execution: Execution
    steps: int = Field(ge=1)
    checkpoint_every_n_steps: int = Field(default=200, ge=1)
    seed: int
    initial_weights: str
    versions: dict[str, str]
    date: str

    @model_validator(mode="after")
    def _check_lengths(self) -> RunConfig:
        for key, values in (("bias", self.bias), ("class_weights", self.class_weights)):
            if values and len(values) != len(self.class_names or ()):
                raise ValueError(f"'{key}' has {len(values)} numbers, not one for each class")
        return self

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network."""
        return count_outputs(self.recipe, self.class_names)

    def build_network(self, pretrained: bool = False) -> Network:
        """Return the network of this run with initial weights."""
        return build_network(
            self.backbone,
            self.recipe,
            channels=self.preprocessing.channels,
            n_outputs=self.n_outputs,
            pretrained=pretrained,
        )

    def build_predictor(self, network: nn.Module) -> Predictor:
        """Return the predictor with a network of this run."""
        return Predictor(
            Preprocessing(self.preprocessing),
            network,
            self.task,
            self.target,
            tta=self.recipe.tta,
            family=self.recipe.posterior,
            grid=self.grid,
            temperature=self.temperature,
            bias=self.bias,
        )

    def incompatibility(
        self, shape: tuple[int, ...], mass_map_preset: str | None = None
    ) -> str | None:
        """Reason why the network cannot predict images; None where it can.

        Args:
            shape: (C, H, W).
            mass_map_preset: YAML of the preset by which mass was mapped in the images, if it was.
        """
        channels, height, width = self.data.shape
        trained, given = self.data.mass_map_preset, mass_map_preset
        if trained is not None and given is None:
            return "was not mapped, as the run's images were; see 'halometry map'"
        if trained is None and given is not None:
            return "was mapped, and the run was trained on images that were not"
        if trained is not None and given is not None and preset_hash(trained) != preset_hash(given):
            return "was mapped by another preset than the run's images"
        if shape[0] not in (1, channels):
            return f"has {shape[0]} channels, the run was trained on {channels}"
        if self.preprocessing.size is None and tuple(shape[1:]) != (height, width):
            return f"is {shape[2]} x {shape[1]} pixels, the run was trained on {width} x {height}"
        return None


def count_outputs(recipe: Recipe, class_names: tuple[str, ...] | None) -> int:
    """Number of outputs of a network: classes, parameters of a density, or one mass."""
    if recipe.posterior != "none":
        return DENSITIES[recipe.posterior].n_parameters
    return len(class_names) if class_names else 1


def build_network(
    backbone: str, recipe: Recipe, *, channels: int, n_outputs: int, pretrained: bool = False
) -> Network:
    """Return a network with initial weights, as a recipe describes it.

    Args:
        backbone: name of the backbone.
        recipe: recipe for this backbone.
        channels: channels of the input.
        n_outputs: number of outputs, see `count_outputs`.
        pretrained: whether the initial weights are those of ImageNet.
    """
    density = DENSITIES.get(recipe.posterior)
    hidden, activation = recipe.head_hidden, recipe.head_activation
    if density is not None and not hidden:
        hidden, activation = density.hidden, "relu"
    return Network(
        backbone,
        channels=channels,
        n_outputs=n_outputs,
        hidden=hidden,
        activation=activation,
        dropout=recipe.head_dropout,
        pretrained=pretrained,
        stem_init=recipe.stem_init,
        zero_init_residual=recipe.zero_init_residual,
        freeze_backbone=recipe.freeze_backbone,
    )
