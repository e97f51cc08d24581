"""The application, what its verbs print with, and the options that they share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from halometry import __version__
from halometry.parallel import Workers

app = typer.Typer(
    name="halometry",
    help="Read dark matter from images of strong gravitational lenses.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out_console = Console(highlight=False)


def tell(message: str) -> None:
    """Print text as it is, whatever the width of the terminal."""
    out_console.print(message, markup=False, soft_wrap=True)


def listing(*columns: str) -> Table:
    """A table whose first column keeps its names whole."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    return table


def print_rows(rows: list[list[str]]) -> None:
    """Print a table whose first row is its head."""
    head, *others = rows
    table = listing(*head)
    for row in others:
        table.add_row(*map(escape, row))
    out_console.print(table)


class TaskName(StrEnum):
    classification = "classification"
    regression = "regression"


class Target(StrEnum):
    plain = "plain"
    log = "log"


class Format(StrEnum):
    onnx = "onnx"


TaskOption = Annotated[TaskName, typer.Option(help="What to learn: a class, or a mass fraction.")]
FolderArgument = Annotated[
    str,
    typer.Argument(help="A run folder, a name from 'halometry weights', or hf://USER/REPO."),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        help="A run folder, an exported .onnx file, a name from 'halometry weights', or"
        " hf://USER/REPO; several answer together, with commas between them."
    ),
]
DataOption = Annotated[
    Path, typer.Option(help="A store, or a folder of labeled images (see the docs on data).")
]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DevicesOption = Annotated[
    int, typer.Option(help="Processes on each machine that train together, one a device.")
]
RecipeOption = Annotated[str, typer.Option(help="A recipe's name or a YAML file of your own.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one value of the recipe: key=value.")
]
PretrainedOption = Annotated[
    bool | None,
    typer.Option("--pretrained/--no-pretrained", help="Begin from ImageNet weights or not."),
]
TargetOption = Annotated[Target | None, typer.Option(help="Learn the mass or its logarithm.")]
WorkersOption = Annotated[
    str, typer.Option(help="Processes to work in; auto takes the cores there are.")
]
MappersOption = Annotated[
    str,
    typer.Option(
        "--workers",
        help="Processes that map images, where the run takes maps; auto takes the cores there are.",
    ),
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Passes over the images, at most.")]


def processes(workers: str) -> Workers:
    """What a `--workers` says; what is no number is left to the verb to refuse."""
    number: Any = int(workers) if workers.isdecimal() else workers
    return number


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Say the version.")] = False,
    # These three are read by `main`, so that they are accepted anywhere on the line.
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print debug messages too.")] = False,
) -> None:
    if version:
        tell(f"halometry {__version__}")
        raise typer.Exit
