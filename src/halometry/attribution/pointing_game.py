"""Pointing game: whether maxima of attribution maps lie at the substructure.

Reference:
    Zhang et al. (2018), Int. J. Comput. Vis. 126, 1084, for the pointing game.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from halometry.evaluation.bootstrap import Interval, binomial_interval, bootstrap
from halometry.simulation import Scene


def distances_to_substructure(scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute distances from positions to the heaviest subhalo, or the vortex, of each lens.

    Args:
        scene: B lenses.
        x, y: positions (n,), arcsec.

    Returns:
        Distances (B, n), arcsec; NaN for lenses without substructure.

    Example:
        >>> from halometry.simulation import draw_scenes, load_preset
        >>> scene = draw_scenes(load_preset("halo_mass"), seed=1, start=0, count=1)
        >>> heaviest = scene.subhalo_mass[0].argmax()
        >>> position = scene.subhalo_x[0, heaviest].numpy(), scene.subhalo_y[0, heaviest].numpy()
        >>> distances_to_substructure(scene, *map(np.atleast_1d, position))
        array([[0.]])
    """
    values = scene.parameters()
    rows = np.arange(len(scene))
    heaviest = values["subhalo_mass"].argmax(axis=1)
    has_subhalo = values["subhalo_mass"][rows, heaviest] > 0
    has_vortex = values["vortex_mass"] > 0
    to_subhalo = np.hypot(
        x - values["subhalo_x"][rows, heaviest, None],
        y - values["subhalo_y"][rows, heaviest, None],
    )
    angle, length = values["vortex_angle"][:, None], values["vortex_length"][:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    dx, dy = x - values["vortex_x"][:, None], y - values["vortex_y"][:, None]
    beyond_end = np.abs(dx * cos + dy * sin) - length / 2
    to_vortex = np.hypot(beyond_end.clip(0), dy * cos - dx * sin)
    to_none = np.full_like(to_subhalo, np.nan)
    to_vortex = np.where(has_vortex[:, None], to_vortex, to_none)
    return np.where(has_subhalo[:, None], to_subhalo, to_vortex)


@dataclass(frozen=True)
class PointingGame:
    """Distances of the maxima of maps from the substructure of their lenses.

    The maxima of other lenses' maps are the reference. They contain the common properties of the
    maps, such as a bright ring, but no information on the substructure of this lens.

    Attributes:
        target: kind of substructure.
        distances: from the maximum of map j to the substructure of lens i (N, N), arcsec.
        radius: largest distance of a hit, arcsec.
    """

    target: str
    distances: np.ndarray
    radius: float

    def __len__(self) -> int:
        return len(self.distances)

    @property
    def own_distances(self) -> np.ndarray:
        """Distances of each map's maximum from its own lens's substructure (N,)."""
        return self.distances.diagonal()

    @property
    def other_distances(self) -> np.ndarray:
        """Distances of the maxima of the N - 1 other maps (N, N - 1)."""
        count = len(self)
        is_other = ~np.eye(count, dtype=bool)
        return self.distances[is_other].reshape(count, count - 1)

    @cached_property
    def hit_fraction(self) -> Interval:
        """Fraction of maxima within the radius, with a binomial interval."""
        return binomial_interval(int((self.own_distances <= self.radius).sum()), len(self))

    @cached_property
    def chance_fraction(self) -> float:
        """Fraction of the other maps' maxima within the radius."""
        return float((self.other_distances <= self.radius).mean())

    @cached_property
    def above_chance(self) -> Interval:
        """Difference of both fractions, with a bootstrap interval over lenses."""
        is_hit = self.own_distances <= self.radius
        difference = is_hit - (self.other_distances <= self.radius).mean(axis=1)
        rows = [np.arange(len(difference))]
        mean = float(difference.mean())
        return bootstrap(lambda resample: difference[resample].mean(axis=1), rows, mean)
