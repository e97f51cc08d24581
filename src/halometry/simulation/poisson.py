"""Poisson counts of arrays of different rates, drawn from tables with Walker's alias method.

The sum of Poisson variables is a Poisson variable. A rate is split into its digits in base 16, such
as 0x1A3.8 = 0x100 + 0xA0 + 0x3.8, and a remainder below 1/16. The count is the sum of independent
counts of these rates. The first three are drawn from tables with few rows. The last is almost
always 0. In the alias method, the upper bits of a random word select a cell of the table, and the
lower bits select one of the two counts in the cell. NumPy operations on whole arrays take a
fraction of the time of a loop over pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

FINE_STEP = 1 / 16  # of the rates in the finest table
COARSE_STEPS = (16.0, 256.0)  # of the rates in the two coarser tables
MAX_TABULATED_RATE = 4096.0  # from here on counts are drawn by NumPy
# By the step of a table; the probability of all counts without a cell is below 1e-12.
CELLS_PER_ROW = {256.0: 2048, 16.0: 512, FINE_STEP: 64}
WORD_BITS = 32  # of a random word


@dataclass(frozen=True)
class AliasTable:
    """Table of Walker's alias method (Vose 1991); each row is a discrete distribution.

    Attributes:
        bits: binary logarithm of the number of cells in a row.
        threshold: thresholds of the cells (rows * cells,), uint32; a random word whose lower bits
            are below the threshold selects the cell's first count, otherwise its second.
        counts: second and first count of each cell (rows * cells * 2,).
    """

    bits: int
    threshold: np.ndarray
    counts: np.ndarray

    def draw(self, row: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return one count, float32, for each pair of a row and a random word."""
        cell = row.astype(np.int64) << self.bits
        cell |= words >> np.uint32(WORD_BITS - self.bits)
        first = (words << np.uint32(self.bits)) < self.threshold.take(cell)
        cell <<= 1
        cell |= first
        return self.counts.take(cell)


@lru_cache(maxsize=len(CELLS_PER_ROW))
def alias_table(step: float) -> AliasTable:
    """Return the table of the rates 0, `step`, 2 `step`, ...

    The finest table has 256 rates, the others 16.
    """
    cells = CELLS_PER_ROW[step]
    rates = np.arange(256 if step == FINE_STEP else 16) * step
    lowest = np.maximum(0, np.round(rates) - cells // 2)
    counts = lowest[:, None] + np.arange(cells)
    probability = stats.poisson.pmf(counts, rates[:, None])
    probability *= cells / probability.sum(axis=1, keepdims=True)
    threshold, alias = np.ones(probability.shape), np.tile(np.arange(cells), (len(rates), 1))
    for row in range(len(rates)):
        _pair_cells(probability[row], threshold[row], alias[row])
    pairs = np.stack([np.take_along_axis(counts, alias, axis=1), counts], axis=-1)
    bits = cells.bit_length() - 1
    # The lower bits of a word have no finer resolution.
    scaled = np.round(threshold * 2 ** (WORD_BITS - bits)) * cells
    scaled = np.minimum(scaled, 2**WORD_BITS - 1).astype(np.uint32)
    return AliasTable(bits, scaled.ravel(), pairs.astype(np.float32).ravel())


def _pair_cells(probability: np.ndarray, threshold: np.ndarray, alias: np.ndarray) -> None:
    """Fill each cell of a row to 1 with the surplus of another cell, in place (Vose 1991)."""
    remaining = probability.tolist()
    small = [i for i, value in enumerate(remaining) if value < 1]
    large = [i for i, value in enumerate(remaining) if value >= 1]
    while small and large:
        low, high = small.pop(), large[-1]
        threshold[low], alias[low] = remaining[low], high
        remaining[high] -= 1 - remaining[low]
        if remaining[high] < 1:
            small.append(large.pop())


def draw_poisson(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a Poisson count for each rate.

    The distribution is exact to a total variation distance of 1e-7: fewer than 1e13 pixels of one
    rate cannot show the difference. Counts above 2^24 are rounded to float32.

    Args:
        rates: expected counts, float32, of any shape; finite and not negative.
        rng: random number generator.

    Returns:
        Integer counts, float32, of the shape of `rates`.

    Example:
        >>> draw_poisson(np.float32([0, 3.7, 300]), np.random.default_rng(0))
        array([  0.,   4., 288.], dtype=float32)
    """
    flat = rates.ravel()
    brightest = flat.max(initial=0)
    if brightest >= MAX_TABULATED_RATE:
        high = flat >= MAX_TABULATED_RATE
        counts = draw_poisson(np.where(high, np.float32(0), flat), rng)
        counts[high] = rng.poisson(flat[high])
        return counts.reshape(rates.shape)
    words = random_words(rng, 2 * flat.size)
    sixteenths = flat * np.float32(1 / FINE_STEP)
    whole = sixteenths.astype(np.int32)
    counts = alias_table(FINE_STEP).draw(whole & 255, words[: flat.size])
    _add_remainder(counts, sixteenths - whole.astype(np.float32), words[flat.size :])
    if brightest >= COARSE_STEPS[0]:
        _add_coarse(counts, whole, rng)
    return counts.reshape(rates.shape)


def random_words(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw independent uniform integers of 32 bits, uint32 (size,)."""
    raw: np.ndarray = rng.bit_generator.random_raw((size + 1) // 2)
    return raw.astype("<u8", copy=False).view("<u4")[:size]


def _add_remainder(counts: np.ndarray, remainder: np.ndarray, words: np.ndarray) -> None:
    """Add counts of the rates `remainder` * FINE_STEP in place, by inversion; almost all are 0."""
    # A count above 0 is at most as probable as its rate: few pixels need an exponential.
    pixels = np.flatnonzero(
        words <= (remainder * np.float32(FINE_STEP * 2.0**WORD_BITS)).astype(np.uint32)
    )
    rate = remainder[pixels] * FINE_STEP
    uniform = (words[pixels] + 0.5) / 2.0**WORD_BITS
    # Probabilities of a count of n and of a count above n.
    p_count, p_above = np.exp(-rate), -np.expm1(-rate)
    for n in range(1, 10):  # a count of 10 has a probability of 1e-19
        larger = uniform < p_above
        pixels, rate, uniform = pixels[larger], rate[larger], uniform[larger]
        if not pixels.size:
            return
        counts[pixels] += 1
        p_count = p_count[larger] * rate / n
        p_above = p_above[larger] - p_count


def _add_coarse(counts: np.ndarray, sixteenths: np.ndarray, rng: np.random.Generator) -> None:
    """Add the counts of the two upper hexadecimal digits of the rates, in place."""
    for step in COARSE_STEPS:
        unit = int(step / FINE_STEP)
        pixels = np.flatnonzero(sixteenths >= unit)
        # Where most pixels need a count, drawing for all is faster than selecting.
        needed = pixels if pixels.size < counts.size / 2 else slice(None)
        digit = (sixteenths[needed] >> (unit.bit_length() - 1)) & 15
        counts[needed] += alias_table(step).draw(digit, random_words(rng, digit.size))
