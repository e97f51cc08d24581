"""What a network expected before it saw an image: how its training set was labeled."""

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
from halometry.runs.exported import SUFFIX
from halometry.runs.open import open_run
from halometry.runs.run import is_run_folder
from halometry.runs.training_data import DRAWN, labels_of_preset, labels_of_run
from halometry.simulation import list_presets, load_preset

COLUMNS = ("f_sub", "truth")  # of a CSV file of masses
Labels = tuple[np.ndarray, tuple[str, ...] | None]  # with class names, where they are indices


def class_shares(
    prior: str | Path | Mapping[str, float] | None, names: tuple[str, ...]
) -> tuple[np.ndarray, str]:
    """The share of each class among the training images (K,), and where it is from.

    Args:
        prior: `a=1,b=2` or a mapping with a number for each class, which need not add up to one;
            or whatever `labels_of` takes; None for equal shares.
        names: of the classes.

    Raises:
        UsageError, DataError: a class is missing, or has no images.

    Example:
        >>> class_shares("no=1,vort=3", ("no", "vort"))
        (array([0.25, 0.75]), 'no 25 %, vort 75 %')
    """
    if prior is None:
        return np.full(len(names), 1 / len(names)), "equal shares"
    if isinstance(prior, str) and "=" in prior:
        prior = _pairs(prior)
    if isinstance(prior, Mapping):
        shares, of = _ordered(prior, names), ""
    else:
        labels, known = labels_of(prior)
        if known is None:
            raise UsageError(f"--prior {prior}: is for masses; these are classes")
        counts = np.bincount(labels.astype(int), minlength=len(known))
        shares, of = _ordered(dict(zip(known, counts, strict=True)), names), f"{prior}: "
    shares = shares / shares.sum()
    parts = (f"{name} {100 * share:.3g} %" for name, share in zip(names, shares, strict=True))
    return shares, of + ", ".join(parts)


def mass_labels(prior: str | Path) -> tuple[np.ndarray, str]:
    """The training set's mass fractions (n,), and where they are from.

    Raises:
        UsageError, DataError: it is of classes, or cannot be read.
    """
    labels, known = labels_of(prior)
    if known is not None:
        raise UsageError(f"--prior {prior}: is for classes; these are masses")
    told = f"{prior}: {len(labels):,} masses, mean {labels.mean():.4g}, spread {labels.std():.3g}"
    return labels, told


def labels_of(prior: str | Path) -> Labels:
    """How a training set was labeled.

    Args:
        prior: a run, exported or not, or its name, or several with commas between them; a preset;
            a labeled set; or a CSV file of masses with a column `f_sub`.

    Raises:
        UsageError: it is none of these.
        DataError, RunError: it is, and cannot be used.
    """
    name, path = str(prior), Path(prior)
    if path.suffix == ".csv":
        return _column(path), None
    if all(map(_is_run, [name] if path.exists() else name.split(SEPARATOR))):
        run = open_run(name)
        return labels_of_run(run), run.config.class_names
    if name in list_presets() or is_user_file(path):
        preset = load_preset(prior)
        return labels_of_preset(preset, 0, DRAWN), preset.class_names
    if is_store(path):
        with open_store(path) as file:
            kept = read_attributes(file).get("class_names")
            return file["labels"][:], tuple(kept) if kept else None
    if path.exists():
        data = open_dataset(path)
        return data.labels, data.class_names
    hint = did_you_mean(name, [*list_presets(), *list_weights()])
    raise UsageError(f"--prior {name}: is no run, preset, labeled set or CSV file; {hint}")


def _is_run(name: str) -> bool:
    """Whether this seems to be a run: by its address, its file, its name, or its folder."""
    name, path = name.strip(), Path(name.strip())
    is_file = path.suffix == SUFFIX or is_run_folder(path)
    return is_file or hub.is_address(name) or name in list_weights()


def _pairs(text: str) -> dict[str, float]:
    shares = {}
    for pair in text.split(","):
        name, _, number = pair.partition("=")
        try:
            shares[name.strip()] = float(number)
        except ValueError:
            raise UsageError(f"--prior {text}: write it as no=1,sphere=1,vort=1") from None
    return shares


def _ordered(shares: Mapping[str, float], names: tuple[str, ...]) -> np.ndarray:
    """The shares in the order of the classes, each above zero."""
    if set(shares) != set(names):
        given, wanted = ", ".join(shares), ", ".join(names)
        raise UsageError(f"--prior: has classes {given}; the predictions have {wanted}")
    for name in names:
        if not 0 < shares[name] < np.inf:
            raise UsageError(f"--prior: the share of '{name}' is {shares[name]:g}, not above zero")
    return np.array([shares[name] for name in names], dtype=float)


def _column(path: Path) -> np.ndarray:
    """The masses in a CSV file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        column = next(name for name in COLUMNS if rows and name in rows[0])
        masses = np.array([float(row[column]) for row in rows if row[column]])
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except StopIteration:
        raise DataError(f"{path}: has no column f_sub, with the training set's masses") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; its column of masses must hold numbers") from None
    return masses
