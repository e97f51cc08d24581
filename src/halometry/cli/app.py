"""The application object, and the options that several subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from halometry import __version__
from halometry.cli.output import print_line
from halometry.config import Inputs, Task

if TYPE_CHECKING:
    from halometry.parallel import Workers

Function = TypeVar("Function", bound=Callable[..., None])

GLOBAL_OPTIONS = ("--debug", "--quiet", "--verbose")  # accepted anywhere on the line

app = typer.Typer(
    name="halometry",
    help="Infer dark matter substructure from images of strong gravitational lenses.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def subcommand(
    panel: str, example: str, *, name: str | None = None
) -> Callable[[Function], Function]:
    """Decorator that makes a function a subcommand.

    Args:
        panel: panel of `halometry --help` that lists it.
        example: a command line, shown at the end of its own help.
        name: its name, if that is not the function's.
    """
    return app.command(name, rich_help_panel=panel, epilog=f"Example: {example}")


TaskOption = Annotated[Task, typer.Option(help="Quantity to learn: a class or a mass fraction.")]
FolderArgument = Annotated[
    str,
    typer.Argument(help="Run folder, name from 'halometry weights', or hf://USER/REPO."),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        help="Run folder, exported .onnx file, name from 'halometry weights', or hf://USER/REPO."
        " Runs separated by commas form an ensemble."
    ),
]
DataOption = Annotated[Path, typer.Option(help="HDF5 dataset or folder of labeled images.")]
FilesArgument = Annotated[
    list[Path], typer.Argument(help="Images, HDF5 datasets, or folders of these.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]
DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu or cuda.")]
DevicesOption = Annotated[
    int, typer.Option(help="Number of processes on each machine that train together.")
]
RecipeOption = Annotated[str, typer.Option(help="Name of a recipe, or a YAML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one key of the recipe: key=value.")
]
PretrainedOption = Annotated[
    bool | None,
    typer.Option("--pretrained/--no-pretrained", help="Start from ImageNet weights, or not."),
]
TargetOption = Annotated[
    str | None, typer.Option(help="Learn the mass fraction (linear) or its logarithm (log).")
]
WorkersOption = Annotated[
    str, typer.Option(help="Number of processes; auto uses the available cores.")
]
MappersOption = Annotated[
    str,
    typer.Option(
        "--workers",
        help="Number of processes that compute mass maps, where these are needed; auto uses the"
        " available cores.",
    ),
]
InputsOption = Annotated[
    Inputs, typer.Option(help="Train on the images (raw), or on their mass maps (maps).")
]
ImagesPresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Preset that the images follow (name or YAML file), if the dataset has none.",
    ),
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Maximum number of epochs.")]
LensPresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="Preset of the lenses, if it is not that of the run."),
]


def parse_workers(text: str) -> Workers:
    """The value of `--workers` as a number where it is one; the library checks the rest."""
    workers: Any = int(text) if text.isdecimal() else text
    return workers


def split_names(text: str) -> list[str]:
    """Names separated by commas.

    Example:
        >>> split_names("sky, psf,")
        ['sky', 'psf']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


@app.callback(invoke_without_command=True)
def global_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    # `main` reads these three itself, so that they are accepted anywhere on the line.
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print results, warnings and errors only.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print debug messages too.")] = False,
) -> None:
    if version:
        print_line(f"halometry {__version__}")
        raise typer.Exit
