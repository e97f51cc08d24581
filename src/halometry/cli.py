"""The command `halometry`: one short function a verb; what it does is the package's."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from halometry import __version__
from halometry.errors import HalometryError

app = typer.Typer(
    name="halometry",
    help="Read dark matter from images of strong gravitational lenses.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
INTERRUPTED = 130  # the exit status after Ctrl-C
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


class TaskName(StrEnum):
    classification = "classification"
    regression = "regression"


class Target(StrEnum):
    plain = "plain"
    log = "log"


TaskOption = Annotated[TaskName, typer.Option(help="What to learn: a class, or a mass fraction.")]
DataOption = Annotated[
    Path, typer.Option(help="A store, or a folder of labelled images (see the docs on data).")
]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
RecipeOption = Annotated[str, typer.Option(help="A recipe's name or a YAML file of your own.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one value of the recipe: key=value.")
]
PretrainedOption = Annotated[
    bool | None,
    typer.Option("--pretrained/--no-pretrained", help="Begin from ImageNet weights or not."),
]
TargetOption = Annotated[Target | None, typer.Option(help="Learn the mass or its logarithm.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Passes over the images, at most.")]


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Say the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # see main
) -> None:
    if version:
        tell(f"halometry {__version__}")
        raise typer.Exit


@app.command()
def simulate(
    preset: Annotated[str, typer.Argument(help="A preset's name or a YAML file of your own.")],
    out: Annotated[Path, typer.Option(help="The store to write (HDF5).")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 1000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    test: Annotated[
        int, typer.Option(min=0, help="Set the last so many images aside as the test set.")
    ] = 0,
    workers: Annotated[
        str, typer.Option(help="Processes to work in; auto takes the cores there are.")
    ] = "auto",
    shard: Annotated[
        int | None, typer.Option(min=1, help="Images a file; a shard is what a kill can cost.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Work on the Dask cluster at this address instead.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Remove a set that is there.")] = False,
) -> None:
    """Make labelled images; repeat the same command to go on where it was stopped."""
    from halometry.data.generate import simulate as run
    from halometry.data.shards import shard_folder

    processes: Any = int(workers) if workers.isdecimal() else workers
    path = run(preset, count, seed, out, device, test, overwrite, processes, shard, scheduler)
    tell(f"{count:,} images -> {path}, with {shard_folder(path).name}/ beside it")


@app.command()
def train(
    task: TaskOption,
    data: DataOption,
    backbone: Annotated[str, typer.Option(help="A plain name, or any of timm's.")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    recipe: RecipeOption = "default",
    target: TargetOption = None,
    epochs: EpochsOption = None,
    pretrained: PretrainedOption = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    start: Annotated[
        Path | None, typer.Option(help="Begin from the weights of this finished run.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Throw away the run that is there.")] = False,
) -> None:
    """Train a network; repeat the same command to go on where it was stopped."""
    from halometry.training import train as run

    overrides = _overrides(task, target, epochs, pretrained, set_)
    run(task.value, data, backbone, out, recipe, overrides, seed, device, start, overwrite)
    tell(f"run -> {out}\nhalometry evaluate {out} --data {data}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="A folder for metrics.json and figures.")],
    device: DeviceOption = "auto",
) -> None:
    """Judge a run on images it never saw."""
    from halometry.evaluation.evaluate import evaluate as judge

    evaluation = judge(run, data, out, device)
    tell(f"{evaluation.run.name}: {evaluation.description}")
    table = listing("metric", "value", "95 % interval")
    for name, estimate in evaluation.metrics.items():
        value, _, interval = str(estimate).partition(" ")
        table.add_row(name, value, escape(interval))
    out_console.print(table)


@app.command()
def compare(
    task: TaskOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="A folder for runs, results and the report.")],
    backbones: Annotated[
        str, typer.Option(help="Names, separated by commas.")
    ] = "mobilenetv3_small,resnet18,efficientnet_b5",
    recipe: RecipeOption = "default",
    target: TargetOption = None,
    epochs: EpochsOption = None,
    pretrained: PretrainedOption = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    start: Annotated[
        Path | None, typer.Option(help="Begin from the runs in this folder, by their names.")
    ] = None,
) -> None:
    """Train and judge several networks on the same images; repeat to go on."""
    from halometry.evaluation.compare import compare as run

    overrides = _overrides(task, target, epochs, pretrained, set_)
    names = [name.strip() for name in backbones.split(",") if name.strip()]
    _print_comparison(run(task.value, data, names, out, recipe, overrides, seed, device, start))
    tell(f"report: {out / 'report.html'}")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    files: Annotated[list[Path], typer.Argument(help="Images, stores, or folders of these.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    device: DeviceOption = "auto",
) -> None:
    """Apply a run to images: one row a file."""
    from halometry.inference import predict as apply

    answers = apply(run, files, out, device=device)
    bad = [answer for answer in answers if answer.error]
    for answer in bad[:3]:
        tell(f"not read: {answer.file}: {answer.error}")
    if len(bad) > 3:
        tell(f"... and {len(bad) - 3} more; see the column 'error'")
    tell(f"{len(answers) - len(bad)} of {len(answers)} answered -> {out}")
    if len(bad) == len(answers):
        raise typer.Exit(1)


@app.command()
def fit(
    files: Annotated[list[Path], typer.Argument(help="Images, stores, or folders of these.")],
    preset: Annotated[str, typer.Option(help="The recipe they follow: a name or a YAML file.")],
    out: Annotated[
        Path | None, typer.Option(help="A folder for fits.csv, fits.json and figures.")
    ] = None,
    line: Annotated[bool, typer.Option("--line", help="Add a line of mass.")] = False,
    subhalos: Annotated[str, typer.Option(help="Point masses to add: a number, or auto.")] = "0",
    free: Annotated[
        list[str] | None, typer.Option(help="Fit this too, though the preset holds it.")
    ] = None,
    figures: Annotated[bool, typer.Option(help="Draw data, model and residuals.")] = True,
    device: DeviceOption = "auto",
) -> None:
    """Find the most likely lens, shear and source of images, with errors."""
    from halometry.inference.fit import fit as run
    from halometry.inference.fit_tables import print_fits

    answers = run(files, preset, out, line, subhalos, free or (), figures, device)
    if not print_fits(answers, out_console):
        raise typer.Exit(1)
    if out is not None:
        tell(f"fits -> {out}")


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A store, a folder, an image, or a preset.")],
    out: Annotated[
        Path | None, typer.Option(help="The picture to write; without it, a window.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 12,
    seed: SeedOption = 0,
) -> None:
    """Draw a montage with labels."""
    from halometry.evaluation.show import show as draw

    if (path := draw(what, out, count, seed)) is not None:
        tell(f"montage -> {path}")


@app.command()
def backbones(
    names: Annotated[list[str] | None, typer.Argument(help="Any of timm's names.")] = None,
) -> None:
    """List the networks there are."""
    from halometry.models import backbones as look

    table = listing("name", "in timm", "parameters", "features", "stride (px)")
    for info in look(names):
        parameters = f"{info.parameters / 1e6:.2f} M"
        table.add_row(info.name, info.timm_name, parameters, str(info.features), str(info.stride))
    out_console.print(table)
    tell("Any other name of timm's works too: python -c 'import timm; print(timm.list_models())'")


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """List the presets there are, or one with all its parameters, units and sources."""
    from halometry.simulation import load_preset, preset_text
    from halometry.simulation import presets as names

    if name is None:
        table = listing("name", "task", "image", "what it is")
        for known in names():
            preset = load_preset(known)
            size = f'{preset.image.pixels} px of {preset.image.pixel_scale:g}"'
            table.add_row(known, preset.task, size, escape(preset.summary))
        out_console.print(table)
        return
    tell(preset_text(name).rstrip())


@app.command()
def instruments(
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """List the instruments there are, or one with all its figures, units and sources."""
    from halometry.simulation import instruments as names
    from halometry.simulation import load_instrument
    from halometry.simulation.instrument import instrument_text

    if name is not None:
        tell(instrument_text(name).rstrip())
        return
    table = listing("name", "pixel", "PSF", "what it is")
    for known in names():
        one = load_instrument(known)
        width = f'{one.psf_fwhm.value}"' if one.psf_fwhm else "file"
        table.add_row(known, f'{one.pixel_scale.value}"', width, escape(one.description))
    out_console.print(table)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="One of them, resolved.")] = None,
    task: Annotated[TaskName, typer.Option(help="For which task.")] = TaskName.classification,
    backbone: Annotated[str, typer.Option(help="For which backbone.")] = "resnet18",
) -> None:
    """List the recipes there are, or one as it is for a task and a backbone."""
    from halometry.training import load_recipe
    from halometry.training import recipes as names

    if name is None:
        table = listing("name", "what it is")
        for known in names():
            table.add_row(known, load_recipe(known).description)
        out_console.print(table)
        return
    resolved = load_recipe(name).resolve(task.value, backbone)
    tell(f"{name}, {task.value}, {backbone}")
    table = listing("key", "value")
    for key, value in resolved.model_dump(exclude={"name", "description"}).items():
        table.add_row(key, escape(str(value)))
    out_console.print(table)


@app.command()
def doctor(
    measure: Annotated[bool, typer.Option(help="Also time a small network.")] = True,
) -> None:
    """Tell what a bug report needs, and what is wrong here."""
    from halometry.health import doctor as look

    found = look(measure)
    table = listing("what", "here")
    for key, value in found.facts.items():
        table.add_row(key, escape(value))
    out_console.print(table)
    for problem in found.problems:
        tell(f"problem: {problem}")
    if found.problems:
        raise typer.Exit(1)
    tell("all is well")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A folder for everything.")] = Path("demo"),
    count: Annotated[int, typer.Option(min=60, help="Images a task.")] = 4000,
    seed: SeedOption = 1,
    recipe: RecipeOption = "demo",
    device: DeviceOption = "auto",
) -> None:
    """Run the whole experiment in small: about ten minutes on two cores."""
    from halometry.demonstration import demo as run

    made = run(out, count, seed, recipe, device)
    for comparison in made.comparisons:
        _print_comparison(comparison)
    tell(f"report: {made.report}")


def _print_comparison(comparison: Any) -> None:
    from halometry.evaluation.tables import print_table

    print_table(comparison.record, out_console)
    for sentence in comparison.record["conclusion"]:
        out_console.print(sentence, markup=False)


def _overrides(
    task: TaskName,
    target: Target | None,
    epochs: int | None,
    pretrained: bool | None,
    pairs: list[str] | None,
) -> dict[str, Any]:
    from halometry.errors import UsageError
    from halometry.training.recipe import parse_overrides

    if target is not None and task is TaskName.classification:
        raise UsageError("--target is for --task regression")
    overrides: dict[str, Any] = {}
    if target is not None:
        overrides["target"] = "log" if target is Target.log else "none"
    if epochs is not None:
        overrides["epochs"] = epochs
    if pretrained is not None:
        overrides["pretrained"] = pretrained
    return overrides | parse_overrides(pairs or [])


def main() -> None:
    """Run the command; a user's mistake is one line on standard error, not a traceback."""
    debug = "--debug" in sys.argv[1:]
    if debug:
        # Accepted anywhere on the line, since that is where a person adds it.
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app()
    except HalometryError as error:
        if debug:
            raise
        errors.print(f"error: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            errors.print("stopped; repeat the same command to go on", markup=False)
        raise
    except OSError as error:
        if debug:
            raise
        named = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        errors.print(f"error: {named}{reason} (--debug shows where)", markup=False, style="red")
        sys.exit(1)
