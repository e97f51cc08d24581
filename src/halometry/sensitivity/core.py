"""Detection of single subhalos of each mass, by the network and by ideal observers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from halometry.lensfit.linear import project_out
from halometry.log import Tracker
from halometry.sensitivity.curves import BLIND_SEARCH, FITTED_LENS, FIXED_LENS, DetectionOutcomes
from halometry.sensitivity.ideal_observer import (
    likelihood_ratio_power,
    matched_filter_power,
    max_filter_threshold,
    normal_threshold,
)
from halometry.sensitivity.lenses import (
    Detector,
    SmoothLenses,
    add_subhalo,
    expected_counts,
    grid_positions,
    move_subhalo,
    move_to_ring,
    smooth_scenes,
)

BATCH_SIZE = 32  # lenses
PLACEMENTS = ("anywhere", "on the ring")  # as the preset draws them; at the Einstein radius
SEARCH_GRID = 33  # positions along the side of the grid of a blind search


def score_smooth_lenses(detector: Detector, count: int, progress: Tracker) -> np.ndarray:
    """Compute the scores (count,) of the first lenses without a subhalo."""
    scores = []
    for start in range(0, count, BATCH_SIZE):
        size = min(BATCH_SIZE, count - start)
        scene = smooth_scenes(detector.preset, detector.seed, start, size, detector.device)
        expected = expected_counts(scene.to(detector.device, torch.float32), detector.preset)
        scores.append(detector.scores(expected, scene.background_rms, start))
        progress.advance(size)
    return np.concatenate(scores)


def detect_subhalos(
    detector: Detector,
    smooth_scores: np.ndarray,
    log10_masses: np.ndarray,
    *,
    count: int,
    trials_threshold: float,
    progress: Tracker,
) -> dict[str, DetectionOutcomes]:
    """Add a subhalo of each mass to the lenses that follow the smooth ones, and score them.

    A lens has its subhalo at the same position for all masses; each image has its own noise.

    Args:
        detector: the network.
        smooth_scores: its scores of lenses without a subhalo (S,).
        log10_masses: log10 of solar masses (M,).
        count: lenses N.
        trials_threshold: threshold of a matched filter in a blind search.
        progress: advances with each image.

    Returns:
        Outcomes by placement.
    """
    shape = len(PLACEMENTS), len(log10_masses), count
    scores = np.empty(shape)
    probabilities = {name: np.empty(shape) for name in (FIXED_LENS, FITTED_LENS, BLIND_SEARCH)}
    noise_number = len(smooth_scores) + count
    for first in range(0, count, BATCH_SIZE):
        size = min(BATCH_SIZE, count - first)
        start = len(smooth_scores) + first
        lenses = detector.draw_lenses(start, size)
        for m, log10_mass in enumerate(log10_masses.tolist()):
            scene = add_subhalo(lenses.scene, detector.preset, 10**log10_mass, detector.seed, start)
            for p, placed in enumerate((scene, move_to_ring(scene))):
                index = p, m, slice(first, first + size)
                perturbed = expected_counts(placed, detector.preset)
                scores[index] = detector.scores(perturbed, placed.background_rms, noise_number)
                ideal = ideal_probabilities(
                    lenses, perturbed, detector.false_positives, trials_threshold
                )
                for name, probability in ideal.items():
                    probabilities[name][index] = probability.cpu().numpy()
                noise_number += size
                progress.advance(size)
    return {
        placement: DetectionOutcomes(
            log10_masses,
            smooth_scores,
            scores[p],
            {name: values[p] for name, values in probabilities.items()},
            detector.false_positives,
        )
        for p, placement in enumerate(PLACEMENTS)
    }


def ideal_probabilities(
    lenses: SmoothLenses, perturbed: Tensor, false_positives: float, trials_threshold: float
) -> dict[str, Tensor]:
    """Compute the probability that each subhalo is detected by ideal observers.

    `FIXED_LENS` knows the lens, `FITTED_LENS` fits it. Both know position and mass of the
    subhalo, if there is one; no test with the same knowledge of the lens is better.
    `BLIND_SEARCH` fits the lens and searches all positions. Its threshold is higher, and noise at
    other positions may exceed it too.

    Args:
        lenses: lenses without the subhalo.
        perturbed: expected counts with the subhalo (B, N).
        false_positives: false-positive rate, the fraction of smooth lenses that is detected.
        trials_threshold: threshold of a matched filter in a blind search.

    Returns:
        Probabilities (B,) by observer.
    """
    fixed = likelihood_ratio_power(
        lenses.expected, perturbed, false_positives, lenses.gaussian_variance
    )
    differences = lenses.normalized_differences(perturbed)[:, None]
    detectability = project_out(differences, lenses.derivatives)[:, 0].norm(dim=-1)
    threshold = normal_threshold(false_positives)
    at_position = matched_filter_power(detectability, trials_threshold)
    return {
        FIXED_LENS: fixed,
        FITTED_LENS: matched_filter_power(detectability, threshold),
        BLIND_SEARCH: 1 - (1 - false_positives) * (1 - at_position),
    }


def blind_search_threshold(detector: Detector, log10_mass: float, lens_index: int) -> float:
    """Threshold of a matched filter that searches all positions in a fitted lens, in sigma.

    Args:
        detector: with preset, seed and false-positive rate.
        log10_mass: of the templates; the result hardly depends on it.
        lens_index: number of the lens.
    """
    lenses = detector.draw_lenses(lens_index, 1)
    scene = add_subhalo(lenses.scene, detector.preset, 10**log10_mass, detector.seed, lens_index)
    x, y = grid_positions(detector.preset, SEARCH_GRID)
    moved = move_subhalo(scene, x.to(detector.device), y.to(detector.device))
    differences = lenses.normalized_differences(expected_counts(moved, detector.preset))
    templates = project_out(differences[None], lenses.derivatives)[0]
    return max_filter_threshold(templates, detector.false_positives)
