"""Poisson counts of many different rates, drawn from tables.

Poisson variables add. A rate is written in base 16, as 0x1A3.8 and a rest below 1/16, and its count
is the sum of independent ones of the rates 0x100, 0xA0, 0x3.8 and the rest: the first three from
tables of few rows, the last nearly always 0. Each table is looked up by Walker's alias method: one
draw chooses a cell, its other bits one of two counts. An array of NumPy operations does a whole
image in a fraction of the time of a loop over its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

FINE_STEP = 1 / 16  # of the finest table's rates
COARSE_STEPS = (16.0, 256.0)  # rates of the coarser tables are multiples of these
MAX_TABULATED_RATE = 4096.0  # rates from here on are NumPy's business
CELLS_PER_ROW = {
    256.0: 2048,
    16.0: 512,
    FINE_STEP: 64,
}  # of a row; enough that what is cut off is below 1e-12
WORD_BITS = 32  # bits of a draw


@dataclass(frozen=True)
class AliasTable:
    """Rows of a discrete distribution each, for Walker's alias method (Vose 1991).

    Attributes:
        bits: a row has 2^bits cells.
        threshold: (rows * cells,) of 32 bits; a draw whose lower bits are below it takes the
            cell's first count, otherwise its second.
        counts: (rows * cells * 2,) the second and the first count of every cell.
    """

    bits: int
    threshold: np.ndarray
    counts: np.ndarray

    def draw(self, row: np.ndarray, words: np.ndarray) -> np.ndarray:
        """One count for each row and random word of 32 bits, as float32."""
        cell = row.astype(np.int64) << self.bits
        cell |= words >> np.uint32(WORD_BITS - self.bits)
        first = (words << np.uint32(self.bits)) < self.threshold.take(cell)
        cell <<= 1
        cell |= first
        return self.counts.take(cell)


@lru_cache(maxsize=len(CELLS_PER_ROW))
def alias_table(step: float) -> AliasTable:
    """The table of the rates 0, `step`, 2 `step`, ... below 16 `step`, or 16 for the finest."""
    cells = CELLS_PER_ROW[step]
    rates = np.arange(256 if step == FINE_STEP else 16) * step
    lowest = np.maximum(0, np.round(rates) - cells // 2)
    counts = lowest[:, None] + np.arange(cells)
    share = stats.poisson.pmf(counts, rates[:, None])
    share *= cells / share.sum(axis=1, keepdims=True)
    threshold, alias = np.ones(share.shape), np.tile(np.arange(cells), (len(rates), 1))
    for row in range(len(rates)):
        _pair_cells(share[row], threshold[row], alias[row])
    pairs = np.stack([np.take_along_axis(counts, alias, axis=1), counts], axis=-1)
    bits = cells.bit_length() - 1
    scaled = (
        np.round(threshold * 2 ** (WORD_BITS - bits)) * cells
    )  # what a draw's lower bits can tell
    scaled = np.minimum(scaled, 2**WORD_BITS - 1).astype(np.uint32)
    return AliasTable(bits, scaled.ravel(), pairs.astype(np.float32).ravel())


def _pair_cells(share: np.ndarray, threshold: np.ndarray, alias: np.ndarray) -> None:
    """Fill every cell to 1 with the surplus of another, in place (Vose 1991)."""
    left = share.tolist()
    poor = [i for i, value in enumerate(left) if value < 1]
    rich = [i for i, value in enumerate(left) if value >= 1]
    while poor and rich:
        low, high = poor.pop(), rich[-1]
        threshold[low], alias[low] = left[low], high
        left[high] -= 1 - left[low]
        if left[high] < 1:
            poor.append(rich.pop())


def draw_poisson(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Poisson count for every rate.

    The distribution of each is exact to a total variation distance of 1e-7: fewer than 1e13
    pixels of one rate cannot tell. Counts above 2^24 are rounded as float32 are.

    Args:
        rates: expected counts, float32, any shape; finite and not negative.
        rng: where random bits come from.

    Returns:
        Whole counts as float32, of the shape of `rates`.

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
    """Independent uniform integers of 32 bits, uint32 (size,)."""
    raw: np.ndarray = rng.bit_generator.random_raw((size + 1) // 2)
    return raw.astype("<u8", copy=False).view("<u4")[:size]


def _add_remainder(counts: np.ndarray, rest: np.ndarray, words: np.ndarray) -> None:
    """Add counts of the rates `rest` * STEP, nearly all 0, by inversion."""
    # Above 0 is at most as probable as the rate: most pixels need no exponential.
    some = np.flatnonzero(
        words <= (rest * np.float32(FINE_STEP * 2.0**WORD_BITS)).astype(np.uint32)
    )
    rate = rest[some] * FINE_STEP
    uniform = (words[some] + 0.5) / 2.0**WORD_BITS
    chance, more = np.exp(-rate), -np.expm1(-rate)
    for n in range(1, 10):  # ten at once come once in 1e19
        above = uniform < more
        some, rate, uniform = some[above], rate[above], uniform[above]
        if not some.size:
            return
        counts[some] += 1
        chance = chance[above] * rate / n
        more = more[above] - chance


def _add_coarse(counts: np.ndarray, sixteenths: np.ndarray, rng: np.random.Generator) -> None:
    """Add counts of the rates' hexadecimal digits from the second on."""
    for step in COARSE_STEPS:
        one = int(step / FINE_STEP)
        some = np.flatnonzero(sixteenths >= one)
        # Where most need it, drawing for all is cheaper than picking.
        needed = some if some.size < counts.size / 2 else slice(None)
        digit = (sixteenths[needed] >> (one.bit_length() - 1)) & 15
        counts[needed] += alias_table(step).draw(digit, random_words(rng, digit.size))
