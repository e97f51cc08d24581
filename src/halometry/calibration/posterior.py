"""What an image says of its mass: the probability density of each mass fraction, on a grid.

Whatever made it, a Gaussian, a normalizing flow, the mean over an image's symmetric forms or over
the runs of an ensemble, a posterior here is one row of numbers, and all that is asked of it is a
plain function of that row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field

from halometry.config import StrictModel

CELLS = 512
MARGIN = 0.5  # of the labels' range, on either side
SMALLEST_DENSITY = float(np.finfo(np.float32).tiny)  # below it a density counts as this
LEVELS = {"68": 0.68, "95": 0.95}  # of the intervals that are told


class Grid(StrictModel):
    """Cells of equal width, on each of which a density is constant.

    Attributes:
        low, high: the outer edges, mass fractions.
        cells: G.

    Example:
        >>> Grid(low=0.0, high=0.1, cells=4).centers
        array([0.0125, 0.0375, 0.0625, 0.0875])
    """

    low: float
    high: float
    cells: int = Field(default=CELLS, ge=2, le=65536)

    @classmethod
    def around(cls, labels: np.ndarray) -> Grid:
        """A grid that reaches beyond some labels (N,), but below zero only if one of them does."""
        low, high = float(labels.min()), float(labels.max())
        margin = MARGIN * (high - low)
        return cls(low=low - margin if low < 0 else max(0.0, low - margin), high=high + margin)

    @property
    def width(self) -> float:
        """Of a cell."""
        return (self.high - self.low) / self.cells

    @property
    def edges(self) -> np.ndarray:
        """Of the cells (G + 1,)."""
        return np.linspace(self.low, self.high, self.cells + 1)

    @property
    def centers(self) -> np.ndarray:
        """Of the cells (G,)."""
        edges = self.edges
        return (edges[1:] + edges[:-1]) / 2


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posteriors of the masses in B images.

    Attributes:
        grid: of mass fractions.
        density: (B, G), for a mass fraction of one; each row is divided by its integral.

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
        whole = density.sum(axis=1, keepdims=True) * self.grid.width
        object.__setattr__(self, "density", density / whole)

    def __len__(self) -> int:
        return len(self.density)

    def __getitem__(self, rows: slice | np.ndarray) -> Posterior:
        return Posterior(self.grid, self.density[rows])

    @cached_property
    def cumulative(self) -> np.ndarray:
        """The probability of a mass below each edge (B, G + 1); straight between edges."""
        sums = np.cumsum(self.density, axis=1) * self.grid.width
        return np.pad(sums / sums[:, -1:], ((0, 0), (1, 0)))

    @property
    def mean(self) -> np.ndarray:
        """(B,), the answer with the smallest expected squared error."""
        mean: np.ndarray = self.density @ self.grid.centers * self.grid.width
        return mean

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (B,)."""
        squares = (self.grid.centers - self.mean[:, None]) ** 2
        return np.sqrt((self.density * squares).sum(axis=1) * self.grid.width)

    @property
    def median(self) -> np.ndarray:
        """(B,)."""
        return self.quantiles([0.5])[:, 0]

    def quantiles(self, levels: list[float]) -> np.ndarray:
        """The masses below which the probability is as given, (B, L)."""
        edges = self.grid.edges
        return np.stack([np.interp(levels, row, edges) for row in self.cumulative])

    def interval(self, level: float) -> np.ndarray:
        """The ends (B, 2) between which the mass lies with a probability, as likely beyond each."""
        return self.quantiles([(1 - level) / 2, (1 + level) / 2])

    def pit(self, truth: np.ndarray) -> np.ndarray:
        """The probability of a mass below the true one (B,): uniform if posteriors are right.

        It is the probability integral transform: Gneiting, Balabdaoui & Raftery (2007), J. R.
        Stat. Soc. B 69, 243, section 3.1.
        """
        cell, share = self._located(truth)
        rows = np.arange(len(self))
        below, above = self.cumulative[rows, cell], self.cumulative[rows, cell + 1]
        return below + share * (above - below)

    def centrality(self, truth: np.ndarray) -> np.ndarray:
        """The credibility of the central interval that ends at the true mass (B,).

        `interval` of any level above it holds the truth: uniform if posteriors are right.
        """
        off: np.ndarray = np.abs(2 * self.pit(truth) - 1)
        return off

    def log_density(self, truth: np.ndarray) -> np.ndarray:
        """The logarithm of the density at the true masses (B,), straight between cells' centers.

        It has no end but that of single precision: a truth outside the grid counts as that.
        """
        place = (truth - self.grid.low) / self.grid.width - 0.5
        left = np.clip(np.floor(place), 0, self.grid.cells - 2).astype(int)
        share, rows = np.clip(place - left, 0, 1), np.arange(len(self))
        density = (1 - share) * self.density[rows, left] + share * self.density[rows, left + 1]
        outside = (truth < self.grid.low) | (truth > self.grid.high)
        return np.log(np.maximum(np.where(outside, 0, density), SMALLEST_DENSITY))

    def credibility(self, truth: np.ndarray) -> np.ndarray:
        """The probability of masses likelier than the true one (B,).

        The truth lies in the region of highest density of any level above it: uniform if
        posteriors are right, Hermans et al. (2022), https://arxiv.org/abs/2110.06581, section 2.
        """
        likelier = self.density > np.exp(self.log_density(truth))[:, None]
        share: np.ndarray = (self.density * likelier).sum(axis=1) * self.grid.width
        return share

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """The continuous ranked probability score (B,), in mass fractions; lower is better.

        The integral of the squared difference between the cumulative probability and a step at
        the true mass, exact on the grid: Gneiting & Raftery (2007), JASA 102, 359, equation 20.
        """
        width, (cell, share) = self.grid.width, self._located(truth)
        rows = np.arange(len(self))
        low, high = self.cumulative[:, :-1], self.cumulative[:, 1:]
        before = np.pad(np.cumsum(_square(low, high), axis=1), ((0, 0), (1, 0)))
        after = np.pad(np.cumsum(_square(1 - low, 1 - high), axis=1), ((0, 0), (1, 0)))
        first, last = low[rows, cell], high[rows, cell]
        there = first + share * (last - first)
        below = before[rows, cell] + share * _square(first, there)
        beyond = after[:, -1] - after[rows, cell] - share * _square(1 - first, 1 - there)
        nearest = np.clip(truth, self.grid.low, self.grid.high)
        return width * (below + beyond) + np.abs(truth - nearest)

    def on(self, grid: Grid) -> Posterior:
        """The same posteriors on another grid; what lies beyond its ends is left out."""
        if grid == self.grid:
            return self
        edges, wanted = self.grid.edges, grid.edges
        cumulative = np.stack([np.interp(wanted, edges, row) for row in self.cumulative])
        return Posterior(grid, np.diff(cumulative, axis=1) / grid.width)

    def _located(self, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cells that true masses lie in (B,), and which share of them lies below."""
        place = np.clip((truth - self.grid.low) / self.grid.width, 0, self.grid.cells)
        cell = np.minimum(place.astype(int), self.grid.cells - 1)
        return cell, place - cell


def _square(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The mean of the square of what goes straight from one value to another."""
    return (low * low + low * high + high * high) / 3


def common_grid(grids: list[Grid]) -> Grid:
    """A grid as wide as the widest of some and as fine as the finest."""
    if all(grid == grids[0] for grid in grids):
        return grids[0]
    low, high = min(g.low for g in grids), max(g.high for g in grids)
    width = min(g.width for g in grids)
    return Grid(low=low, high=high, cells=int(np.ceil((high - low) / width - 1e-9)))
