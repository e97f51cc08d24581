"""Render the tables in README.md and docs/ from the result files they name.

`python research/tables.py` writes them; with `--check` it only says what is out of date. A table
stands between `<!-- table FILE -->` and `<!-- end -->`. One of a preset's parameters, with units
and ranges, stands between `<!-- parameters PART -->` and `<!-- end -->`. Parts of the reference
that follow from the code, and the tables of the README, stand between `<!-- reference NAME -->`
and `<!-- end -->`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import AfterValidator
from pydantic.fields import FieldInfo
from readme_tables import README_TABLES
from reference_tables import REFERENCES

import halometry.simulation.config as parts
from halometry.compare.schema import ComparisonRecord, read_comparison_record
from halometry.compare.tables import markdown_table
from halometry.io import PREFIX

ROOT = Path(__file__).resolve().parents[1]
MAX_LOAD = 0.3  # of other processes, above which rates are not reliable; as in `benchmarks/`
PARAMETERS = re.compile(r"(<!-- parameters (?P<part>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
REFERENCE = re.compile(r"(<!-- reference (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PLACE = re.compile(r"(<!-- table (?P<file>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return a page with all its tables as in the result files."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}{_render_result(ROOT / match['file'])}\n{match[3]}"

    def parameters(match: re.Match[str]) -> str:
        return f"{match[1]}{_parameters(match['part'])}\n{match[3]}"

    def reference(match: re.Match[str]) -> str:
        return f"{match[1]}{(REFERENCES | README_TABLES)[match['name']]()}\n{match[3]}"

    return REFERENCE.sub(reference, PARAMETERS.sub(parameters, PLACE.sub(table, text)))


def _render_result(path: Path) -> str:
    """Table and caption of a result file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != f"{PREFIX}comparison":
        return f"{_table(content)}\n\n{_caption(content)}"
    record = read_comparison_record(path)
    provenance = _provenance(record.date, record.machine)
    return f"{markdown_table(record)}\n\n*{provenance}; {_training(record)}.*"


def _parameters(part: str) -> str:
    """The keys of a part of a preset; what a key without a range holds stands in the text."""
    rows = [["key", "unit", "range", ""], ["---"] * 4]
    for name, field in getattr(parts, part).model_fields.items():
        needed = "" if field.is_required() else "optional"
        checks: list[Any] = [m.func for m in _metadata(field) if isinstance(m, AfterValidator)]
        for check in checks:
            unit = check.unit + (f" or {check.also}" if check.also else "")
            rows.append([f"`{name}`", unit, f"{check.low:g} to {check.high:g}", needed])
    return _markdown(rows)


def _metadata(field: FieldInfo) -> list[Any]:
    """Annotations of a field, also within `X | None`."""
    inner = [m for one in get_args(field.annotation) for m in getattr(one, "__metadata__", ())]
    return [*field.metadata, *inner]


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _table(record: dict[str, Any]) -> str:
    if "rows" in record:
        head, *rows = record["rows"]
    elif "constants" in record:
        head = ["", "published images", "simulated, or the preset"]
        rows = _published_images(record)
    elif "against_simulated" in record:
        head = [
            "published images against",
            "images of each in the test",
            "network's AUC",
            "forest's AUC",
        ]
        kinds = {
            "against_simulated": f"simulated by `{record['preset']}`",
            "published_against_published": "other published images",
            "against_wrong": "simulated with a PSF wider by a seventh",
        }
        rows = [
            [told, f"{record[kind]['images_of_each']['test']:,}"]
            + [_interval(record[kind][f"{way}_auc"]) for way in ("network", "forest")]
            for kind, told in kinds.items()
            if kind in record
        ]
    elif "coverage" in record:
        head = ["parameter", "within 68 %", "within 95 %"]
        rows = [
            [name, *(_interval(shares[level]) for level in ("68", "95"))]
            for name, shares in record["coverage"].items()
        ]
    else:
        raise ValueError(f"no table can be made of a record of {', '.join(record)}")
    return _markdown([head, ["---"] * len(head), *rows])


