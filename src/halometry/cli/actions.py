"""Verbs that do something: one short function each; what it does is the package's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from halometry.cli.answers import print_answers, print_coverage
from halometry.cli.app import (
    DataOption,
    DeviceOption,
    DevicesOption,
    EpochsOption,
    FolderArgument,
    Format,
    MappersOption,
    PretrainedOption,
    RecipeOption,
    RunArgument,
    SeedOption,
    SetOption,
    Target,
    TargetOption,
    TaskName,
    TaskOption,
    WorkersOption,
    app,
    listing,
    out_console,
    processes,
    tell,
)


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
    workers: WorkersOption = "auto",
    shard: Annotated[
        int | None, typer.Option(min=1, help="Images a file; a shard is what a kill can cost.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Work on the Dask cluster at this address instead.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Remove a set that is there.")] = False,
) -> None:
    """Make labeled images; repeat the same command to go on where it was stopped."""
    from halometry.datasets.generate import simulate as run
    from halometry.datasets.shards import shard_folder

    path = run(
        preset,
        count,
        seed=seed,
        out=out,
        device=device,
        n_test=test,
        overwrite=overwrite,
        workers=processes(workers),
        shard_size=shard,
        scheduler=scheduler,
    )
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
        str | None, typer.Option(help="Begin from the weights of this finished run, as RUN.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Throw away the run that is there.")] = False,
    devices: DevicesOption = 1,
    nodes: Annotated[
        int, typer.Option(help="Machines; torchrun or srun starts the command on each.")
    ] = 1,
) -> None:
    """Train a network; repeat the same command to go on where it was stopped."""
    from halometry.training.distributed import is_first_process
    from halometry.training.train import train as run

    overrides = _overrides(task, target, epochs, pretrained, set_)
    run(
        task.value,
        data,
        backbone,
        out,
        recipe,
        overrides,
        seed=seed,
        device=device,
        start=start,
        overwrite=overwrite,
        devices=devices,
        nodes=nodes,
    )
    if is_first_process():
        words = ["halometry", "evaluate", out, "--data", data, "--out", out / "evaluation"]
        tell(f"run -> {out}\n{shlex.join(map(str, words))}")


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="A folder for metrics.json and figures.")],
    device: DeviceOption = "auto",
) -> None:
    """Judge a run on images it never saw."""
    from halometry.evaluation.evaluate import evaluate as judge

    evaluation = judge(run, data, out, device)
    _print_metrics(evaluation)


@app.command()
def compare(
    task: TaskOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="A folder for runs, results and the report.")],
    backbones: Annotated[
        str, typer.Option(help="Names, separated by commas.")
    ] = "mobilenetv3_small,resnet18,efficientnet_b5,d4net",
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
    devices: DevicesOption = 1,
) -> None:
    """Train and judge several networks on the same images; repeat to go on."""
    from halometry.compare.compare import compare_networks as run

    overrides = _overrides(task, target, epochs, pretrained, set_)
    names = [name.strip() for name in backbones.split(",") if name.strip()]
    found = run(
        task.value,
        data,
        names,
        out,
        recipe,
        overrides,
        seed=seed,
        device=device,
        init_from=start,
        devices=devices,
    )
    _print_comparison(found)
    tell(f"report: {out / 'report.html'}")


@app.command()
def predict(
    run: RunArgument,
    files: Annotated[list[Path], typer.Argument(help="Images, stores, or folders of these.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    device: DeviceOption = "auto",
    level: Annotated[
        float | None,
        typer.Option(help="How often a set or interval is to hold the truth.", show_default="0.9"),
    ] = None,
    workers: MappersOption = "auto",
) -> None:
    """Apply a run to images: one row a file."""
    from halometry.evaluation.predict import predict as apply

    answers = apply(run, files, out=out, device=device, coverage=level, workers=processes(workers))
    print_answers(answers)
    bad = [answer for answer in answers if answer.error]
    for answer in bad[:3]:
        tell(f"not read: {answer.image}: {answer.error}")
    if len(bad) > 3:
        tell(f"... and {len(bad) - 3} more; see the column 'error'")
    tell(f"{len(answers) - len(bad)} of {len(answers)} answered -> {out}")
    if unusual := sum(bool(answer.ood and answer.ood.unusual) for answer in answers):
        tell(f"{unusual} of them unlike the images it was trained on; see the column 'unusual'")
    if len(bad) == len(answers):
        raise typer.Exit(1)


@app.command()
def export(
    run: FolderArgument,
    out: Annotated[Path, typer.Option(help="The file to write, ending in .onnx.")],
    format: Annotated[Format, typer.Option(help="Of the file.")] = Format.onnx,
    check: Annotated[
        Path | None, typer.Option(help="Images to compare its answers with PyTorch's on.")
    ] = None,
) -> None:
    """Write a run as one file for ONNX Runtime, preprocessing included."""
    from halometry.publish.export import export as write

    made = write(run, out, format.value, check)
    tell(f"{made.path}: {made.bytes / 1e6:.1f} MB, checked on {made.checked}")
    tell(f"largest difference from PyTorch's answers: {made.difference:.1g}")


@app.command()
def publish(
    run: FolderArgument,
    data: DataOption,
    to: Annotated[str, typer.Option(help="A new folder, or hf://USER/REPO.")],
    license: Annotated[
        str | None, typer.Option("--license", help="Of the weights, such as mit; see the Hub's.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Make a run small, judge it and write its card, for others to use."""
    from halometry.publish.publish import publish_run as put

    made = put(run, data, to, license, device)
    _print_metrics(made.evaluation)
    if made.change is not None:
        of = "probability" if made.evaluation.run.config.class_names else "standard deviation"
        tell(f"half precision changed no answer by more than {made.change:.2g} ({of})")
    tell(f"weights and card -> {made.where}")


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
    from halometry.datasets.show import show as draw

    if (path := draw(what, out, count=count, seed=seed)) is not None:
        tell(f"montage -> {path}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A folder for everything.")] = Path("demo"),
    count: Annotated[int, typer.Option(min=60, help="Images a task.")] = 4000,
    seed: SeedOption = 1,
    recipe: RecipeOption = "demo",
    device: DeviceOption = "auto",
) -> None:
    """Run the whole experiment in small: about ten minutes on two cores."""
    from halometry.compare.tables import print_bundled_weights
    from halometry.demo import run_demo as run

    made = run(out, count, seed, recipe, device)
    for comparison in made.comparisons:
        _print_comparison(comparison)
    for record in made.trained:
        print_bundled_weights(record, out_console)
    tell(f"report: {made.report}")


def _print_metrics(evaluation: Any) -> None:
    from halometry.evaluation.calibration_error import format_calibration

    tell(f"{evaluation.run.name}: {evaluation.description}")
    table = listing("metric", "value", "95 % interval")
    for name, estimate in evaluation.metrics.items():
        value, _, interval = str(estimate).partition(" ")
        table.add_row(name, value, escape(interval))
    out_console.print(table)
    print_coverage(evaluation)
    for line in format_calibration(evaluation.trust):
        tell(line)


def _print_comparison(comparison: Any) -> None:
    from halometry.compare.tables import print_differences, print_table

    print_table(comparison.record, out_console)
    print_differences(comparison.record, out_console)
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
    from halometry.runs.recipe import parse_overrides

    if target is not None and task is TaskName.classification:
        raise UsageError("--target is for --task regression")
    overrides: dict[str, Any] = {}
    if target is not None:
        overrides["target"] = "log" if target is Target.log else "linear"
    if epochs is not None:
        overrides["epochs"] = epochs
    if pretrained is not None:
        overrides["pretrained"] = pretrained
    return overrides | parse_overrides(pairs or [])
