"""Subcommands that inform: backbones, presets, instruments, recipes, weights, doctor."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from halometry.cli.app import TaskOption, subcommand
from halometry.cli.output import new_table, out_console, print_line

PANEL = "Inform"


@subcommand(PANEL, "halometry backbones resnet50")
def backbones(
    names: Annotated[list[str] | None, typer.Argument(help="Names that timm knows.")] = None,
) -> None:
    """List the networks (backbones) that can be trained."""
    from halometry.models import list_backbones

    table = new_table("name", "in timm", "parameters", "features", "stride (px)")
    for info in list_backbones(names):
        parameters = f"{info.n_parameters / 1e6:.2f} M"
        timm_name = info.timm_name or "-"
        table.add_row(info.name, timm_name, parameters, str(info.n_features), str(info.stride))
    out_console.print(table)
    print_line(
        "Any other name of timm works too: python -c 'import timm; print(timm.list_models())'"
    )


@subcommand(PANEL, "halometry presets common_test_1")
def presets(
    name: Annotated[str | None, typer.Argument(help="Preset to print in full.")] = None,
) -> None:
    """List the presets for simulations, or print one with its parameters, units and sources."""
    from halometry.simulation import list_presets, load_preset, preset_text

    if name is not None:
        print_line(preset_text(name).rstrip())
        return
    table = new_table("name", "task", "image", "description")
    for preset_name in list_presets():
        preset = load_preset(preset_name)
        size = f'{preset.image.pixels} px of {preset.image.pixel_scale:g}"'
        table.add_row(preset_name, preset.task, size, escape(preset.summary))
    out_console.print(table)


@subcommand(PANEL, "halometry instruments euclid_vis")
def instruments(
    name: Annotated[str | None, typer.Argument(help="Instrument to print in full.")] = None,
) -> None:
    """List the instruments, or print one with its parameters, units and sources."""
    from halometry.simulation import list_instruments, load_instrument
    from halometry.simulation.instrument import instrument_text

    if name is not None:
        print_line(instrument_text(name).rstrip())
        return
    table = new_table("name", "pixel", "PSF", "description")
    for instrument_name in list_instruments():
        instrument = load_instrument(instrument_name)
        fwhm = f'{instrument.psf_fwhm.value}"' if instrument.psf_fwhm else "file"
        scale = f'{instrument.pixel_scale.value}"'
        table.add_row(instrument_name, scale, fwhm, escape(instrument.description))
    out_console.print(table)


@subcommand(PANEL, "halometry recipes baseline --task regression --backbone resnet18")
def recipes(
    name: Annotated[str | None, typer.Argument(help="Recipe to print in full.")] = None,
    task: TaskOption = "classification",
    backbone: Annotated[str, typer.Option(help="Backbone that the recipe is for.")] = "resnet18",
) -> None:
    """List the training recipes, or print one as it is for a task and a backbone."""
    from halometry.runs.recipe import list_recipes, load_recipe

    if name is None:
        table = new_table("name", "description")
        for recipe_name in list_recipes():
            table.add_row(recipe_name, load_recipe(recipe_name).description)
        out_console.print(table)
        return
    recipe = load_recipe(name).resolve(task, backbone)
    print_line(f"{name}, {task}, {backbone}")
    table = new_table("key", "value")
    for key, value in recipe.model_dump(exclude={"name", "description"}).items():
        table.add_row(key, escape(str(value)))
    out_console.print(table)


@subcommand(PANEL, "halometry weights common_test_1/d4net")
def weights(
    name: Annotated[
        str | None, typer.Argument(help="Weights to describe, or hf://USER/REPO.")
    ] = None,
) -> None:
    """List the trained weights, or print the model card of one."""
    from halometry.publish.card import read_card, summarize_weights
    from halometry.resources import list_weights, weights_folder

    if name is not None:
        print_line(read_card(name).rstrip())
        return
    names = list_weights()
    if not names:
        print_line("this installation contains no weights; see 'halometry train'")
        return
    table = new_table("name", "task", "parameters", "on test images")
    table.columns[1].no_wrap = True
    for weights_name in names:
        table.add_row(weights_name, *map(escape, summarize_weights(weights_folder(weights_name))))
    out_console.print(table)


@subcommand(PANEL, "halometry doctor --benchmark")
def doctor(
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Time a small network to find the fastest setting.")
    ] = False,
) -> None:
    """Print versions and the state of this machine, and what is wrong with the installation."""
    from halometry.doctor import diagnose

    diagnosis = diagnose(benchmark=benchmark)
    table = new_table("item", "value")
    for key, value in diagnosis.facts.items():
        table.add_row(key, escape(value))
    out_console.print(table)
    for note in diagnosis.notes:
        print_line(f"note: {note}")
    for problem in diagnosis.problems:
        print_line(f"problem: {problem}")
    if diagnosis.problems:
        raise typer.Exit(1)
    print_line("no problems found")
