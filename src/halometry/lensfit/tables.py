"""Fits as tables: on the terminal, in CSV, in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from halometry import __version__
from halometry.errors import ReadError
from halometry.io import write_table, write_text
from halometry.lensfit import Fit, FittedParameter

Fitted = Fit | ReadError

QUALITY = ("reduced_chi_square", "scatter", "gain", "converged", "counts", "seconds", "doubt")
SHOWN_ERRORS = 5  # of files that could not be fitted


def write_fits(folder: Path, answers: Sequence[Fitted]) -> None:
    """Write `fits.csv`, a row a file, and `fits.json`, with all that is known but the images.

    Raises:
        StorageError: no room or no permission.
    """
    fits = [answer for answer in answers if isinstance(answer, Fit)]
    names = list(dict.fromkeys(e.name for one in fits for e in one.estimates))
    parameters = [column for name in names for column in (name, f"{name}_error")]
    columns = ["file", *QUALITY, *parameters, "error"]
    write_table(folder / "fits.csv", "fits", columns, map(_row, answers))
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "fits": [_record(answer) for answer in answers],
    }
    write_text(folder / "fits.json", json.dumps(record, indent=1) + "\n")


def print_fits(answers: Sequence[Fitted], console: Console) -> int:
    """Print one fit in full, or a line for each of many.

    Returns:
        How many files were fitted.
    """
    fits = [answer for answer in answers if isinstance(answer, Fit)]
    bad = [answer for answer in answers if isinstance(answer, ReadError)]
    if len(fits) == 1:
        _print_one(fits[0], console)
    elif fits:
        _print_many(fits, console)
    for error in bad[:SHOWN_ERRORS]:
        console.print(f"not fitted: {error}", markup=False, soft_wrap=True)
    if len(bad) > SHOWN_ERRORS:
        left = len(bad) - SHOWN_ERRORS
        console.print(f"... and {left} more; see the column 'error'", markup=False)
    return len(fits)


def _row(answer: Fitted) -> dict[str, str]:
    if isinstance(answer, ReadError):
        return {"file": answer.path, "error": answer.reason}
    cells = {
        "file": answer.file,
        "reduced_chi_square": f"{answer.reduced_chi_square:.4f}",
        "scatter": f"{answer.scatter:.4f}",
        "gain": f"{answer.taken.gain:.2f}",
        "converged": str(answer.converged).lower(),
        "counts": str(answer.counts).lower(),
        "seconds": f"{answer.taken.seconds:.2f}",
        "doubt": answer.doubt,
    }
    for e in answer.estimates:
        cells |= {e.name: f"{e.value:.7g}", f"{e.name}_error": f"{e.error:.3g}"}
    return cells


def _record(answer: Fitted) -> dict[str, object]:
    if isinstance(answer, ReadError):
        return {"file": answer.path, "error": answer.reason}
    return answer.record()


def _print_one(fit: Fit, console: Console) -> None:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=escape(fit.file), title_justify="left"
    )
    table.add_column("parameter", no_wrap=True)
    for heading in ("value", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit")
    for e in fit.estimates:
        table.add_row(e.name, *_rounded(e), e.unit)
    console.print(table)
    if fit.doubt:
        console.print(f"doubtful: {fit.doubt}", markup=False, soft_wrap=True)
    for what, words in _quality(fit).items():
        console.print(f"{what}: {words}", markup=False, soft_wrap=True)


def _print_many(fits: Sequence[Fit], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("file")
    last = "mass_fraction" if any(fit.sampled is not None for fit in fits) else "shear"
    for heading in ("reduced χ²", "gain", 'Einstein radius (")', last.replace("_", " "), "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for fit in fits:
        told = {e.name: " ± ".join(_rounded(e)) for e in fit.estimates}
        table.add_row(
            escape(fit.file),
            f"{fit.reduced_chi_square:.3f}",
            f"{fit.taken.gain:.1f}",
            told.get("einstein_radius", ""),
            told.get(last, ""),
            f"{fit.taken.seconds:.1f}",
        )
    console.print(table)
    if doubtful := [fit for fit in fits if fit.doubt]:
        console.print(
            f"doubtful: {len(doubtful)}; see the column 'doubt' in fits.csv", markup=False
        )


def _rounded(e: FittedParameter) -> tuple[str, str]:
    """Value and error to two digits of the error."""
    if not e.error > 0 or e.error == float("inf"):
        return f"{e.value:.4g}", f"{e.error:.2g}"
    digits = max(0, 1 - math.floor(math.log10(e.error)))
    return f"{e.value:.{digits}f}", f"{e.error:.{digits}f}"


def _quality(fit: Fit) -> dict[str, str]:
    """How good a fit is, in words."""
    taken = fit.taken
    words = {
        "reduced chi-square": f"{fit.reduced_chi_square:.4f}"
        f" (1 ± {fit.scatter:.4f} where the model is true)",
    }
    if not fit.counts:
        words["noise"] = "estimated from the image, for its law is not known; errors are rough"
    if len(taken.gains) == 1:
        words["gain in 2 ln L"] = f"{taken.gain:.1f}"
    elif taken.gains:
        each = ", ".join(f"{gain:.1f}" for gain in taken.gains)
        words["gain in 2 ln L"] = f"{taken.gain:.1f} ({each})"
    if fit.sampled is not None:
        told = fit.sampled.record()["mass_fraction"]
        words["mass fraction"] = (
            f"{told['median']:.4f}, 68 % within {told['low_68']:.4f} to {told['high_68']:.4f},"
            f" 95 % within {told['low_95']:.4f} to {told['high_95']:.4f}"
        )
    return words | {"seconds": f"{taken.seconds:.1f}"}
