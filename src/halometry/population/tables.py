"""Table of a population on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from halometry.evaluation.bootstrap import format_interval
from halometry.population.command import Population

MASS_ROWS = {"mean": "mean of f_sub", "std": "standard deviation"}


def print_population(population: Population, console: Console) -> None:
    """Print medians and intervals, the number of lenses, and the prior."""
    fractions = population.argmax_fraction
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("fraction of" if fractions else "mass", no_wrap=True)
    for column in ("median", "68 %", "95 %", *(["argmax"] if fractions else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for name, summary in population.summaries.items():
        median, low, high = format_interval(summary.median, summary.lo68, summary.hi68)
        digits = len(median.partition(".")[2])
        wide = f"{summary.lo95:.{digits}f} to {summary.hi95:.{digits}f}"
        title = name if fractions else MASS_ROWS[name]
        argmax = [f"{fractions[name]:.{digits}f}"] if fractions else []
        table.add_row(title, median, f"{low} to {high}", wide, *argmax)
    console.print(table)
    lenses = "1 lens" if population.n_lenses == 1 else f"{population.n_lenses:,} lenses"
    if count := population.n_excluded:
        lenses += f", {count:,} row{'s' * (count != 1)} excluded"
    console.print(f"{lenses}; prior divided out: {population.prior}", markup=False, soft_wrap=True)
