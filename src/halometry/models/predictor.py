"""Preprocessing, network and the meaning of its output in one: raw pixels in, answers out."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from halometry.calibration.posterior import Grid
from halometry.calibration.temperature import tempered
from halometry.config import StrictModel, Task
from halometry.models.heads import FAMILIES, Family, on_cells
from halometry.models.preprocessing import Preprocessing


class TargetConfig(StrictModel):
    """How a label becomes what the network is trained to put out.

    Attributes:
        transform: `log` takes the natural logarithm of the mass fraction first.
        mean, std: of the transformed training labels; the network's output is standardized.
    """

    transform: Literal["linear", "log"] = "linear"
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)

    def encode(self, labels: Tensor) -> Tensor:
        """Labels (B,) to what the network should put out (B,)."""
        values = labels.log() if self.transform == "log" else labels
        return (values - self.mean) / self.std

    def decode(self, outputs: Tensor) -> Tensor:
        """What the network puts out (B,) to labels (B,)."""
        values = outputs * self.std + self.mean
        return values.exp() if self.transform == "log" else values

    def log_slope(self, labels: Tensor) -> Tensor:
        """The logarithm of what is encoded's change with the label, for labels (B,)."""
        return -torch.log(labels * self.std if self.transform == "log" else self.std + 0 * labels)


class Predictor(nn.Module):
    """From raw images to class probabilities, mass fractions, or posteriors of these.

    Args:
        preprocessing: of the raw pixel values.
        network: from preprocessed images (B, C, H, W) to (B, outputs).
        task: classification or regression.
        target: the meaning of a regression network's output.
        tta: answer with the mean over the image's flips and quarter turns.
        family: of the densities whose parameters a regression network puts out; `none` where it
            puts out the mass itself.
        grid: of mass fractions (G cells), on which such densities are given.
        temperature, bias: of the probabilities as they are given, see `tempered`.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: nn.Module,
        task: Task,
        target: TargetConfig | None = None,
        tta: bool = False,
        family: Family = "none",
        grid: Grid | None = None,
        temperature: float = 1.0,
        bias: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.network = network
        self.task = task
        self.target = target or TargetConfig()
        self.average_symmetries = tta
        self.density = None if grid is None else FAMILIES[family]
        self.grid = grid
        self.temperature, self.bias = temperature, bias

    def forward(self, raw: Tensor) -> Tensor:
        """Map raw images (B, c, H, W) to probabilities (B, K) or mass fractions (B,).

        With a grid, to the density of the mass fraction in each of its cells (B, G).
        """
        answers = self._untempered(raw)
        if self.task == "classification":
            return tempered(answers, self.temperature, self.bias)
        return answers

    def _untempered(self, raw: Tensor) -> Tensor:
        images = self.preprocessing(raw)
        if not self.average_symmetries:
            return self.answer(self.network(images).float())
        forms = symmetric_forms(images)
        if torch.compiler.is_exporting():  # one copy of the network, for all forms at once
            whole = self.answer(self.network(torch.cat(forms)).float())
            return whole.reshape(len(forms), -1, *whole.shape[1:]).mean(dim=0)
        # One form after the other: the memory stays that of one.
        answers = [self.answer(self.network(form).float()) for form in forms]
        return torch.stack(answers).mean(dim=0)

    def answer(self, outputs: Tensor) -> Tensor:
        """What the network's outputs (B, K) mean: see `forward`."""
        if self.task == "classification":
            return torch.softmax(outputs, dim=1)
        if self.density is None or self.grid is None:
            return self.target.decode(outputs[:, 0])
        masses = self._masses(self.grid).to(outputs)
        values = self.target.encode(masses)[None]
        density = self.density.log_density(outputs, values) + self.target.log_slope(masses)
        return on_cells(density, self.grid.width)

    def points(self, answers: Tensor) -> Tensor:
        """Answers with each posterior (B, G) replaced by its mean (B,); others as they are."""
        if self.grid is None:
            return answers
        return answers @ self._masses(self.grid).to(answers) * self.grid.width

    @staticmethod
    def _masses(grid: Grid) -> Tensor:
        """The centers of the cells, by operations that can be exported."""
        return grid.low + grid.width * (torch.arange(grid.cells) + 0.5)


def symmetric_forms(images: Tensor) -> list[Tensor]:
    """The forms of a batch (B, C, H, W) under flips and quarter turns.

    Returns:
        Eight tensors of that shape; four where the images are not square.
    """
    mirrored = [images, images.flip(-1)]
    turns = (0, 1, 2, 3) if images.shape[-1] == images.shape[-2] else (0, 2)
    return [form.rot90(turn, (-2, -1)) for form in mirrored for turn in turns]
