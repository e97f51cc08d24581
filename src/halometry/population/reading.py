"""The answers of `predict`, read back: probabilities of classes, or quantiles of masses."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halometry.errors import DataError

MASS, MEDIAN = "f_sub", "median"  # as `predict` and `evaluate` call it
QUANTILES = ("low_95", "low_68", MASS, "high_68", "high_95")  # of a mass, rising
UNUSUAL = "unusual"  # where there is a word in it, the image is unlike the training set
FOLLOWING = ("familiarity", UNUSUAL, "error")  # columns that are no classes
ROUNDING = 1e-3  # of probabilities that add up to one


@dataclass(frozen=True)
class Answers:
    """What a network said of lenses.

    Attributes:
        names: of the classes; None of masses.
        values: probabilities (N, K), or quantiles of the mass (N, 5), as `QUANTILES`.
        left_out: rows without an answer.
        unusual: how many of the lenses are marked as unlike the training set.
    """

    names: tuple[str, ...] | None
    values: np.ndarray
    left_out: int
    unusual: int


def read_answers(path: Path) -> Answers:
    """Read a CSV file that `predict` or `evaluate` wrote.

    Raises:
        DataError: it is none, or holds no posteriors; the row and column are named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file ({error})") from error
    if MASS in header or MEDIAN in header:
        return _masses(path, header, rows)
    before = next((name for name in ("class", "truth") if name in header), None)
    if before is None:
        raise DataError(
            f"{path}: has neither a column 'class' nor '{MASS}'; give a file that"
            " 'halometry predict' wrote"
        )
    return _classes(path, header, rows, header.index(before) + 1)


def _masses(path: Path, header: list[str], rows: list[list[str]]) -> Answers:
    columns = [MEDIAN if name not in header and name == MASS else name for name in QUANTILES]
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(
            f"{path}: has masses without intervals ({', '.join(missing)} missing); only a run whose"
            " head gives posteriors tells of a population"
        )
    values = _numbers(path, header, rows, [header.index(name) for name in columns])
    answered = ~np.isnan(values).all(axis=1)
    bad = answered & ~(np.diff(values, axis=1) > 0).all(axis=1)
    if bad.any():
        line = int(np.flatnonzero(bad)[0]) + 2
        raise DataError(f"{path}: line {line}: its median and intervals are not in rising order")
    return _answered(path, None, values, answered, _unusual(header, rows))


def _classes(path: Path, header: list[str], rows: list[list[str]], first: int) -> Answers:
    """The columns that are probabilities of classes: those that add up to one."""
    if not any(row[first - 1] for row in rows):  # errors alone
        raise DataError(f"{path}: none of its rows has an answer")
    wanted: list[int] = []
    total = np.zeros(len(rows))
    for column in range(first, len(header)):
        if header[column] in FOLLOWING:
            break
        try:
            one = _numbers(path, header, rows, [column])[:, 0]
        except DataError:
            break  # of words
        known = one[~np.isnan(one)]
        if not len(known) or (known < 0).any() or (total + one > 1 + ROUNDING).any():
            break
        total = total + one
        wanted.append(column)
    values = _numbers(path, header, rows, wanted)
    answered = ~np.isnan(values).all(axis=1)
    names = tuple(header[column] for column in wanted)
    bad = answered & ~(np.abs(values.sum(axis=1) - 1) <= ROUNDING)
    if len(names) < 2 or bad.any():
        where = f"line {int(np.flatnonzero(bad)[0]) + 2}: " if bad.any() else ""
        raise DataError(
            f"{path}: {where}the columns after '{header[first - 1]}' are no probabilities of"
            " classes, which add up to one"
        )
    return _answered(path, names, values, answered, _unusual(header, rows))


def _answered(
    path: Path,
    names: tuple[str, ...] | None,
    values: np.ndarray,
    answered: np.ndarray,
    unusual: np.ndarray,
) -> Answers:
    if not answered.any():
        raise DataError(f"{path}: none of its rows has an answer")
    return Answers(names, values[answered], int((~answered).sum()), int((unusual & answered).sum()))


def _unusual(header: list[str], rows: list[list[str]]) -> np.ndarray:
    """Which rows (N,) are marked as unlike the training set."""
    if UNUSUAL not in header:
        return np.zeros(len(rows), bool)
    column = header.index(UNUSUAL)
    return np.array([len(row) > column and row[column] != "" for row in rows], bool)


def _numbers(
    path: Path, header: list[str], rows: list[list[str]], columns: list[int]
) -> np.ndarray:
    """Numbers (N, k) of some columns; NaN where a cell is empty."""
    values = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = row[column] if column < len(row) else ""
            if cell == "":
                continue
            try:
                values[i, j] = float(cell)
            except ValueError:
                raise DataError(
                    f"{path}: line {i + 2}: '{cell}' in column '{header[column]}' is no number"
                ) from None
    return values
