"""Posteriors of the mass fraction: probability densities on a grid, and functions of these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field

from halometry.config import StrictModel

DEFAULT_CELLS = 512
GRID_MARGIN = 0.5  # margin of the grid on either side, relative to the range of the labels
MIN_DENSITY = float(np.finfo(np.float32).tiny)  # smaller densities count as this
CREDIBLE_LEVELS = {"68": 0.68, "95": 0.95}  # credible intervals that are reported


class Grid(StrictModel):
    """Grid of cells of equal width, in each of which a density is constant.

    Attributes:
        low, high: outer edges, mass fractions.
        cells: number of cells G.

    Example:
        >>> Grid(low=0.0, high=0.1, cells=4).centers
        array([0.0125, 0.0375, 0.0625, 0.0875])
    """

    low: float
    high: float
    cells: int = Field(default=DEFAULT_CELLS, ge=2, le=65536)

    @classmethod
    def from_labels(cls, labels: np.ndarray) -> Grid:
        """Return a grid wider than the range of labels (N,), below zero only if a label is."""
        low, high = float(labels.min()), float(labels.max())
        margin = GRID_MARGIN * (high - low)
        return cls(low=low - margin if low < 0 else max(0.0, low - margin), high=high + margin)

    @property
    def width(self) -> float:
        """Width of a cell."""
        return (self.high - self.low) / self.cells

    @property
    def edges(self) -> np.ndarray:
        """Edges of the cells (G + 1,)."""
        return np.linspace(self.low, self.high, self.cells + 1)

    @property
    def centers(self) -> np.ndarray:
        """Centers of the cells (G,)."""
        edges = self.edges
        return (edges[1:] + edges[:-1]) / 2


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posteriors of the mass fractions of B images.

    Attributes:
        grid: grid of mass fractions.
        density: probability density in each cell (B, G); rows are normalized on creation.

    Example:
        >>> grid = Grid(low=0.0, high=0.1, cells=1000)
        >>> normal = np.exp(-0.5 * ((grid.centers - 0.04) / 0.01) ** 2)
        >>> posterior = Posterior(grid, normal[None])
        >>> posterior.interval(0.68).round(4)
        array([[0.0301, 0.0499]])
    """

    grid: Grid
    density: np.ndarray

    def __post_init__(self) -> None:
        density = np.asarray(self.density, dtype=np.float64)
        integral = density.sum(axis=1, keepdims=True) * self.grid.width
        object.__setattr__(self, "density", density / integral)

    def __len__(self) -> int:
        return len(self.density)

    def __getitem__(self, rows: slice | np.ndarray) -> Posterior:
        return Posterior(self.grid, self.density[rows])

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Cumulative probability at each edge (B, G + 1), linear between edges."""
        sums = np.cumsum(self.density, axis=1) * self.grid.width
        return np.pad(sums / sums[:, -1:], ((0, 0), (1, 0)))

    @property
    def mean(self) -> np.ndarray:
        """Mean (B,), which minimizes the expected squared error."""
        mean: np.ndarray = self.density @ self.grid.centers * self.grid.width
        return mean

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (B,)."""
        squares = (self.grid.centers - self.mean[:, None]) ** 2
        return np.sqrt((self.density * squares).sum(axis=1) * self.grid.width)

    @property
    def median(self) -> np.ndarray:
        """Median (B,)."""
        return self.quantiles([0.5])[:, 0]

    def quantiles(self, levels: list[float]) -> np.ndarray:
        """Quantiles at L levels, (B, L)."""
        edges = self.grid.edges
        return np.stack([np.interp(levels, row, edges) for row in self.cumulative])

    def interval(self, level: float) -> np.ndarray:
        """Ends (B, 2) of the central credible interval of a level."""
        return self.quantiles([(1 - level) / 2, (1 + level) / 2])

    def pit(self, truth: np.ndarray) -> np.ndarray:
        """Probability integral transform (B,): the cumulative probability at the true mass.

        It is uniform if the posteriors are calibrated. Gneiting, Balabdaoui & Raftery (2007), J. R.
        Stat. Soc. B 69, 243, section 3.1.
        """
        cell, position = self._cells_of(truth)
        rows = np.arange(len(self))
        below, above = self.cumulative[rows, cell], self.cumulative[rows, cell + 1]
        return below + position * (above - below)

    def central_credibility(self, truth: np.ndarray) -> np.ndarray:
        """Credibility of the central interval that ends at the true mass (B,).

        The `interval` of every higher level contains the truth. It is uniform if the posteriors are
        calibrated.
        """
        credibility: np.ndarray = np.abs(2 * self.pit(truth) - 1)
        return credibility

    def log_density(self, truth: np.ndarray) -> np.ndarray:
        """Logarithm of the density at the true masses (B,), linear between centers of cells.

        Outside the grid it is the logarithm of the smallest number in single precision.
        """
        place = (truth - self.grid.low) / self.grid.width - 0.5
        left = np.clip(np.floor(place), 0, self.grid.cells - 2).astype(int)
        weight, rows = np.clip(place - left, 0, 1), np.arange(len(self))
        density = (1 - weight) * self.density[rows, left] + weight * self.density[rows, left + 1]
        outside = (truth < self.grid.low) | (truth > self.grid.high)
        return np.log(np.maximum(np.where(outside, 0, density), MIN_DENSITY))

    def highest_density_credibility(self, truth: np.ndarray) -> np.ndarray:
        """Credibility of the highest-density region that ends at the true mass (B,).

        It is the probability of masses with a higher density, and uniform if the posteriors are
        calibrated: Hermans et al. (2022), https://arxiv.org/abs/2110.06581, section 2.
        """
        denser = self.density > np.exp(self.log_density(truth))[:, None]
        credibility: np.ndarray = (self.density * denser).sum(axis=1) * self.grid.width
        return credibility

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Continuous ranked probability score (B,), in mass fractions; lower is better.

        It is the integral of the squared difference between the cumulative probability and a step
        at the true mass, exact on the grid: Gneiting & Raftery (2007), JASA 102, 359, equation 20.
        """
        width, (cell, position) = self.grid.width, self._cells_of(truth)
        rows = np.arange(len(self))
        low, high = self.cumulative[:, :-1], self.cumulative[:, 1:]
        before = np.pad(np.cumsum(_mean_square(low, high), axis=1), ((0, 0), (1, 0)))
        after = np.pad(np.cumsum(_mean_square(1 - low, 1 - high), axis=1), ((0, 0), (1, 0)))
        first, last = low[rows, cell], high[rows, cell]
        middle = first + position * (last - first)
        below = before[rows, cell] + position * _mean_square(first, middle)
        above = after[:, -1] - after[rows, cell] - position * _mean_square(1 - first, 1 - middle)
        nearest = np.clip(truth, self.grid.low, self.grid.high)
        return width * (below + above) + np.abs(truth - nearest)

    def on_grid(self, grid: Grid) -> Posterior:
        """Return the posteriors on another grid, normalized within its ends."""
        if grid == self.grid:
            return self
        edges, wanted = self.grid.edges, grid.edges
        cumulative = np.stack([np.interp(wanted, edges, row) for row in self.cumulative])
        return Posterior(grid, np.diff(cumulative, axis=1) / grid.width)

    def _cells_of(self, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cell of each true mass (B,), and its position in the cell from 0 to 1 (B,)."""
        place = np.clip((truth - self.grid.low) / self.grid.width, 0, self.grid.cells)
        cell = np.minimum(place.astype(int), self.grid.cells - 1)
        return cell, place - cell


def _mean_square(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Mean of the square of a linear function between two values."""
    return (low * low + low * high + high * high) / 3


def common_grid(grids: list[Grid]) -> Grid:
    """Return a grid that covers all given grids and is as fine as the finest."""
    if all(grid == grids[0] for grid in grids):
        return grids[0]
    low, high = min(g.low for g in grids), max(g.high for g in grids)
    width = min(g.width for g in grids)
    return Grid(low=low, high=high, cells=int(np.ceil((high - low) / width - 1e-9)))
