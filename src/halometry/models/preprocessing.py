"""Preprocessing of raw pixel values into the input of a network."""

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

LOG_SOFTENING = 0.01  # pixel value below which the logarithmic stretch is nearly linear

Limits = tuple[Tensor, Tensor]  # smallest and largest pixel of each image, each (B, 1, 1, 1)


class PreprocessingConfig(StrictModel):
    """Steps that map raw pixel values to the input of a network, in this order.

    Attributes:
        scale: `minmax` maps the smallest pixel of each image to 0 and its largest to 1.
        stretch: `sqrt` makes Poisson noise nearly uniform, `log` raises faint arcs.
        size: side in pixels after bilinear resizing without antialiasing; None keeps the size.
        mean, std: mean that is subtracted and standard deviation that is divided by; one number,
            or one for each channel.
        channels: channels of the network's input; an image of one channel is repeated.
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

    def forward(self, raw: Tensor, limits: Limits | None = None) -> Tensor:
        """Preprocess a batch of images.

        Args:
            raw: pixel values (B, c, H, W); c is 1 or as configured.
            limits: pixel values that `minmax` maps to 0 and 1; None takes the smallest and largest
                pixel of each image. Fixed limits keep a change of one pixel from changing the
                scale of all others.

        Returns:
            (B, C, size, size).
        """
        config = self.config
        images = raw.float()
        if config.scale == "minmax":
            low, high = pixel_limits(images) if limits is None else limits
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
    """Shape a number, or one number for each channel, to broadcast against images."""
    if isinstance(values, float):
        return values
    return torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]


def pixel_limits(images: Tensor) -> Limits:
    """Smallest and largest pixel of each image (B, C, H, W), each (B, 1, 1, 1)."""
    return images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images (B, C, H, W) to (B, C, size, size), bilinear without antialiasing.

    Example:
        >>> resize(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), 4)[0, 0, 0]
        tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    if torch.compiler.is_exporting():
        # Bilinear resizing of ONNX rounds positions in another way; it changed predictions of an
        # EfficientNet-B5 by 1e-4.
        rows, columns = (bilinear_weights(size, side).to(images) for side in images.shape[-2:])
        return rows @ images @ columns.T
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def bilinear_weights(size: int, side: int) -> Tensor:
    """Weights of `side` pixels in each of `size` resized pixels, (size, side).

    Example:
        >>> bilinear_weights(4, 2) @ torch.tensor([0.0, 1.0], dtype=torch.float64)
        tensor([0.0000, 0.2500, 0.7500, 1.0000], dtype=torch.float64)
    """
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * (side / size) - 0.5
    distance = at.clamp(0, side - 1)[:, None] - torch.arange(side)
    return (1 - distance.abs()).clamp_min(0)
