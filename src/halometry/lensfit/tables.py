"""Fits as tables: on the terminal, in CSV, in JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from halometry.errors import ReadError
from halometry.io import write_json, write_table
from halometry.lensfit import Fit, FittedParameter

FitResult = Fit | ReadError

QUALITY_COLUMNS = (
    "reduced_chi2",
    "reduced_chi2_std",
    "delta_2lnL",
    "converged",
    "is_counts",
    "seconds",
    "warning",
)
MAX_PRINTED_ERRORS = 5  # of files that could not be fitted


def write_fits(folder: Path, answers: Sequence[FitResult]) -> None:
    """Write `fits.csv`, a row a file, and `fits.json`, with all that is known but the images.

    Raises:
        StorageError: no room or no permission.
    """
    fits = [answer for answer in answers if isinstance(answer, Fit)]
    names = list(dict.fromkeys(e.name for one in fits for e in one.parameters))
    parameters = [column for name in names for column in (name, f"{name}_error")]
    columns = ["image", *QUALITY_COLUMNS, *parameters, "error"]
    write_table(folder / "fits.csv", "fits", columns, map(_row, answers))
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fits": [_record(answer) for answer in answers],
    }
    write_json(folder / "fits.json", "fits", content)


def print_fits(answers: Sequence[FitResult], console: Console) -> int:
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
    for error in bad[:MAX_PRINTED_ERRORS]:
        console.print(f"not fitted: {error}", markup=False, soft_wrap=True)
    if len(bad) > MAX_PRINTED_ERRORS:
        left = len(bad) - MAX_PRINTED_ERRORS
        console.print(f"... and {left} more; see the column 'error'", markup=False)
    return len(fits)


def _row(answer: FitResult) -> dict[str, str]:
    if isinstance(answer, ReadError):
        return {"image": answer.path, "error": answer.reason}
    cells = {
        "image": answer.path,
        "reduced_chi2": f"{answer.reduced_chi2:.4f}",
        "reduced_chi2_std": f"{answer.reduced_chi2_std:.4f}",
        "delta_2lnL": f"{answer.diagnostics.delta_2lnl:.2f}",
        "converged": str(answer.converged).lower(),
        "is_counts": str(answer.is_counts).lower(),
        "seconds": f"{answer.diagnostics.seconds:.2f}",
        "warning": answer.warning,
    }
    for e in answer.parameters:
        cells |= {e.name: f"{e.value:.7g}", f"{e.name}_error": f"{e.error:.3g}"}
    return cells


def _record(answer: FitResult) -> dict[str, object]:
    if isinstance(answer, ReadError):
        return {"image": answer.path, "error": answer.reason}
    return answer.record()


def _print_one(fit: Fit, console: Console) -> None:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=escape(fit.path), title_justify="left"
    )
    table.add_column("parameter", no_wrap=True)
    for heading in ("value", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit")
    for e in fit.parameters:
        table.add_row(e.name, *format_parameter(e), e.unit)
    console.print(table)
    if fit.warning:
        console.print(f"doubtful: {fit.warning}", markup=False, soft_wrap=True)
    for what, words in _quality(fit).items():
        console.print(f"{what}: {words}", markup=False, soft_wrap=True)


def _print_many(fits: Sequence[Fit], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("file")
    last = "mass_fraction" if any(fit.subhalo_posterior is not None for fit in fits) else "shear"
    for heading in ("reduced χ²", "gain", 'Einstein radius (")', last.replace("_", " "), "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for fit in fits:
        told = {e.name: " ± ".join(format_parameter(e)) for e in fit.parameters}
        table.add_row(
            escape(fit.path),
            f"{fit.reduced_chi2:.3f}",
            f"{fit.diagnostics.delta_2lnl:.1f}",
            told.get("einstein_radius", ""),
            told.get(last, ""),
            f"{fit.diagnostics.seconds:.1f}",
        )
    console.print(table)
    if doubtful := [fit for fit in fits if fit.warning]:
        console.print(
            f"doubtful: {len(doubtful)}; see the column 'doubt' in fits.csv", markup=False
        )


def format_parameter(e: FittedParameter) -> tuple[str, str]:
    """Value and error to two digits of the error."""
    if not e.error > 0 or e.error == float("inf"):
        return f"{e.value:.4g}", f"{e.error:.2g}"
    digits = max(0, 1 - math.floor(math.log10(e.error)))
    return f"{e.value:.{digits}f}", f"{e.error:.{digits}f}"


def _quality(fit: Fit) -> dict[str, str]:
    """How good a fit is, in words."""
    taken = fit.diagnostics
    words = {
        "reduced chi-square": f"{fit.reduced_chi2:.4f}"
        f" (1 ± {fit.reduced_chi2_std:.4f} where the model is true)",
    }
    if not fit.is_counts:
        words["noise"] = "estimated from the image, for its law is not known; errors are rough"
    if len(taken.delta_2lnl_steps) == 1:
        words["gain in 2 ln L"] = f"{taken.delta_2lnl:.1f}"
    elif taken.delta_2lnl_steps:
        each = ", ".join(f"{gain:.1f}" for gain in taken.delta_2lnl_steps)
        words["gain in 2 ln L"] = f"{taken.delta_2lnl:.1f} ({each})"
    if fit.subhalo_posterior is not None:
        told = fit.subhalo_posterior.record()["mass_fraction"]
        words["mass fraction"] = (
            f"{told['median']:.4f}, 68 % within {told['lo68']:.4f} to {told['hi68']:.4f},"
            f" 95 % within {told['lo95']:.4f} to {told['hi95']:.4f}"
        )
    return words | {"seconds": f"{taken.seconds:.1f}"}