def _published_images(record: dict[str, Any]) -> list[list[str]]:
    """Return the results of fits of published images beside those expected."""
    vortex, subhalos = record["vortex"], record["subhalos"]
    rows = [
        [f"reduced χ², `{kind}`, {len(one['each'])} images",
         f"{one['mean']:.3f} ± {one['error_of_mean']:.3f}", "1"]
        for kind, one in record["reduced_chi2"].items()
    ]  # fmt: skip
    for name, one in record["constants"].items():
        if name == "reduced_chi2":
            continue
        digits = 1 - math.floor(math.log10(one["error"]))
        found = f"{one['mean']:.{digits}f} ± {one['error']:.{digits}f}"
        rows.append([f"`{name}`, where free", found, f"{one['preset']:g}"])
    for name, law in (
        ("mass fraction", vortex["mass_fraction"]),
        ("length (arcsec)", vortex["length"]),
    ):
        (low, _), (_, high) = law["low"]["68"], law["high"]["68"]
        found = f"{law['min']:.3g} to {law['max']:.3g}; ends within {low:.3g} and {high:.3g} (68 %)"
        rows.append([f"vortex, {name}", found, "{:g} to {:g}".format(*law["preset"])])
    low, high = vortex["offset"]["uniform"]["68"]
    preset_offset = f"{vortex['offset']['preset']:g}"
    rows.append(
        [
            "vortex, largest distance of the center (arcsec)",
            f"{low:.2f} to {high:.2f} (68 %)",
            preset_offset,
        ]
    )
    published, simulated = subhalos["published"], subhalos["simulated"]
    number = [
        f"{one['found_mean']:.1f} ± {one['found_error']:.1f}" for one in (published, simulated)
    ]
    rows.append(["point masses found per image", *number])
    for what, digits in (("fraction", 4), ("radius", 2)):
        cells = [f"{one[what + '_quartiles'][1]:.{digits}f}" for one in (published, simulated)]
        rows.append([f"their median {what}, p = {subhalos['p_value_' + what]:.2f}", *cells])
    return rows


def _interval(share: dict[str, float]) -> str:
    return f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def _caption(record: dict[str, Any]) -> str:
    """When, where and how the numbers were measured, after the conclusion if there is one."""
    provenance = _provenance(record["date"], record["machine"])
    if record.get("load_before", 0) > MAX_LOAD:
        provenance += f"; the load was {record['load_before']:g} when it began"
    return "\n\n".join([*record.get("conclusion", ()), f"*{provenance}.*"])


def _provenance(date: str, machine: Mapping[str, Any]) -> str:
    device = "" if machine["device"] == "CPU" else f", {machine['device']}"
    return f"{date[:10]}, {machine['processor']}, {machine['cores']} cores{device}"


def _training(record: ComparisonRecord) -> str:
    """Number of test images, seed, and training images of each network."""
    networks = []
    for model in record.models:
        training = model.training
        text = f"{training.images:,} images ("
        if training.online_images == training.images:
            text += "all simulated online and seen once,"
        elif training.online_images:
            text += f"{training.online_images:,} simulated online and seen once, the others in "
        if training.online_images < training.images:
            text += f"{training.epochs:g} epoch{'s' * (training.epochs != 1)},"
        text += f" {training.images_per_second:.0f} per second"
        if model.start.startswith("weights of the run"):
            text += ", initialized from trained weights"
        networks.append(f"{text}) for {model.name}")
    test = f"{record.data.test:,} test images; seed {record.seed}"
    return f"{test}; trained on {', '.join(networks)}"


def main() -> None:
    check = "--check" in sys.argv
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        if (wanted := render(text)) != text:
            stale.append(page.name)
            if not check:
                page.write_text(wanted, encoding="utf-8")
    print("out of date:" if check else "written anew:", ", ".join(stale) or "none")
    sys.exit(check and bool(stale))


if __name__ == "__main__":
    main()
