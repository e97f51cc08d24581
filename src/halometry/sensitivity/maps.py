"""The lightest subhalo that is found at each place of one lens: a sensitivity map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from halometry.lensfit.linear import project_out
from halometry.log import Tracker
from halometry.sensitivity.core import BATCH_SIZE, FITTED_LENS, FIXED_LENS
from halometry.sensitivity.curves import NETWORK, first_crossing
from halometry.sensitivity.ideal_observer import expected_delta_2lnl, normal_threshold
from halometry.sensitivity.lenses import (
    Detector,
    SmoothLenses,
    add_subhalo,
    expected_counts,
    grid_positions,
    move_subhalo,
)

NOISE_REALIZATIONS = (
    3  # images of each mass and place whose mean score is compared with the threshold
)


@dataclass(frozen=True)
class SensitivityMap:
    """Where subhalos of which mass are found half of the time, in one lens.

    Attributes:
        lens: its number.
        image: expected counts without any subhalo (H, W).
        pixel_scale: arcsec.
        x, y: of the places (n,), arcsec.
        masses: by observer, log10 of solar masses (n,), infinite where the heaviest that was tried
            is not found.
        einstein_radius: arcsec.
    """

    lens_index: int
    image: np.ndarray
    pixel_scale: float
    x: np.ndarray
    y: np.ndarray
    log10_masses: dict[str, np.ndarray]
    einstein_radius: float

    def fraction_detected(self, observer: str, mass: float) -> float:
        """The share of the places where a mass (log10) is found at least half of the time."""
        return float((self.log10_masses[observer] <= mass).mean())


def sensitivity_map(
    judge: Detector,
    cut: float,
    masses: np.ndarray,
    lens: int,
    side: int,
    false_positives: float,
    first_noise: int,
    device: str,
    progress: Tracker,
) -> SensitivityMap:
    """Try places on a grid over the circle in which the preset draws subhalos.

    Args:
        judge: the network.
        cut: its threshold.
        masses: log10 of solar masses to try (M,).
        lens: number of the lens.
        side: places along x and along y.
        false_positives: share of smooth lenses that is called lumpy.
        first_noise: number of the first image's noise.
        device: to render on.
        progress: told of each image, `NOISES` of a place and mass.
    """
    preset = judge.preset
    lenses = SmoothLenses.draw(preset, judge.seed, lens, 1, device)
    x, y = (axis.to(device) for axis in grid_positions(preset, side))
    values = {name: np.empty((len(x), len(masses))) for name in (NETWORK, FIXED_LENS, FITTED_LENS)}
    for first in range(0, len(x), BATCH_SIZE):
        at = slice(first, first + BATCH_SIZE)
        for m, mass in enumerate(masses.tolist()):
            one = add_subhalo(lenses.scene, preset, 10**mass, judge.seed, lens)
            many = move_subhalo(one, x[at], y[at])
            lumpy = expected_counts(many, preset)
            known = expected_delta_2lnl(lenses.expected, lumpy, lenses.gaussian_variance)
            left = project_out(lenses.normalized_differences(lumpy)[None], lenses.derivatives)[0]
            values[FIXED_LENS][at, m] = known.sqrt().cpu().numpy()
            values[FITTED_LENS][at, m] = left.norm(dim=-1).cpu().numpy()
            scores = []
            for k in range(NOISE_REALIZATIONS):
                number = first_noise + k * len(x) + first
                scores.append(judge.scores(lumpy, many.background_rms, number))
                progress.advance(len(many))
            values[NETWORK][at, m] = np.mean(scores, axis=0)
    found = {NETWORK: first_crossing(cut, masses, values[NETWORK])}
    for name in (FIXED_LENS, FITTED_LENS):
        # Detectability grows as the mass does: both by their logarithms. At the threshold half
        # of the noises are above it.
        level = math.log(normal_threshold(false_positives))
        found[name] = first_crossing(level, masses, np.log(values[name].clip(1e-30)))
    pixels = preset.image.pixels
    return SensitivityMap(
        lens_index=lens,
        image=lenses.expected.view(pixels, pixels).cpu().numpy(),
        pixel_scale=preset.image.pixel_scale,
        x=x.cpu().numpy(),
        y=y.cpu().numpy(),
        log10_masses=found,
        einstein_radius=float(lenses.scene.einstein_radius[0]),
    )
