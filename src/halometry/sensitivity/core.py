"""Many lenses, one subhalo in each, mass by mass: what the network sees and what could be seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from halometry.lensfit.linear import project_out
from halometry.log import Tracker
from halometry.sensitivity.curves import Outcomes
from halometry.sensitivity.ideal_observer import (
    detected,
    detected_known,
    search_threshold,
    threshold,
)
from halometry.sensitivity.lenses import (
    Judge,
    SmoothLenses,
    expectations,
    moved,
    onto_the_ring,
    places,
    smooth_scenes,
    with_subhalo,
)

AT_ONCE = 32  # lenses
PLACES = ("anywhere", "on the ring")  # as the preset draws them; at the Einstein radius
KNOWN, FITTED, SOUGHT = "lens known", "lens fitted", "lens fitted, place sought"
SEARCH = 33  # places along the side of the grid on which a subhalo is sought


def scores_of_smooth(judge: Judge, count: int, device: str, progress: Tracker) -> np.ndarray:
    """Scores (count,) of the lenses from number 0 on without any subhalo."""
    found = []
    for start in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - start)
        scene = smooth_scenes(judge.preset, judge.seed, start, size, device)
        expected = expectations(scene.to(device, torch.float32), judge.preset)
        found.append(judge.scores(expected, scene.background_rms, start))
        progress.advance(size)
    return np.concatenate(found)


def try_masses(
    judge: Judge,
    smooth: np.ndarray,
    masses: np.ndarray,
    count: int,
    false_positives: float,
    sought: float,
    device: str,
    progress: Tracker,
) -> dict[str, Outcomes]:
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
    shape = len(PLACES), len(masses), count
    scores = np.empty(shape)
    chances = {name: np.empty(shape) for name in (KNOWN, FITTED, SOUGHT)}
    number = len(smooth) + count  # of the next image's noise
    for first in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - first)
        lenses = SmoothLenses.draw(judge.preset, judge.seed, len(smooth) + first, size, device)
        for m, mass in enumerate(masses.tolist()):
            start = len(smooth) + first
            scene = with_subhalo(lenses.scene, judge.preset, 10**mass, judge.seed, start)
            for w, one in enumerate((scene, onto_the_ring(scene))):
                at = w, m, slice(first, first + size)
                lumpy = expectations(one, judge.preset)
                scores[at] = judge.scores(lumpy, one.background_rms, number)
                for name, chance in chances_of(lenses, lumpy, false_positives, sought).items():
                    chances[name][at] = chance.cpu().numpy()
                number += size
                progress.advance(size)
    return {
        place: Outcomes(
            masses,
            smooth,
            scores[w],
            {name: one[w] for name, one in chances.items()},
            false_positives,
        )
        for w, place in enumerate(PLACES)
    }


def chances_of(
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
    known = detected_known(lenses.expected, lumpy, false_positives, lenses.extra)
    left = project_out(lenses.changes(lumpy)[:, None], lenses.derivatives)[:, 0].norm(dim=-1)
    return {
        KNOWN: known,
        FITTED: detected(left, threshold(false_positives)),
        SOUGHT: 1 - (1 - false_positives) * (1 - detected(left, sought)),
    }


def threshold_of_search(
    judge: Judge, mass: float, lens: int, false_positives: float, device: str
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
    one = with_subhalo(lenses.scene, judge.preset, 10**mass, judge.seed, lens)
    x, y = places(judge.preset, SEARCH)
    lumpy = expectations(moved(one, x.to(device), y.to(device)), judge.preset)
    left = project_out(lenses.changes(lumpy)[None], lenses.derivatives)[0]
    return search_threshold(left, false_positives)
