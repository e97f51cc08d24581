"""What a run says of itself: how it was made, and what belongs to its weights."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import nn

from halometry.calibration.posterior import Grid
from halometry.config import StrictModel, Task
from halometry.datasets.dataset import LabeledImages
from halometry.models.heads import FAMILIES
from halometry.models.network import Network
from halometry.models.predictor import Predictor, TargetConfig
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig
from halometry.runs.execution import Execution
from halometry.runs.recipe import Recipe

FORMAT = "halometry-run"


class DataRecord(StrictModel):
    """Where the training images came from, as a run folder remembers it.

    `mapped` is the YAML of the preset by which mass was mapped in them, see `map_set`.
    """

    path: str
    description: str
    fingerprint: str
    images: int
    shape: tuple[int, int, int]
    preset: str | None = None
    seed: int | None = None
    mass_map_preset: str | None = None

    def shares_images_with(self, data: LabeledImages) -> bool:
        """Whether image k here is image k there: the same set, or the same preset and seed."""
        made = data.attributes.get("preset"), data.attributes.get("seed")
        same_stream = None not in made and made == (self.preset, self.seed)
        return same_stream or data.fingerprint == self.fingerprint


class RunConfig(StrictModel):
    """What `config.yaml` holds.

    Attributes:
        task, backbone, class_names: what the network answers, and what it is.
        recipe: resolved for this task and backbone, overrides included.
        preprocessing, target: what belongs to the weights.
        grid: of mass fractions, on which posteriors are given; None where answers are masses.
        temperature, bias: of the probabilities, see `halometry.runs.calibration_fit`.
        data: the set it was trained on.
        execution: how it was run.
        steps: of training in all.
        stretch: steps between the points that a stopped run can go on from, at most.
        seed: of weights, order, augmentation and split.
        start: `random weights`, what became of ImageNet's, or which run's weights it began from.
        versions: of the packages that matter.
    """

    format: str = FORMAT
    format_version: int = 1
    task: Task
    backbone: str
    class_names: tuple[str, ...] | None = None
    recipe: Recipe
    preprocessing: PreprocessingConfig
    target: TargetConfig
    grid: Grid | None = None
    temperature: float = Field(default=1.0, gt=0)
    bias: tuple[float, ...] = ()
    data: DataRecord
    execution: Execution
    steps: int = Field(ge=1)
    checkpoint_every_n_steps: int = Field(default=200, ge=1)
    seed: int
    start: str
    versions: dict[str, str]
    date: str

    @model_validator(mode="after")
    def _one_bias_a_class(self) -> RunConfig:
        if self.bias and len(self.bias) != len(self.class_names or ()):
            raise ValueError(f"'bias' has {len(self.bias)} numbers, not one for each class")
        return self

    @property
    def outputs(self) -> int:
        if self.grid is not None:
            return FAMILIES[self.recipe.posterior].parameters
        return len(self.class_names) if self.class_names else 1

    def build_network(self, pretrained: bool = False) -> Network:
        """The network of this run, with fresh weights."""
        recipe = self.recipe
        density = FAMILIES.get(recipe.posterior)
        hidden, activation = recipe.head_hidden, recipe.head_activation
        if density is not None and not hidden:
            hidden, activation = density.hidden, "relu"
        return Network(
            self.backbone,
            channels=self.preprocessing.channels,
            outputs=self.outputs,
            hidden=hidden,
            activation=activation,
            dropout=recipe.head_dropout,
            pretrained=pretrained,
            stem_init=recipe.stem_init,
            zero_init_residual=recipe.zero_init_residual,
            freeze_backbone=recipe.freeze_backbone,
        )

    def predictor(self, network: nn.Module) -> Predictor:
        """The network joined to what belongs to its weights."""
        return Predictor(
            Preprocessing(self.preprocessing),
            network,
            self.task,
            self.target,
            self.recipe.tta,
            self.recipe.posterior,
            self.grid,
            self.temperature,
            self.bias,
        )

    def incompatibility(self, shape: tuple[int, ...], mapped: str | None = None) -> str | None:
        """Why images cannot be given to this network, or None.

        Args:
            shape: (C, H, W).
            mapped: the YAML of the preset by which mass was mapped in them, if it was.
        """
        channels, height, width = self.data.shape
        if self.data.mass_map_preset is not None and mapped != self.data.mass_map_preset:
            if mapped is None:
                return "was not mapped, as the run's images were; see 'halometry map'"
            return "was mapped by another preset than the run's images"
        if self.data.mass_map_preset is None and mapped is not None:
            return "was mapped, and the run was trained on images that were not"
        if shape[0] not in (1, channels):
            return f"has {shape[0]} channels, the run was trained on {channels}"
        if self.preprocessing.size is None and tuple(shape[1:]) != (height, width):
            return f"is {shape[2]} x {shape[1]} pixels, the run was trained on {width} x {height}"
        return None
