"""Whether maps point at the substructure: distances of their maxima from it, beside chance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from halometry.evaluation.bootstrap import Interval, binomial_interval, bootstrap
from halometry.simulation import Scene


def distances_to_substructure(scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far places lie from the heaviest subhalo of a lens, or from its line.

    Args:
        scene: B lenses.
        x, y: places (n,), arcsec.

    Returns:
        (B, n), arcsec; NaN for lenses without substructure.

    Example:
        >>> from halometry.simulation import draw_scenes, load_preset
        >>> scene = draw_scenes(load_preset("halo_mass"), seed=1, start=0, count=1)
        >>> heaviest = scene.subhalo_mass[0].argmax()
        >>> at = scene.subhalo_x[0, heaviest].numpy(), scene.subhalo_y[0, heaviest].numpy()
        >>> distances(scene, *map(np.atleast_1d, at))
        array([[0.]])
    """
    of = scene.parameters()
    rows = np.arange(len(scene))
    heaviest = of["subhalo_mass"].argmax(axis=1)
    lumps = of["subhalo_mass"][rows, heaviest] > 0
    lines = of["vortex_mass"] > 0
    to_lump = np.hypot(
        x - of["subhalo_x"][rows, heaviest, None], y - of["subhalo_y"][rows, heaviest, None]
    )
    cos, sin = np.cos(of["vortex_angle"])[:, None], np.sin(of["vortex_angle"])[:, None]
    dx, dy = x - of["vortex_x"][:, None], y - of["vortex_y"][:, None]
    beyond = np.abs(dx * cos + dy * sin) - of["vortex_length"][:, None] / 2
    to_line = np.hypot(beyond.clip(0), dy * cos - dx * sin)
    none = np.full_like(to_lump, np.nan)
    return np.where(lumps[:, None], to_lump, np.where(lines[:, None], to_line, none))


@dataclass(frozen=True)
class PointingGame:
    """Where the maxima of maps lie from the substructure of their lenses, of one kind.

    Chance is what the maxima of the other lenses' maps do for a lens: they know where such maps
    are bright, on the ring say, and nothing of this lens.

    Attributes:
        what: the substructure.
        apart: of the maximum of map j from the substructure of lens i (N, N), arcsec.
        within: the radius that counts as a hit, arcsec.
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
        """The same for the maxima of the N - 1 other maps (N, N - 1)."""
        count = len(self)
        off = ~np.eye(count, dtype=bool)
        return self.distances[off].reshape(count, count - 1)

    @cached_property
    def hit_fraction(self) -> Interval:
        """The share of maxima within the radius, with its binomial interval."""
        return binomial_interval(int((self.own_distances <= self.radius).sum()), len(self))

    @cached_property
    def chance_fraction(self) -> float:
        """The same share by chance."""
        return float((self.other_distances <= self.radius).mean())

    @cached_property
    def above_chance(self) -> Interval:
        """Their difference, with a bootstrap interval over lenses."""
        gain = (self.own_distances <= self.radius) - (self.other_distances <= self.radius).mean(
            axis=1
        )
        rows = [np.arange(len(gain))]
        return bootstrap(lambda drawn: gain[drawn].mean(axis=1), rows, float(gain.mean()))
