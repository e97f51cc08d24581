"""What happens to raw pixel values before a network sees them; it belongs to the weights."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from halometry.config import StrictModel

Scale = Literal["none", "minmax"]
Stretch = Literal["none", "sqrt", "log"]

Positive = Annotated[float, Field(gt=0)]

LOG_SOFTENING = 0.01  # of the range: below it the logarithmic stretch is nearly linear


class PreprocessingConfig(StrictModel):
    """How raw pixel values become a network's input.

    Attributes:
        scale: `minmax` maps each image's darkest pixel to 0 and its brightest to 1.
        stretch: `sqrt` makes the noise of counts nearly uniform, `log` lifts faint arcs.
        size: side in pixels after bilinear resizing without antialiasing; None keeps the size.
        channels: of the network's input; one gray image is repeated.
        mean, std: subtracted and divided by at the end, in units of the stretched values; one
            number, or one for each channel.
    """

    scale: Scale = "none"
    stretch: Stretch = "none"
    size: int | None = Field(default=None, ge=16, le=2048)
    channels: Literal[1, 3] = 1
    mean: float | tuple[float, ...] = 0.0
    std: Positive | tuple[Positive, ...] = 1.0


class Preprocessing(nn.Module):
    """Apply a `PreprocessingConfig` to a batch of raw images.

    Example:
        >>> raw = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> Preprocessing(PreprocessingConfig(scale="minmax"))(raw).max()
        tensor(1.)
    """

    def __init__(self, config: PreprocessingConfig) -> None:
        super().__init__()
        self.config = config
        # Of `minmax`, where not each image's own: what a pixel does is then not what it scales.
        self.limits: tuple[Tensor, Tensor] | None = None

    def forward(self, raw: Tensor) -> Tensor:
        """Map raw pixel values (B, c, H, W), c = 1 or as configured, to (B, C, size, size)."""
        config = self.config
        images = raw.float()
        if config.scale == "minmax":
            low, high = self.limits or extremes(images)
            images = (images - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
        if config.stretch == "sqrt":
            images = images.clamp_min(0).sqrt()
        elif config.stretch == "log":
            images = torch.log1p(images.clamp_min(0) / LOG_SOFTENING)
        if config.size is not None and images.shape[-2:] != (config.size, config.size):
            images = resize(images, config.size)
        images = (images - _like(images, config.mean)) / _like(images, config.std)
        if images.shape[1] == 1 and config.channels > 1:
            images = images.expand(-1, config.channels, -1, -1)
        return images


def _like(images: Tensor, values: float | tuple[float, ...]) -> float | Tensor:
    """A number, or one for each channel (C, 1, 1), to broadcast against images."""
    if isinstance(values, float):
        return values
    return torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]


def extremes(images: Tensor) -> tuple[Tensor, Tensor]:
    """The darkest and the brightest pixel of images (B, C, H, W), each (B, 1, 1, 1)."""
    return images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)


def resize(images: Tensor, size: int) -> Tensor:
    """Images (B, C, H, W) to (B, C, size, size), bilinear without antialiasing.

    Example:
        >>> resize(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), 4)[0, 0, 0]
        tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    if torch.compiler.is_exporting():
        # What others call bilinear rounds positions otherwise, and a deep network makes much of
        # it: answers of an EfficientNet-B5 differed by 1e-4.
        rows, columns = (bilinear_shares(size, side).to(images) for side in images.shape[-2:])
        return rows @ images @ columns.T
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def bilinear_shares(size: int, side: int) -> Tensor:
    """How much of each of `side` pixels is in each of `size`, (size, side).

    Example:
        >>> bilinear_shares(4, 2) @ torch.tensor([0.0, 1.0], dtype=torch.float64)
        tensor([0.0000, 0.2500, 0.7500, 1.0000], dtype=torch.float64)
    """
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * (side / size) - 0.5
    distance = at.clamp(0, side - 1)[:, None] - torch.arange(side)
    return (1 - distance.abs()).clamp_min(0)
