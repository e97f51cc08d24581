"""Parts of the reference that follow from the code: commands, keys of a recipe, trained weights.

`research/tables.py` writes them between `<!-- reference NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer.main
from pydantic.fields import FieldInfo

from halometry import list_weights
from halometry.cli import app
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.metrics import METRIC_TITLES, key_metric
from halometry.resources import weights_folder
from halometry.runs.recipe import Recipe
from halometry.runs.run import load_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
# Comparison or mapping benchmark that measured the time per image of the weights.
TIMES = {
    "common_test_1/d4net": "common_test_1_d4net",
    "halo_mass/d4net": "halo_mass_d4net",
    "halo_mass/d4net_deep": "halo_mass_d4net_deep",
    "common_test_1/d4net_mapped": "mapping",
    "halo_mass/d4net_mapped": "mapping",
    "common_test_1_broad/d4net_mapped": "mapping_broad",
    "halo_mass_broad/d4net_mapped": "mapping_broad",
}
# Result of `halometry robustness` for the weights.
ROBUSTNESS = {
    "common_test_1/d4net": "robustness",
    "common_test_1/d4net_mapped": "robustness_mapped",
    "common_test_1_broad/d4net_mapped": "robustness_broad",
    "halo_mass/d4net": "robustness_mass",
    "halo_mass/d4net_mapped": "robustness_mass_mapped",
    "halo_mass_broad/d4net_mapped": "robustness_mass_broad",
}
SHIFTS = {
    "exposure": "exposure",
    "sky": "sky",
    "psf": "width of the PSF",
    "pixel_scale": "pixel scale",
    "source_size": "size of the source",
    "shear": "shear",
    "added_lens_light": "light of the lens / source's",
}
MIN_AUC, MIN_R2 = 0.95, 0.5


def markdown(rows: list[list[str]]) -> str:
    """Rows as a Markdown table; the first is the head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def commands() -> str:
    """All commands by panel, with arguments, options, defaults and an example."""
    group: Any = typer.main.get_command(app)
    panels: dict[str, list[Any]] = {}
    for command in group.commands.values():
        panels.setdefault(command.rich_help_panel, []).append(command)
    sections = []
    for panel, members in panels.items():
        sections += [f"## {panel}", *map(_command, members)]
    return "\n\n".join(sections)


