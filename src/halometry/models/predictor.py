"""Preprocessing, network and the meaning of its output in one: raw pixels in, answers out."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from halometry.config import Strict
from halometry.models.preprocessing import Preprocessing
from halometry.tasks import Task


class TargetConfig(Strict):
    """How a label becomes what the network is trained to put out.

    Attributes:
        transform: `log` takes the natural logarithm of the mass fraction first.
        mean, std: of the transformed training labels; the network's output is standardised.
    """

    transform: Literal["none", "log"] = "none"
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


class Predictor(nn.Module):
    """From raw images to class probabilities or mass fractions.

    Args:
        preprocessing: of the raw pixel values.
        network: from preprocessed images (B, C, H, W) to (B, outputs).
        task: classification or regression.
        target: the meaning of a regression network's output.
        average_symmetries: answer with the mean over the image's flips and quarter turns.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        network: nn.Module,
        task: Task,
        target: TargetConfig | None = None,
        average_symmetries: bool = False,
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.network = network
        self.task = task
        self.target = target or TargetConfig()
        self.average_symmetries = average_symmetries

    def forward(self, raw: Tensor) -> Tensor:
        """Map raw images (B, c, H, W) to probabilities (B, K) or mass fractions (B,)."""
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
        """What the network's outputs (B, K) mean: probabilities (B, K) or mass fractions (B,)."""
        if self.task == "classification":
            return torch.softmax(outputs, dim=1)
        return self.target.decode(outputs[:, 0])


def symmetric_forms(images: Tensor) -> list[Tensor]:
    """The forms of a batch (B, C, H, W) under flips and quarter turns.

    Returns:
        Eight tensors of that shape; four where the images are not square.
    """
    mirrored = [images, images.flip(-1)]
    turns = (0, 1, 2, 3) if images.shape[-1] == images.shape[-2] else (0, 2)
    return [form.rot90(turn, (-2, -1)) for form in mirrored for turn in turns]
