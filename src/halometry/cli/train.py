"""Subcommands that train networks: train, compare, calibrate, demo."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from halometry.cli.app import (
    DataOption,
    DeviceOption,
    DevicesOption,
    EpochsOption,
    ImagesPresetOption,
    InputsOption,
    MappersOption,
    PretrainedOption,
    RecipeOption,
    SeedOption,
    SetOption,
    TargetOption,
    TaskOption,
    parse_workers,
    split_names,
    subcommand,
)
from halometry.cli.output import out_console, print_line

if TYPE_CHECKING:
    from halometry.compare.compare import Comparison
    from halometry.config import Task

PANEL = "Train"
DEFAULT_BACKBONES = "mobilenetv3_small,resnet18,efficientnet_b5,d4net"
BackbonesOption = Annotated[str, typer.Option(help="Names separated by commas.")]
TRAIN = "halometry train --task classification --data lenses.h5 --backbone resnet18 --out run"


@subcommand(PANEL, TRAIN)
def train(
    task: TaskOption,
    data: DataOption,
    backbone: Annotated[
        str, typer.Option(help="Name from 'halometry backbones', or any name that timm knows.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    inputs: InputsOption = "raw",
    preset: ImagesPresetOption = None,
    recipe: RecipeOption = "default",
    target: TargetOption = None,
    epochs: EpochsOption = None,
    pretrained: PretrainedOption = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    init_from: Annotated[
        str | None,
        typer.Option(help="Start from the weights of this finished run (see 'predict' for RUN)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing run folder.")] = False,
    devices: DevicesOption = 1,
    nodes: Annotated[
        int, typer.Option(help="Number of machines, if torchrun or srun starts the command.")
    ] = 1,
    workers: MappersOption = "auto",
) -> None:
    """Train a network on labeled images. Repeat the command to continue after a stop."""
    from halometry.training.distributed import is_first_process
    from halometry.training.train import train as train_network

    train_network(
        task,
        data,
        backbone,
        out,
        inputs=inputs,
        preset=preset,
        workers=parse_workers(workers),
        recipe=recipe,
        overrides=_overrides(task, target, epochs, pretrained, set_),
        seed=seed,
        device=device,
        init_from=init_from,
        overwrite=overwrite,
        devices=devices,
        nodes=nodes,
    )
    if is_first_process():
        words = ["halometry", "evaluate", out, "--data", data, "--out", out / "evaluation"]
        print_line(f"run -> {out}\n{shlex.join(map(str, words))}")


@subcommand(PANEL, "halometry compare --task classification --data lenses.h5 --out comparison")
def compare(
    task: TaskOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder for the runs, the results and the report.")],
    backbones: BackbonesOption = DEFAULT_BACKBONES,
    inputs: InputsOption = "raw",
    preset: ImagesPresetOption = None,
    recipe: RecipeOption = "default",
    target: TargetOption = None,
    epochs: EpochsOption = None,
    pretrained: PretrainedOption = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    init_from: Annotated[
        Path | None,
        typer.Option(help="Start each network from the run of its name in this folder."),
    ] = None,
    devices: DevicesOption = 1,
    workers: MappersOption = "auto",
) -> None:
    """Train and evaluate several networks on the same images. Repeat to continue."""
    from halometry.compare.compare import compare_networks

    comparison = compare_networks(
        task,
        data,
        split_names(backbones),
        out,
        inputs=inputs,
        preset=preset,
        workers=parse_workers(workers),
        recipe=recipe,
        overrides=_overrides(task, target, epochs, pretrained, set_),
        seed=seed,
        device=device,
        init_from=init_from,
        devices=devices,
    )
    _print_comparison(comparison)
    print_line(f"report: {out / 'report.html'}")


@subcommand(PANEL, "halometry calibrate runs/resnet18 --data lenses.h5")
def calibrate(
    run: Annotated[str, typer.Argument(help="Run folder, which is changed.")],
    data: DataOption,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Calibrate a finished run again: its probabilities, sets and intervals."""
    from halometry.runs.calibrate import calibrate as calibrate_run

    calibration = calibrate_run(run, data, device=device, workers=parse_workers(workers))
    if names := calibration.run.config.class_names:
        biases = ", ".join(
            f"{name} {bias:+.3f}" for name, bias in zip(names, calibration.bias, strict=True)
        )
        print_line(f"temperature {calibration.temperature:.3f}, bias {biases}")
    print_line(f"sets and intervals from {calibration.conformal.images} -> {run}")


