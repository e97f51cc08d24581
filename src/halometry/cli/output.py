"""Text and tables on standard output."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out_console = Console(highlight=False)


def print_line(text: str) -> None:
    """Print text as it is, whatever the width of the terminal."""
    out_console.print(text, markup=False, soft_wrap=True)


def new_table(*columns: str) -> Table:
    """Empty table in the command's style, with columns of these names."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    return table


def print_rows(rows: list[list[str]]) -> None:
    """Print a table whose first row is its header; columns of single words keep them whole."""
    header, *others = rows
    table = new_table(*header)
    for column, cells in zip(table.columns, zip(*others, strict=True), strict=True):
        column.no_wrap = column.no_wrap or not any(" " in cell for cell in cells)
    for row in others:
        table.add_row(*map(escape, row))
    out_console.print(table)
