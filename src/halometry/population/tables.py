"""A population as a table on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from halometry.evaluation.bootstrap import format_interval
from halometry.population.command import Population

WORDS = {"mean": "mean of f_sub", "spread": "its spread"}


def print_population(found: Population, console: Console) -> None:
    """Print the posterior's medians and intervals, and what they rest on."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("fraction of" if found.called else "mass", no_wrap=True)
    for column in ("median", "68 %", "95 %", *(["called"] if found.called else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for name, one in found.summaries.items():
        median, low, high = format_interval(one.median, one.low_68, one.high_68)
        digits = len(median.partition(".")[2])
        wide = f"{one.low_95:.{digits}f} to {one.high_95:.{digits}f}"
        cells = [WORDS.get(name, name) if not found.called else name, median, f"{low} to {high}"]
        called = [f"{found.called[name]:.{digits}f}"] if found.called else []
        table.add_row(*cells, wide, *called)
    console.print(table)
    said = "1 lens" if found.lenses == 1 else f"{found.lenses:,} lenses"
    if found.left_out:
        said += f", {found.left_out:,} row{'s' * (found.left_out != 1)} left out"
    console.print(f"{said}; training prior divided out: {found.prior}", markup=False,
                  soft_wrap=True)  # fmt: skip