@subcommand(PANEL, "halometry reproduce --classes dataset --masses lens_data --out results")
def reproduce(
    out: Annotated[Path, typer.Option(help="Folder for the runs, the results and the report.")],
    classes: Annotated[
        Path | None, typer.Option(help="Folder of the classification set: train/ and val/.")
    ] = None,
    masses: Annotated[
        Path | None, typer.Option(help="Folder of the mass set: object arrays [image, f_sub].")
    ] = None,
    inputs: InputsOption = "maps",
    recipe: RecipeOption = "default",
    backbones: BackbonesOption = DEFAULT_BACKBONES,
    epochs: EpochsOption = None,
    classes_preset: Annotated[
        str, typer.Option(help="Preset that the images of the classes follow.")
    ] = "common_test_1",
    masses_preset: Annotated[
        str, typer.Option(help="Preset that the images of the masses follow.")
    ] = "halo_mass",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Run the published experiments on the community's folders. Repeat to continue."""
    from halometry.compare.tables import print_published
    from halometry.reproduction import reproduce as reproduce_experiments

    reproduction = reproduce_experiments(
        out,
        classes=classes,
        masses=masses,
        inputs=inputs,
        recipe=recipe,
        backbones=split_names(backbones),
        epochs=epochs,
        presets={"classification": classes_preset, "regression": masses_preset},
        seed=seed,
        device=device,
        workers=parse_workers(workers),
    )
    for comparison in reproduction.comparisons:
        _print_comparison(comparison)
        print_published(comparison.record, out_console)
    print_line(f"report: {reproduction.report}")


@subcommand(PANEL, "halometry demo --out demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for all files.")] = Path("demo"),
    count: Annotated[int, typer.Option(min=60, help="Number of images of each task.")] = 1200,
    seed: SeedOption = 1,
    recipe: RecipeOption = "demo",
    device: DeviceOption = "auto",
) -> None:
    """Apply trained weights to new images, then train and compare small networks."""
    from halometry.compare.ranking import best_model
    from halometry.demo import run_demo

    result = run_demo(out, count=count, seed=seed, recipe=recipe, device=device)
    for comparison in result.comparisons:
        _print_comparison(comparison)
    best = best_model(result.comparisons[0].record.models, "auc").name
    run, lenses = result.comparisons[0].out / "runs" / best, out / "classification.h5"
    print_line(f"report: {result.report}\ncommands to try next:")
    for words in (
        ("show", out / "classification_mapped.h5", "--out", out / "maps.png"),
        ("evaluate", run, "--data", lenses, "--out", out / "evaluation"),
        ("fit", result.images, "--preset", "common_test_1", "--mass-map", "--out", out / "fits"),
    ):
        print_line("  " + shlex.join(["halometry", *map(str, words)]))


def _print_comparison(comparison: Comparison) -> None:
    from halometry.compare.tables import print_differences, print_table

    print_table(comparison.record, out_console)
    print_differences(comparison.record, out_console)
    for sentence in comparison.record.conclusion:
        out_console.print(sentence, markup=False)


def _overrides(
    task: Task,
    target: str | None,
    epochs: int | None,
    pretrained: bool | None,
    pairs: list[str] | None,
) -> dict[str, Any]:
    """Keys of the recipe that options change.

    Raises:
        UsageError: a target for a classification; a pair that is not `key=value`.
    """
    from halometry.errors import UsageError
    from halometry.runs.recipe import parse_overrides

    if target is not None and task == "classification":
        raise UsageError("--target is for --task regression")
    options = {"target": target, "epochs": epochs, "pretrained": pretrained}
    given = {key: value for key, value in options.items() if value is not None}
    return given | parse_overrides(pairs or [])
