"""Tables of fits: on the terminal, as CSV and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from halometry.errors import ReadError
from halometry.io import write_json, write_table
from halometry.lensfit import Fit, FitResult, FittedParameter

QUALITY_COLUMNS = (
    "reduced_chi2",
    "reduced_chi2_std",
    "delta_2lnL",
    "converged",
    "is_counts",
    "seconds",
    "warning",
)
MAX_PRINTED_ERRORS = 5


def write_fits(folder: Path, results: Sequence[FitResult]) -> None:
    """Write `fits.csv`, one row per image, and `fits.json`, with all but the images.

    Raises:
        StorageError: no room or no permission.
    """
    fits = [result for result in results if isinstance(result, Fit)]
    names = list(dict.fromkeys(p.name for fit in fits for p in fit.parameters))
    parameters = [column for name in names for column in (name, f"{name}_error")]
    columns = ["image", *QUALITY_COLUMNS, *parameters, "error"]
    write_table(folder / "fits.csv", "fits", columns, map(_cells, results))
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fits": [_record(result) for result in results],
    }
    write_json(folder / "fits.json", "fits", content)


def print_fits(results: Sequence[FitResult], console: Console) -> int:
    """Print one fit in full, or one line for each of many.

    Returns:
        The number of images that were fitted.
    """
    fits = [result for result in results if isinstance(result, Fit)]
    errors = [result for result in results if isinstance(result, ReadError)]
    if len(fits) == 1:
        _print_one(fits[0], console)
    elif fits:
        _print_many(fits, console)
    for error in errors[:MAX_PRINTED_ERRORS]:
        console.print(f"not fitted: {error}", markup=False, soft_wrap=True)
    if len(errors) > MAX_PRINTED_ERRORS:
        more = len(errors) - MAX_PRINTED_ERRORS
        console.print(f"... and {more} more; see the column 'error'", markup=False)
    return len(fits)


def _cells(result: FitResult) -> dict[str, str]:
    """Return the cells of an image's row in `fits.csv`, by column."""
    if isinstance(result, ReadError):
        return {"image": result.path, "error": result.reason}
    cells = {
        "image": result.path,
        "reduced_chi2": f"{result.reduced_chi2:.4f}",
        "reduced_chi2_std": f"{result.reduced_chi2_std:.4f}",
        "delta_2lnL": f"{result.diagnostics.delta_2lnl:.2f}",
        "converged": str(result.converged).lower(),
        "is_counts": str(result.is_counts).lower(),
        "seconds": f"{result.diagnostics.seconds:.2f}",
        "warning": result.warning,
    }
    for p in result.parameters:
        cells |= {p.name: f"{p.value:.7g}", f"{p.name}_error": f"{p.error:.3g}"}
    return cells


def _record(result: FitResult) -> dict[str, Any]:
    """Return an image's entry in `fits.json`."""
    if isinstance(result, ReadError):
        return {"image": result.path, "error": result.reason}
    return result.record()


def _print_one(fit: Fit, console: Console) -> None:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=escape(fit.path), title_justify="left"
    )
    table.add_column("parameter", no_wrap=True)
    for heading in ("value", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit")
    for p in fit.parameters:
        table.add_row(p.name, *format_parameter(p), p.unit)
    console.print(table)
    if fit.warning:
        console.print(f"warning: {fit.warning}", markup=False, soft_wrap=True)
    for name, value in _quality(fit).items():
        console.print(f"{name}: {value}", markup=False, soft_wrap=True)


def _print_many(fits: Sequence[Fit], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("image")
    last = "mass_fraction" if any(fit.subhalo_posterior is not None for fit in fits) else "shear"
    for heading in ("reduced χ²", "Δ 2 ln L", 'Einstein radius (")', last.replace("_", " "), "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for fit in fits:
        values = {p.name: " ± ".join(format_parameter(p)) for p in fit.parameters}
        table.add_row(
            escape(fit.path),
            f"{fit.reduced_chi2:.3f}",
            f"{fit.diagnostics.delta_2lnl:.1f}",
            values.get("einstein_radius", ""),
            values.get(last, ""),
            f"{fit.diagnostics.seconds:.1f}",
        )
    console.print(table)
    warnings = sum(bool(fit.warning) for fit in fits)
    if warnings:
        console.print(f"warnings: {warnings}; see the column 'warning' in fits.csv", markup=False)


def format_parameter(parameter: FittedParameter) -> tuple[str, str]:
    """Format value and error to two digits of the error."""
    value, error = parameter.value, parameter.error
    if not error > 0 or error == float("inf"):
        return f"{value:.4g}", f"{error:.2g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f}", f"{error:.{digits}f}"


def _quality(fit: Fit) -> dict[str, str]:
    """Return the goodness of a fit as text, by name."""
    diagnostics = fit.diagnostics
    quality = {
        "reduced chi-square": f"{fit.reduced_chi2:.4f}"
        f" (1 ± {fit.reduced_chi2_std:.4f} for a true model)",
    }
    if not fit.is_counts:
        quality["noise"] = "estimated from the image, as its distribution is unknown; rough errors"
    if diagnostics.delta_2lnl_steps:
        gain = f"{diagnostics.delta_2lnl:.1f}"
        if len(diagnostics.delta_2lnl_steps) > 1:
            steps = ", ".join(f"{step:.1f}" for step in diagnostics.delta_2lnl_steps)
            gain = f"{gain} ({steps})"
        quality["gain in 2 ln L"] = gain
    if fit.subhalo_posterior is not None:
        mass = fit.subhalo_posterior.record()["mass_fraction"]
        quality["mass fraction"] = (
            f"{mass['median']:.4f}, 68 % within {mass['lo68']:.4f} to {mass['hi68']:.4f},"
            f" 95 % within {mass['lo95']:.4f} to {mass['hi95']:.4f}"
        )
    return quality | {"seconds": f"{diagnostics.seconds:.1f}"}
