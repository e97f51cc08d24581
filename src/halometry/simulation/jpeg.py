"""Images as pictures: eight bits, compressed with loss."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def as_jpeg(images: Tensor, quality: int) -> Tensor:
    """What is left of images in grey JPEG files.

    Args:
        images: (N, 1, H, W), each with something above zero.
        quality: of the compression, 1 to 95.

    Returns:
        Whole numbers from 0 to 255, the brightest pixel of each having been stretched to 255.
    """
    brightest = images.flatten(1).amax(dim=1).clamp_min(torch.finfo(images.dtype).tiny)
    stretched = (images / brightest[:, None, None, None] * 255).round().clamp(0, 255)
    pixels = stretched.to("cpu", torch.uint8).numpy()
    read = np.stack([_through_file(image[0], quality) for image in pixels])
    return torch.from_numpy(read)[:, None].to(images)


def _through_file(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
