"""Many lenses, one subhalo in each, mass by mass: what the network sees and what could be seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from halometry.lensfit.linear import project_out
from halometry.log import Tracker
from halometry.sensitivity.curves import DetectionOutcomes
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
FIXED_LENS, FITTED_LENS, BLIND_SEARCH = "lens known", "lens fitted", "lens fitted, place sought"
SEARCH_GRID = 33  # places along the side of the grid on which a subhalo is sought


def score_smooth_lenses(judge: Detector, count: int, device: str, progress: Tracker) -> np.ndarray:
    """Scores (count,) of the lenses from number 0 on without any subhalo."""
    found = []
    for start in range(0, count, BATCH_SIZE):
        size = min(BATCH_SIZE, count - start)
        scene = smooth_scenes(judge.preset, judge.seed, start, size, device)
        expected = expected_counts(scene.to(device, torch.float32), judge.preset)
        found.append(judge.scores(expected, scene.background_rms, start))
        progress.advance(size)
    return np.concatenate(found)


def detect_subhalos(
    judge: Detector,
    smooth: np.ndarray,
    masses: np.ndarray,
    count: int,
    false_positives: float,
    sought: float,
    device: str,
    progress: Tracker,
) -> dict[str, DetectionOutcomes]:
    """Put a subhalo of each mass into the lenses that follow the smooth ones.

    A lens has the same place for all masses; every image has noise of its own.

    Args:
        judge: the network that is tried.
        smooth: its scores of lenses without a subhalo (S,).
        masses: log10 of solar masses (M,).
        count: lenses N.
        false_positives: share of smooth lenses that is called lumpy.
        sought: what a matched filter has to exceed when every place is looked at.
        device: to render on.
        progress: told of each image.

    Returns:
        By place.
    """
    shape = len(PLACEMENTS), len(masses), count
    scores = np.empty(shape)
    chances = {name: np.empty(shape) for name in (FIXED_LENS, FITTED_LENS, BLIND_SEARCH)}
    number = len(smooth) + count  # of the next image's noise
    for first in range(0, count, BATCH_SIZE):
        size = min(BATCH_SIZE, count - first)
        lenses = SmoothLenses.draw(judge.preset, judge.seed, len(smooth) + first, size, device)
        for m, mass in enumerate(masses.tolist()):
            start = len(smooth) + first
            scene = add_subhalo(lenses.scene, judge.preset, 10**mass, judge.seed, start)
            for w, one in enumerate((scene, move_to_ring(scene))):
                at = w, m, slice(first, first + size)
                lumpy = expected_counts(one, judge.preset)
                scores[at] = judge.scores(lumpy, one.background_rms, number)
                for name, chance in ideal_probabilities(
                    lenses, lumpy, false_positives, sought
                ).items():
                    chances[name][at] = chance.cpu().numpy()
                number += size
                progress.advance(size)
    return {
        place: DetectionOutcomes(
            masses,
            smooth,
            scores[w],
            {name: one[w] for name, one in chances.items()},
            false_positives,
        )
        for w, place in enumerate(PLACEMENTS)
    }


def ideal_probabilities(
    lenses: SmoothLenses, lumpy: Tensor, false_positives: float, sought: float
) -> dict[str, Tensor]:
    """How probably each subhalo is found by the best observers there can be.

    `KNOWN` knows the lens, `FITTED` has to fit it; both know where and how heavy the subhalo is if
    there is one, so that none does better with the same knowledge of the lens. `SOUGHT` looks at
    all places and so needs a higher threshold, which noise elsewhere may exceed too.

    Args:
        lenses: without it.
        lumpy: the images' expectations with it (B, N).
        false_positives: share of smooth lenses that is called lumpy.
        sought: threshold of the last.

    Returns:
        (B,) each.
    """
    known = likelihood_ratio_power(
        lenses.expected, lumpy, false_positives, lenses.gaussian_variance
    )
    left = project_out(lenses.normalized_differences(lumpy)[:, None], lenses.derivatives)[
        :, 0
    ].norm(dim=-1)
    return {
        FIXED_LENS: known,
        FITTED_LENS: matched_filter_power(left, normal_threshold(false_positives)),
        BLIND_SEARCH: 1 - (1 - false_positives) * (1 - matched_filter_power(left, sought)),
    }


def blind_search_threshold(
    judge: Detector, mass: float, lens: int, false_positives: float, device: str
) -> float:
    """The threshold of one who looks for a subhalo everywhere in a lens that is fitted.

    Args:
        judge: with the preset and seed.
        mass: log10 of solar masses; what a little more mass does hardly depends on it.
        lens: number of the lens.
        false_positives: share of smooth lenses in which the largest of all outputs exceeds it.
        device: to render on.
    """
    lenses = SmoothLenses.draw(judge.preset, judge.seed, lens, 1, device)
    one = add_subhalo(lenses.scene, judge.preset, 10**mass, judge.seed, lens)
    x, y = grid_positions(judge.preset, SEARCH_GRID)
    lumpy = expected_counts(move_subhalo(one, x.to(device), y.to(device)), judge.preset)
    left = project_out(lenses.normalized_differences(lumpy)[None], lenses.derivatives)[0]
    return max_filter_threshold(left, false_positives)
