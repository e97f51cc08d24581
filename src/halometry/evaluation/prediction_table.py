"""Reader of the prediction table; see `halometry.evaluation.predictions` for its columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halometry.errors import DataError, FormatError
from halometry.evaluation.predictions import PROBABILITY_PREFIX, QUANTILE_COLUMNS
from halometry.io import read_json

PROBABILITY_SUM_TOLERANCE = 1e-3
CONFORMAL_COLUMN = re.compile(r"conformal_(set|lo|hi)_(\d+(?:\.\d+)?)")


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Contents of a prediction table; NaN or an empty text where a cell is empty.

    Attributes:
        images: N paths.
        true: N true classes or mass fractions, as text; None without the column.
        true_masses: true mass fractions (N,); None without the column, and for classification.
        class_names: K names; None for regression.
        probabilities: (N, K); None for regression.
        f_sub: mass fractions (N,); None for classification.
        quantiles: quantiles of the mass fraction (N, 5) in rising order, see `QUANTILE_COLUMNS`;
            None without posteriors.
        prediction_sets: N conformal sets of classes; None without the column.
        conformal_intervals: conformal intervals of the mass fraction (N, 2); None without them.
        coverage: coverage of the sets or intervals, between 0 and 1; None without them.
        ood_p_values: (N,); None without the column.
        ood_reasons: N reasons, empty for images in distribution; None without the column.
        errors: N reasons why there is no prediction, empty where there is one.
    """

    images: list[str]
    true: list[str] | None
    true_masses: np.ndarray | None
    class_names: tuple[str, ...] | None
    probabilities: np.ndarray | None
    f_sub: np.ndarray | None
    quantiles: np.ndarray | None
    prediction_sets: list[tuple[str, ...]] | None
    conformal_intervals: np.ndarray | None
    coverage: float | None
    ood_p_values: np.ndarray | None
    ood_reasons: list[str] | None
    errors: list[str]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_prediction(self) -> np.ndarray:
        """Whether each row has a prediction, boolean (N,)."""
        if self.probabilities is not None:
            found: np.ndarray = ~np.isnan(self.probabilities).all(axis=1)
            return found
        assert self.f_sub is not None
        return ~np.isnan(self.f_sub)


def read_predictions(path: Path) -> PredictionTable:
    """Read a prediction table by the names of its columns.

    Raises:
        DataError: it is not a prediction table, or a cell is not valid; the message names the
            line and the column.
    """
    columns, count = _read_columns(path)
    _check_format(path)
    names = [name.removeprefix(PROBABILITY_PREFIX) for name in columns
             if name.startswith(PROBABILITY_PREFIX)]  # fmt: skip
    if "image" not in columns or not (names or "f_sub" in columns):
        raise DataError(
            f"{path}: has no columns 'image' and '{PROBABILITY_PREFIX}<class>' or 'f_sub'; give a"
            " file that 'halometry predict' or 'halometry evaluate' wrote"
        )

    def numbers(*wanted: str) -> np.ndarray | None:
        if not set(wanted) <= set(columns):
            return None
        return np.stack([_numbers(path, name, columns[name]) for name in wanted], axis=1)

    probabilities = numbers(*(PROBABILITY_PREFIX + name for name in names)) if names else None
    quantiles = None if names else numbers(*QUANTILE_COLUMNS)
    _check_probabilities(path, probabilities)
    _check_quantiles(path, quantiles)
    f_sub, p_values = (numbers(name) for name in ("f_sub", "ood_p_value"))
    true_masses = None if names else numbers("true")
    conformal = {m[1]: m[2] for m in map(CONFORMAL_COLUMN.fullmatch, columns) if m}
    percent = next(iter(conformal.values()), None)
    sets = columns.get(f"conformal_set_{percent}")
    return PredictionTable(
        images=columns["image"],
        true=columns.get("true"),
        true_masses=None if true_masses is None else true_masses[:, 0],
        class_names=tuple(names) or None,
        probabilities=probabilities,
        f_sub=None if names or f_sub is None else f_sub[:, 0],
        quantiles=quantiles,
        prediction_sets=[tuple(cell.split("|")) if cell else () for cell in sets] if sets else None,
        conformal_intervals=numbers(f"conformal_lo_{percent}", f"conformal_hi_{percent}"),
        coverage=None if percent is None else float(percent) / 100,
        ood_p_values=None if p_values is None else p_values[:, 0],
        ood_reasons=columns.get("ood_reason"),
        errors=columns.get("error", [""] * count),
    )


def _read_columns(path: Path) -> tuple[dict[str, list[str]], int]:
    """Cells of a CSV file by column, and the number of its rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file ({error})") from error
    columns: dict[str, list[str]] = {
        name: [row[k] if k < len(row) else "" for row in rows] for k, name in enumerate(header)
    }
    return columns, len(rows)


def _check_format(path: Path) -> None:
    """Check the format in the JSON file beside a table, if there is one."""
    header = path.with_name(f"{path.name}.json")
    if header.exists():
        try:
            read_json(header, "predictions")
        except FormatError as error:
            raise DataError(str(error)) from error


def _numbers(path: Path, column: str, cells: Sequence[Any]) -> np.ndarray:
    """Numbers (N,) of a column; NaN where a cell is empty."""
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell == "":
            continue
        try:
            values[i] = float(cell)
        except ValueError:
            raise DataError(
                f"{path}: line {i + 2}: '{cell}' in column '{column}' is not a number"
            ) from None
    return values


def _check_probabilities(path: Path, probabilities: np.ndarray | None) -> None:
    if probabilities is None:
        return
    given = ~np.isnan(probabilities).all(axis=1)
    valid = (probabilities >= 0).all(axis=1)
    valid &= np.abs(probabilities.sum(axis=1) - 1) <= PROBABILITY_SUM_TOLERANCE
    if (given & ~valid).any():
        line = int(np.flatnonzero(given & ~valid)[0]) + 2
        raise DataError(
            f"{path}: line {line}: the columns '{PROBABILITY_PREFIX}<class>' are not probabilities"
            " that add up to one"
        )


def _check_quantiles(path: Path, quantiles: np.ndarray | None) -> None:
    if quantiles is None:
        return
    given = ~np.isnan(quantiles).all(axis=1)
    rising = (np.diff(quantiles, axis=1) > 0).all(axis=1)
    if (given & ~rising).any():
        line = int(np.flatnonzero(given & ~rising)[0]) + 2
        raise DataError(
            f"{path}: line {line}: the columns {', '.join(QUANTILE_COLUMNS)} are not in rising"
            " order"
        )