def _command(command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    required = [p for p in command.params if p.param_type_name == "option" and p.required]
    words = ["halometry", command.name]
    words += [f"{p.opts[0]} {p.name.upper()}" for p in required]
    words += [_argument(p) for p in arguments]
    rows = [["", "default", ""]]
    for parameter in command.params:
        names = "`, `".join([*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = _argument(parameter)
        rows.append([f"`{names}`", _default(parameter), parameter.help or ""])
    parts = [f"### {command.name}", command.help]
    parts.append(f"```text\n{' '.join(words)} [OPTIONS]\n```")
    if len(rows) > 1:
        parts.append(markdown(rows))
    example = command.epilog.removeprefix("Example: ")
    return "\n\n".join([*parts, f"```sh\n{example}\n```"])


def _argument(parameter: Any) -> str:
    name = parameter.name.upper() + "..." * (parameter.nargs == -1)
    return str(name if parameter.required else f"[{name}]")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return f"`{parameter.show_default}`"
    if parameter.default in (None, ()):
        return ""
    if isinstance(parameter.default, bool):
        return "on" if parameter.default else "off"
    return f"`{parameter.default}`"


def recipe_keys() -> str:
    """All keys of a recipe, with their values, defaults and meanings."""
    rows = [["key", "values", "default", "meaning"]]
    meanings = _meanings(Recipe)
    for name, field in Recipe.model_fields.items():
        if name in meanings:
            default = "none" if field.default in (None, ()) else str(field.default).lower()
            rows.append([f"`{name}`", _values(field), default, meanings[name]])
    return markdown(rows)


def _meanings(described: type) -> dict[str, str]:
    """Text of each attribute in a docstring; several attributes may share one text."""
    text = (described.__doc__ or "").partition("Attributes:\n")[2]
    meanings = {}
    for entry in re.split(r"\n {8}(?=\w)", "\n" + text.split("\n\n")[0].rstrip())[1:]:
        names, _, meaning = entry.partition(": ")
        for name in names.split(", "):
            meanings[name] = " ".join(meaning.split()).replace("|", "\\|")
    return meanings


def _values(field: FieldInfo) -> str:
    """Allowed values of a key in words."""
    kinds = [field.annotation]
    if get_origin(field.annotation) in (Union, types.UnionType):
        kinds = [one for one in get_args(field.annotation) if one is not type(None)]
    (kind,) = kinds
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    limits = " ".join(
        f"{sign} {getattr(one, name):g}"
        for one in field.metadata
        for name, sign in (("gt", "&gt;"), ("ge", "≥"), ("lt", "&lt;"), ("le", "≤"))
        if getattr(one, name, None) is not None
    )
    names: dict[Any, str] = {int: "whole number", float: "number", bool: "`true`, `false`"}
    name = names.get(kind, "list of whole numbers")
    return f"{name} {limits}".strip()


def model_zoo() -> str:
    """All trained weights of the package, from their records and result files."""
    rows = [["weights", "task", "input", "trained on", "own test set", "new images",
             "time per image"]]  # fmt: skip
    new_images = _metrics_on_new_images()
    for name in list_weights():
        run = load_run(name)
        data, record = run.config.data, run.training_metrics()
        card = f"../../{weights_folder(name).relative_to(ROOT)}/README.md"
        mapped = data.mass_map_preset is not None
        key = key_metric(run.config.task)
        rows.append(
            [
                f"[`{name}`]({card})",
                "class" if run.config.task == "classification" else "f_sub",
                "mass map" if mapped else "raw image",
                f"{record['images']:,} images",
                f"{METRIC_TITLES[key]} {Interval(**record['test']['metrics'][key])}",
                new_images.get(name, ""),
                time_per_image(name),
            ]
        )
    return markdown(rows)


def _metrics_on_new_images() -> dict[str, str]:
    """Main metric of each weights on new images, mapped without the true lens."""
    cells: dict[str, str] = {}
    for file in ("mapped_blind", "mapped_blind_mass"):
        head, *rows = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["rows"]
        cells |= {row[0]: f"{head[1]} {row[1]}" for row in rows}
    return cells


def time_per_image(name: str) -> str:
    """Time of one core for a prediction, with the fit and the map where the input is a map."""
    record = json.loads((RESULTS / f"{TIMES[name]}.json").read_text(encoding="utf-8"))
    if "models" in record:
        return f"{record['models'][0]['cost']['latency_ms']['median']:.0f} ms"
    return f"{record['seconds']['blind'][0]:.1f} s"


def tolerance() -> str:
    """Range of each shift over which trained weights stay accurate, from the robustness results.

    A range ends at the last step from the training preset with an AUC of at least `MIN_AUC`, or an
    R² of at least `MIN_R2`.
    """
    rows = [["weights", *SHIFTS.values()]]
    for name, file in ROBUSTNESS.items():
        steps = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["steps"]
        rows.append([f"`{name}`", *(tolerated_range(steps, shift) for shift in SHIFTS)])
    return markdown(rows)


def tolerated_range(steps: list[dict[str, Any]], shift: str) -> str:
    """Smallest and largest factor of a shift that is tolerated, with all between them."""
    unshifted = 0.0 if shift == "added_lens_light" else 1.0
    accurate = {
        step["factor"]: step["metrics"].get("auc", step["metrics"].get("r2"))["value"]
        >= (MIN_AUC if "auc" in step["metrics"] else MIN_R2)
        for step in steps
        if step["shift"] == shift
    }
    if not accurate:
        return "not measured"
    low = high = unshifted
    for factor in sorted((f for f in accurate if f < unshifted), reverse=True):
        if not accurate[factor]:
            break
        low = factor
    for factor in sorted(f for f in accurate if f > unshifted):
        if not accurate[factor]:
            break
        high = factor
    return f"{unshifted:g} only" if low == high else f"{low:g} to {high:g}"


REFERENCES = {
    "commands": commands,
    "recipe_keys": recipe_keys,
    "model_zoo": model_zoo,
    "tolerance": tolerance,
}
