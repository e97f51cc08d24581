"""Sensitivity map: the lightest subhalo that is detected at each position of one lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from halometry.lensfit.linear import project_out
from halometry.log import Tracker
from halometry.sensitivity.core import BATCH_SIZE
from halometry.sensitivity.curves import FITTED_LENS, FIXED_LENS, NETWORK, first_crossing
from halometry.sensitivity.ideal_observer import expected_delta_2lnl, normal_threshold
from halometry.sensitivity.lenses import (
    Detector,
    add_subhalo,
    expected_counts,
    grid_positions,
    move_subhalo,
)

NOISE_REALIZATIONS = 3  # of each mass and position, whose mean score is compared to the threshold


@dataclass(frozen=True)
class SensitivityMap:
    """Mass of subhalos with a detection probability of one half, at each position in one lens.

    Attributes:
        lens_index: number of the lens.
        image: expected counts without a subhalo (H, W).
        pixel_scale: arcsec.
        x, y: positions (n,), arcsec.
        log10_masses: by observer, log10 of solar masses (n,); infinite if the largest mass is not
            detected.
        einstein_radius: arcsec.
    """

    lens_index: int
    image: np.ndarray
    pixel_scale: float
    x: np.ndarray
    y: np.ndarray
    log10_masses: dict[str, np.ndarray]
    einstein_radius: float

    def fraction_detected(self, observer: str, log10_mass: float) -> float:
        """Fraction of the positions at which a mass has a detection probability of one half."""
        return float((self.log10_masses[observer] <= log10_mass).mean())


def sensitivity_map(
    detector: Detector,
    threshold: float,
    log10_masses: np.ndarray,
    *,
    lens_index: int,
    side: int,
    noise_start: int,
    progress: Tracker,
) -> SensitivityMap:
    """Compute the map on a grid over the circle that contains the preset's subhalos.

    Args:
        detector: the network.
        threshold: its detection threshold, log odds.
        log10_masses: log10 of solar masses (M,).
        lens_index: number of the lens.
        side: positions along a side of the grid.
        noise_start: number of the first image's noise.
        progress: advances with each image, `NOISE_REALIZATIONS` per position and mass.
    """
    preset, seed = detector.preset, detector.seed
    lenses = detector.draw_lenses(lens_index, 1)
    x, y = (axis.to(detector.device) for axis in grid_positions(preset, side))
    values = {
        name: np.empty((len(x), len(log10_masses))) for name in (NETWORK, FIXED_LENS, FITTED_LENS)
    }
    for first in range(0, len(x), BATCH_SIZE):
        batch = slice(first, first + BATCH_SIZE)
        for m, log10_mass in enumerate(log10_masses.tolist()):
            scene = add_subhalo(lenses.scene, preset, 10**log10_mass, seed, lens_index)
            moved = move_subhalo(scene, x[batch], y[batch])
            perturbed = expected_counts(moved, preset)
            delta = expected_delta_2lnl(lenses.expected, perturbed, lenses.gaussian_variance)
            differences = lenses.normalized_differences(perturbed)
            unexplained = project_out(differences[None], lenses.derivatives)[0]
            values[FIXED_LENS][batch, m] = delta.sqrt().cpu().numpy()
            values[FITTED_LENS][batch, m] = unexplained.norm(dim=-1).cpu().numpy()
            scores = []
            for k in range(NOISE_REALIZATIONS):
                noise_number = noise_start + k * len(x) + first
                scores.append(detector.scores(perturbed, moved.background_rms, noise_number))
                progress.advance(len(moved))
            values[NETWORK][batch, m] = np.mean(scores, axis=0)
    result = {NETWORK: first_crossing(threshold, log10_masses, values[NETWORK])}
    for name in (FIXED_LENS, FITTED_LENS):
        # Detectability is nearly proportional to mass: both are interpolated as logarithms. At
        # the threshold the detection probability is one half.
        level = math.log(normal_threshold(detector.false_positives))
        result[name] = first_crossing(level, log10_masses, np.log(values[name].clip(1e-30)))
    pixels = preset.image.pixels
    return SensitivityMap(
        lens_index=lens_index,
        image=lenses.expected.view(pixels, pixels).cpu().numpy(),
        pixel_scale=preset.image.pixel_scale,
        x=x.cpu().numpy(),
        y=y.cpu().numpy(),
        log10_masses=result,
        einstein_radius=float(lenses.scene.einstein_radius[0]),
    )
