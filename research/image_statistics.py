"""Summary statistics of images of lenses: brightness, background, shape, spectrum."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.fft import dctn
from scipy.stats import skew

CORNER = 24  # side of a corner in pixels: three JPEG blocks
BLOCK = 8
RINGS = np.arange(0, 61, 4)  # pixels
SPECTRUM = np.geomspace(0.008, 0.5, 9)  # cycles per pixel


def statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute summary statistics of images (N, H, W) in gray levels; each is (N,)."""
    levels = images.astype(np.float32)
    count, height, width = levels.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    flat = levels.reshape(count, -1)
    values = {
        "mean": flat.mean(1),
        "standard deviation": flat.std(1),
        "skewness": skew(flat, axis=1),
        "brightest pixel": flat.max(1),
        "center": levels[
            :, height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1
        ].mean((1, 2)),
    }
    values |= _background(levels) | _profile(levels, np.hypot(x, y)) | _shape(levels, x, y)
    values |= {f"fraction above {k}": (flat > k).mean(1) for k in (1, 2, 5, 10, 20, 50, 100)}
    return values | _spectrum(levels)


def _background(levels: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of three corners, where there is little light."""
    size = CORNER
    corners = [levels[:, :size, :size], levels[:, :size, -size:], levels[:, -size:, :size]]
    first = levels[:, :size, :size].reshape(len(levels), 3, BLOCK, 3, BLOCK)
    coefficients = dctn(first, axes=(2, 4), norm="ortho")
    pixels = np.concatenate([corner.reshape(len(levels), -1) for corner in corners], axis=1)
    return {
        "background mean": pixels.mean(1),
        "background median": np.median(pixels, axis=1),
        "background std": pixels.std(1),
        "background coefficients": (np.abs(coefficients) > 2.3).mean((1, 2, 3, 4)),
    }


def _profile(levels: np.ndarray, radius: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and standard deviation in rings, and the radius of the brightest ring."""
    values, means = {}, []
    for inner, outer in itertools.pairwise(RINGS):
        ring = levels[:, (radius >= inner) & (radius < outer)]
        means.append(ring.mean(1))
        values[f"mean at {inner}-{outer} px"] = means[-1]
        values[f"std at {inner}-{outer} px"] = ring.std(1)
    fine = np.stack(
        [levels[:, (radius >= r) & (radius < r + 1)].mean(1) for r in range(10, 45)], axis=1
    )
    return values | {"ring radius": 10.5 + fine.argmax(1)}


def _shape(levels: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Moments and asymmetries of the light."""
    total = levels.sum((1, 2))

    def moment(weight: np.ndarray) -> np.ndarray:
        return (levels * weight).sum((1, 2)) / total

    def asymmetry(other: np.ndarray) -> np.ndarray:
        return np.abs(levels - other).sum((1, 2)) / total

    return {
        "centroid x": moment(x),
        "centroid y": moment(y),
        "second moment xx": moment(x * x),
        "second moment yy": moment(y * y),
        "second moment xy": moment(x * y),
        "asymmetry left to right": asymmetry(levels[:, :, ::-1]),
        "asymmetry top to bottom": asymmetry(levels[:, ::-1]),
        "asymmetry rotated by 180": asymmetry(levels[:, ::-1, ::-1]),
    }


def _spectrum(levels: np.ndarray) -> dict[str, np.ndarray]:
    """Logarithm of the mean power in bands of the spatial frequency."""
    height, width = levels.shape[1:]
    power = np.abs(np.fft.rfft2(levels)) ** 2
    wave = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    return {
        f"log power at {low:.3f}-{high:.3f}": np.log(
            power[:, (wave >= low) & (wave < high)].mean(1)
        )
        for low, high in itertools.pairwise(SPECTRUM)
    }
