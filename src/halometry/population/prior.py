"""Distribution of the labels of a training set: the prior of a network's predictions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from halometry import hub
from halometry.datasets.open import open_dataset
from halometry.datasets.store import is_store, open_store, read_attributes
from halometry.errors import DataError, UsageError, did_you_mean
from halometry.resources import is_user_file, list_weights
from halometry.runs.ensemble import SEPARATOR
from halometry.runs.exported import ONNX_SUFFIX
from halometry.runs.open import open_run
from halometry.runs.run import is_run_folder
from halometry.runs.training_data import MAX_DRAWN_LABELS, labels_of_preset, labels_of_run
from halometry.simulation import list_presets, load_preset

MASS_COLUMNS = ("true", "f_sub")  # of a CSV file of masses; the first that it has
Labels = tuple[np.ndarray, tuple[str, ...] | None]  # with class names if they are class indices


def prior_class_fractions(
    prior: str | Path | Mapping[str, float] | None, names: tuple[str, ...]
) -> tuple[np.ndarray, str]:
    """Return the fraction of each class in a training set (K,), and a description of it.

    Args:
        prior: `a=1,b=2`, or a mapping with a number for each class; the numbers need not add up
            to one. Or a training set, as in `training_labels`. None: equal fractions.
        names: of the classes.

    Raises:
        UsageError, DataError: a class is missing or has no images.

    Example:
        >>> prior_class_fractions("no=1,vort=3", ("no", "vort"))
        (array([0.25, 0.75]), 'no 25 %, vort 75 %')
    """
    if prior is None:
        return np.full(len(names), 1 / len(names)), "equal fractions"
    if isinstance(prior, str) and "=" in prior:
        prior = _parse_pairs(prior)
    if isinstance(prior, Mapping):
        fractions, source = _in_order(prior, names), ""
    else:
        labels, class_names = training_labels(prior)
        if class_names is None:
            raise UsageError(f"--prior {prior}: has masses, but the predictions are of classes")
        counts = np.bincount(labels.astype(int), minlength=len(class_names))
        fractions = _in_order(dict(zip(class_names, counts, strict=True)), names)
        source = f"{prior}: "
    fractions = fractions / fractions.sum()
    percent = (f"{name} {100 * part:.3g} %" for name, part in zip(names, fractions, strict=True))
    return fractions, source + ", ".join(percent)


def prior_masses(prior: str | Path) -> tuple[np.ndarray, str]:
    """Return the mass fractions of a training set (n,), and a description of them.

    Raises:
        UsageError, DataError: the training set has classes, or cannot be read.
    """
    labels, class_names = training_labels(prior)
    if class_names is not None:
        raise UsageError(f"--prior {prior}: has classes, but the predictions are of masses")
    description = (
        f"{prior}: {len(labels):,} masses, mean {labels.mean():.4g}, std {labels.std():.3g}"
    )
    return labels, description


def training_labels(prior: str | Path) -> Labels:
    """Return the labels of a training set.

    Args:
        prior: a run, exported or not, or its name, or several separated by commas; a preset; a
            labeled dataset; or a CSV file of masses with a column `f_sub`.

    Raises:
        UsageError: it is none of these.
        DataError, RunError: it is one of these, but cannot be used.
    """
    name, path = str(prior), Path(prior)
    if path.suffix == ".csv":
        return _read_masses(path), None
    if all(map(_is_run, [name] if path.exists() else name.split(SEPARATOR))):
        run = open_run(name)
        return labels_of_run(run), run.config.class_names
    if name in list_presets() or is_user_file(path):
        preset = load_preset(prior)
        return labels_of_preset(preset, 0, MAX_DRAWN_LABELS), preset.class_names
    if is_store(path):
        with open_store(path) as file:
            class_names = read_attributes(file).get("class_names")
            return file["labels"][:], tuple(class_names) if class_names else None
    if path.exists():
        data = open_dataset(path)
        return data.labels, data.class_names
    hint = did_you_mean(name, [*list_presets(), *list_weights()])
    raise UsageError(f"--prior {name}: is not a run, preset, labeled dataset or CSV file; {hint}")


def _is_run(name: str) -> bool:
    """Whether this looks like a run: an address, an ONNX file, a run folder, or a known name."""
    name, path = name.strip(), Path(name.strip())
    is_file = path.suffix == ONNX_SUFFIX or is_run_folder(path)
    return is_file or hub.is_address(name) or name in list_weights()


def _parse_pairs(text: str) -> dict[str, float]:
    fractions = {}
    for pair in text.split(","):
        name, _, number = pair.partition("=")
        try:
            fractions[name.strip()] = float(number)
        except ValueError:
            raise UsageError(f"--prior {text}: write it as no=1,sphere=1,vort=1") from None
    return fractions


def _in_order(fractions: Mapping[str, float], names: tuple[str, ...]) -> np.ndarray:
    """The fractions in the order of the classes; all must be above zero."""
    if set(fractions) != set(names):
        given, expected = ", ".join(fractions), ", ".join(names)
        raise UsageError(f"--prior: has classes {given}; the predictions have {expected}")
    for name in names:
        if not 0 < fractions[name] < np.inf:
            raise UsageError(
                f"--prior: the fraction of '{name}' is {fractions[name]:g}; it must be above zero"
            )
    return np.array([fractions[name] for name in names], dtype=float)


def _read_masses(path: Path) -> np.ndarray:
    """The masses in a CSV file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        column = next(name for name in MASS_COLUMNS if rows and name in rows[0])
        return np.array([float(row[column]) for row in rows if row[column]])
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except StopIteration:
        raise DataError(
            f"{path}: has no column f_sub with the masses of the training set"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; its column of masses must hold numbers") from None
