"""Noise and PSF of the hackathon's published images, estimated from all of them together.

Compression at quality 75 removes most noise of about one gray level, but not all. The number of
coefficients that survive in the blocks of the corners, and the mean of the corners, depend on the
standard deviation of the noise. The distribution of this standard deviation over the images is
estimated by maximum likelihood.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from hackathon_images import simulate, through_files
from scipy.fft import dctn

BLOCK = 8
# Coefficients of a block, and their quantization steps at quality 75.
KEPT = ((0, 1, 6), (1, 0, 6), (0, 2, 5), (1, 1, 6), (2, 0, 7), (0, 3, 8), (1, 2, 7), (2, 1, 7))
SURVIVING = np.array([-0.5, 0.5, 1.5, 2.5, 4.5, 7.5, 11.5, 16.5, 24.5, 34.5, 1e4])
MEANS = np.array(
    [-1, 0.3, 0.5, 0.7, 0.85, 0.95, 1.001, 1.05, 1.15, 1.3, 1.5, 1.7, 1.9, 2.1, 2.3, 2.6, 9]
)
WIDTHS = np.arange(0.4, 4.01, 0.05)  # standard deviations of the noise, gray levels
IMAGES_PER_WIDTH = 300
CORNER_LIGHT = 0.04  # light of the galaxies in the corners, gray levels


def corners(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of surviving coefficients (N,) and mean (N,) of the blocks in the corners."""
    rows, columns = (0, 8, 16, 128, 136), (0, 8, 16, 24, 112, 120, 128, 136)
    blocks = np.stack(
        [images[:, r : r + BLOCK, c : c + BLOCK] for r in rows for c in columns], axis=1
    ).astype(np.float64)
    coefficients = np.abs(dctn(blocks, axes=(2, 3), norm="ortho"))
    kept = [coefficients[:, :, i, j] > 0.45 * step for i, j, step in KEPT]
    return np.stack(kept, axis=2).sum((1, 2)), blocks.mean((1, 2, 3))


def _histogram(images: np.ndarray) -> np.ndarray:
    counted: np.ndarray = np.histogram2d(*corners(images), bins=(SURVIVING, MEANS))[0]
    return counted.ravel()


def noise_distribution(images: np.ndarray, seed: int) -> dict[str, Any]:
    """Estimate the distribution of the standard deviation of the noise, with alternatives."""
    observed = _histogram(images)
    predicted = np.array([_histogram(_noise(width, seed)) for width in WIDTHS]) + 0.1
    predicted /= predicted.sum(axis=1, keepdims=True)

    def deviance(weights: np.ndarray) -> float:
        expected = weights / weights.sum() @ predicted * observed.sum()
        return float(
            2 * np.sum(np.where(observed > 0, observed * np.log(observed.clip(1) / expected), 0))
        )

    free = _fit_any_distribution(observed, predicted)
    medians, scatters = np.arange(0.9, 1.5, 0.02), np.arange(0.2, 0.6, 0.02)
    tried = {
        "log_normal": _best(deviance, _log_normal, medians, scatters),
        "normal_signal_to_noise": _best(deviance, _normal_ratio, medians - 0.3, scatters - 0.1),
        "power_law": _best(deviance, _power_law, np.arange(-5, 0.1, 0.25), np.zeros(1)),
    }
    cumulative = np.cumsum(free)
    quantiles = {
        str(q): float(WIDTHS[np.searchsorted(cumulative, q)]) for q in (0.05, 0.25, 0.5, 0.75, 0.95)
    }
    return {
        "images": len(images),
        "cells": int((observed > 0).sum()),
        "deviance_of_any_distribution": deviance(free),
        "quantiles_of_any_distribution": quantiles,
        "tried": tried,
    }


def _noise(width: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, round(1000 * width)))
    levels = (
        np.abs(rng.normal(CORNER_LIGHT, width, (IMAGES_PER_WIDTH, 150, 150))).round().clip(0, 255)
    )
    pixels = levels.astype(np.uint8)
    pixels[:, 75, 75] = 255
    return through_files(pixels)


def _fit_any_distribution(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Weights of the standard deviations by expectation maximization."""
    weights = np.full(len(predicted), 1 / len(predicted))
    for _ in range(400):
        weights = weights * (predicted @ (observed / observed.sum() / (weights @ predicted)))
        weights /= weights.sum()
    return weights


def _log_normal(median: float, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * (np.log(WIDTHS / median) / sigma) ** 2) / WIDTHS


def _normal_ratio(mean: float, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * ((1 / WIDTHS - mean) / sigma) ** 2) / WIDTHS**2


def _power_law(slope: float, _: float) -> np.ndarray:
    return WIDTHS**slope


def _best(
    deviance: Callable[[np.ndarray], float],
    distribution: Callable[[float, float], np.ndarray],
    first: np.ndarray,
    second: np.ndarray,
) -> dict[str, Any]:
    grids = first, second, np.arange(0.5, 0.91, 0.05)
    best: tuple[float, tuple[float, ...]] = (np.inf, ())
    for a, b, low in itertools.product(*grids):
        inside = (low - 1e-9 <= WIDTHS) & (WIDTHS <= 3.5 + 1e-9)
        best = min(best, (deviance(distribution(a, b) * inside), (a, b, low)))
    return {"deviance": best[0], "parameters": [round(float(v), 3) for v in best[1]], "high": 3.5}


def psf_width(images: np.ndarray, preset: str, seed: int, count: int = 500) -> dict[str, Any]:
    """Width of the PSF that reproduces the brightness next to the center of the images."""
    target, error = _inner(images)
    widths = np.array([0.0855, 0.0865, 0.0875, 0.0885, 0.0895])
    simulated = [
        _inner(simulate(preset, count, seed, {"psf_sigma": float(width)})) for width in widths
    ]
    values = np.array([value for value, _ in simulated])
    slope, intercept = np.polyfit(widths, values, 1)
    scatter = float(np.hypot(error, np.mean([e for _, e in simulated]) / np.sqrt(len(widths))))
    return {
        "psf_sigma_arcsec": float((target - intercept) / slope),
        "error": scatter / abs(float(slope)),
        "images": len(images),
    }


def _inner(images: np.ndarray) -> tuple[float, float]:
    """Median of the mean of the four pixels diagonal to the central four, with its error."""
    levels = images[:, [73, 73, 76, 76], [73, 76, 73, 76]].astype(np.float64).mean(1)
    return float(np.median(levels)), float(1.253 * levels.std() / np.sqrt(len(levels)))
