"""Predictor: preprocessing, network and decoding of its output in one module."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from halometry.calibration.posterior import Grid
from halometry.calibration.temperature import apply_temperature
from halometry.config import StrictModel, Task
from halometry.models.heads import DENSITIES, DensityFamily, density_on_grid
from halometry.models.preprocessing import Limits, Preprocessing


class TargetConfig(StrictModel):
    """Encoding of labels for the network.

    Attributes:
        transform: `log` takes the natural logarithm of the mass fraction; `linear` keeps it.
        mean, std: mean and standard deviation of the transformed training labels, by which they
            are standardized.
    """

    transform: Literal["linear", "log"] = "linear"
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)

    def encode(self, labels: Tensor) -> Tensor:
        """Map labels (B,) to targets of the network (B,)."""
        values = labels.log() if self.transform == "log" else labels
        return (values - self.mean) / self.std

    def decode(self, outputs: Tensor) -> Tensor:
        """Map outputs of the network (B,) to labels (B,)."""
        values = outputs * self.std + self.mean
        return values.exp() if self.transform == "log" else values

    def log_jacobian(self, labels: Tensor) -> Tensor:
        """Logarithm of the derivative of `encode` at labels (B,).

        A density of targets times this derivative is the density of the labels.
        """
        return -torch.log(labels * self.std if self.transform == "log" else self.std + 0 * labels)


class PredictorOutput(NamedTuple):
    """Predictions and what they were computed from; see `Predictor.forward_features`.

    Attributes:
        predictions: as `Predictor.forward` returns them.
        inputs: preprocessed images (B, C, H, W).
        features: features of the backbone for these (B, F).
    """

    predictions: Tensor
    inputs: Tensor
    features: Tensor


class Predictor(nn.Module):
    """Map raw images to class probabilities, mass fractions, or posteriors of mass fractions.

    Args:
        preprocessing: maps raw pixel values to inputs of the network.
        network: maps preprocessed images (B, C, H, W) to outputs (B, K).
        task: classification or regression.
        target: encoding of the labels of a regression.
        tta: test-time augmentation: predict the mean over the flips and 90-degree rotations of
            the image.
        family: family of posterior densities whose parameters the network predicts; `none` where
            it predicts the mass fraction itself.
        grid: grid of mass fractions (G cells) on which posteriors are given.
        temperature, bias: calibration of the probabilities, see `apply_temperature`.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: nn.Module,
        task: Task,
        target: TargetConfig | None = None,
        *,
        tta: bool = False,
        family: DensityFamily = "none",
        grid: Grid | None = None,
        temperature: float = 1.0,
        bias: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.network = network
        self.task = task
        self.target = target or TargetConfig()
        self.tta = tta
        self.density = None if grid is None else DENSITIES[family]
        self.grid = grid
        self.temperature, self.bias = temperature, bias

    def forward(self, raw: Tensor, limits: Limits | None = None) -> Tensor:
        """Map raw images to predictions.

        Args:
            raw: (B, c, H, W).
            limits: see `Preprocessing.forward`.

        Returns:
            Probabilities (B, K), mass fractions (B,), or with a grid the density of the mass
            fraction in each cell (B, G).
        """
        images = self.preprocessing(raw, limits)
        if not self.tta:
            return self._calibrated(self.decode(self.network(images).float()))
        copies = symmetric_copies(images)
        if torch.compiler.is_exporting():  # one copy of the network for all copies of the images
            predictions = self.decode(self.network(torch.cat(copies)).float())
            predictions = predictions.reshape(len(copies), -1, *predictions.shape[1:])
            return self._calibrated(predictions.mean(dim=0))
        # One copy after the other, so that no more memory is needed than for one.
        return self._averaged([self.network(copy) for copy in copies])

    def forward_features(self, raw: Tensor) -> PredictorOutput:
        """Map raw images to predictions, and return the inputs and features as well.

        With test-time augmentation the features are those of the image as it is.

        Args:
            raw: (B, c, H, W).
        """
        images = self.preprocessing(raw)
        features = self.network.get_submodule("backbone")(images)
        outputs = [self.network.get_submodule("head")(features)]
        if self.tta:
            outputs += [self.network(copy) for copy in symmetric_copies(images)[1:]]
        return PredictorOutput(self._averaged(outputs), images, features)

    def decode(self, outputs: Tensor) -> Tensor:
        """Map the network's outputs (B, K) to predictions without temperature; see `forward`."""
        if self.task == "classification":
            return torch.softmax(outputs, dim=1)
        if self.density is None or self.grid is None:
            return self.target.decode(outputs[:, 0])
        masses = self._masses(self.grid).to(outputs)
        values = self.target.encode(masses)[None]
        density = self.density.log_density(outputs, values) + self.target.log_jacobian(masses)
        return density_on_grid(density, self.grid.width)

    def point_predictions(self, predictions: Tensor) -> Tensor:
        """Replace posteriors (B, G) by their means (B,); return other predictions as they are."""
        if self.grid is None:
            return predictions
        return predictions @ self._masses(self.grid).to(predictions) * self.grid.width

    def _averaged(self, outputs: list[Tensor]) -> Tensor:
        """Mean of the predictions for the network's outputs, each (B, K)."""
        predictions = [self.decode(output.float()) for output in outputs]
        if len(predictions) == 1:
            return self._calibrated(predictions[0])
        return self._calibrated(torch.stack(predictions).mean(dim=0))

    def _calibrated(self, predictions: Tensor) -> Tensor:
        """Apply the temperature to probabilities."""
        if self.task == "classification":
            return apply_temperature(predictions, self.temperature, self.bias)
        return predictions

    @staticmethod
    def _masses(grid: Grid) -> Tensor:
        """Centers of the cells (G,), by operations that can be exported."""
        return grid.low + grid.width * (torch.arange(grid.cells) + 0.5)


def symmetric_copies(images: Tensor) -> list[Tensor]:
    """Flip and rotate a batch of images (B, C, H, W) in all ways that keep their shape.

    Returns:
        Eight tensors, four where the images are not square; the first is the batch itself.
    """
    mirrored = [images, images.flip(-1)]
    turns = (0, 1, 2, 3) if images.shape[-1] == images.shape[-2] else (0, 2)
    return [image.rot90(turn, (-2, -1)) for image in mirrored for turn in turns]
