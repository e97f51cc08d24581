"""Verbs that tell how far answers can be trusted, and carry: to a population, to other images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from halometry.cli.app import (
    DataOption,
    DeviceOption,
    FolderArgument,
    MappersOption,
    RunArgument,
    SeedOption,
    app,
    out_console,
    print_rows,
    processes,
    tell,
)


class Method(StrEnum):
    integrated_gradients = "integrated_gradients"
    saliency = "saliency"
    occlusion = "occlusion"


class Law(StrEnum):
    gamma = "gamma"
    log_normal = "log_normal"


@app.command()
def calibrate(
    run: Annotated[str, typer.Argument(help="A run folder, which is written to.")],
    data: DataOption,
    device: DeviceOption = "auto",
) -> None:
    """Calibrate a finished run anew: probabilities, sets and intervals."""
    from halometry.runs.calibrate import calibrate as settle

    made = settle(run, data, device)
    if made.run.config.class_names:
        shifts = zip(made.run.config.class_names, made.bias, strict=True)
        biases = ", ".join(f"{name} {value:+.3f}" for name, value in shifts)
        tell(f"temperature {made.temperature:.3f}, bias {biases}")
    tell(f"sets and intervals from {made.conformal.images} -> {run}")


@app.command()
def sensitivity(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="A folder for numbers and figures.")] = Path(
        "sensitivity"
    ),
    preset: Annotated[
        str | None, typer.Option(help="The lenses' preset, where it is not the run's own.")
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Lenses that each mass is put into.")] = 100,
    seed: SeedOption = 0,
    false_positives: Annotated[
        float, typer.Option(help="Share of smooth lenses that is called lumpy.")
    ] = 0.01,
    lens: Annotated[int, typer.Option(min=0, help="Number of the lens that is mapped.")] = 0,
    grid: Annotated[int, typer.Option(help="Places along the map's side.")] = 13,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Measure which single subhalos a run finds, beside what the data allow."""
    from halometry.sensitivity.command import measure_sensitivity as measure

    asked = processes(workers)
    seen = measure(run, out, preset, count, seed, false_positives, lens, grid, device, asked)
    tell("log10 of the mass (Msun) of which so many are found, 95 % intervals")
    print_rows(seen.record["rows"])
    for sentence in seen.record["conclusion"]:
        tell(sentence)
    tell(f"curves and maps -> {out}")


@app.command()
def population(
    predictions: Annotated[Path, typer.Argument(help="A CSV file that 'predict' wrote.")],
    prior: Annotated[
        str | None,
        typer.Option(
            help="What the network was trained on: a run, a preset, a labeled set, a CSV file of"
            " masses, or shares of classes as no=1,sphere=1,vort=1 (equal if not given)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for population.json, .csv and .png.")
    ] = None,
    law: Annotated[Law, typer.Option(help="Of the masses.")] = Law.gamma,
    seed: SeedOption = 0,
) -> None:
    """Infer class fractions, or mean and spread of the mass, from many lenses' answers."""
    from halometry.population.command import infer_population as infer
    from halometry.population.tables import print_population

    print_population(infer(predictions, prior, out, law.value, seed), out_console)
    if out is not None:
        tell(f"population -> {out}")


@app.command()
def robustness(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="A folder for robustness.json, .csv and .png.")
    ] = None,
    count: Annotated[int, typer.Option(min=30, help="Images a step.")] = 300,
    shifts: Annotated[
        str | None, typer.Option(help="Only these, separated by commas, such as sky,psf.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="To move away from, where it is not the run's own.")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Judge a run on images that move away from those it was trained on."""
    from halometry.robustness.command import measure_robustness as measure
    from halometry.robustness.tables import print_robustness

    names = [name.strip() for name in shifts.split(",") if name.strip()] if shifts else None
    asked = processes(workers)
    found = measure(run, out, count, names, seed, device, preset=preset, workers=asked)
    print_robustness(found, out_console)
    if out is not None:
        tell(f"robustness -> {out}")


@app.command()
def attribution(
    run: FolderArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Your own images; new ones of the run's preset if not given."),
    ] = None,
    out: Annotated[Path, typer.Option(help="A folder for maps, figures and tables.")] = Path(
        "attribution"
    ),
    method: Annotated[Method, typer.Option(help="Of the maps.")] = Method.integrated_gradients,
    count: Annotated[int, typer.Option(min=12, help="New images.")] = 200,
    preset: Annotated[
        str | None, typer.Option(help="Their preset, where it is not the run's own.")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Show what a run's answers rest on, beside the substructure that is there."""
    from halometry.attribution.command import explain_predictions as look

    asked = processes(workers)
    made = look(run, files, out, method.value, count, preset, seed, device, asked)
    if made.pointing:
        print_rows(made.rows)
    tell(f"{len(made.looks)} maps -> {out}")
