"""Rewrite files of the formats used before the first release in the current formats.

    python research/migrate_formats.py src/halometry/runs/weights/*/*
    python research/migrate_formats.py results/*.json

A folder is taken for a run folder, a file for a result file. Only names, keys and the layout
change; numbers and the tensors' bytes stay. Files in the current format are left as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from halometry.io import write_json


def migrate_run(folder: Path) -> None:
    """Rewrite all files of a run folder."""
    _migrate_split(folder / "split.json")
    _migrate_lineage(folder / "earlier.json")


def _migrate_split(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    if "format" not in content:
        write_json(path, "split", _split(content))


def _migrate_lineage(path: Path) -> None:
    if not path.is_file():
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    datasets = [
        {"data": entry["data"], "split": _split(json.loads(entry["split"]))} for entry in content
    ]
    write_json(path.with_name("lineage.json"), "lineage", {"datasets": datasets})
    path.unlink()


def _split(content: dict[str, Any]) -> dict[str, Any]:
    return {"seed": content["seed"], "parts": content["images"]}


FREED_CONSTANTS = (
    "source_radius",
    "source_index",
    "source_brightness",
    "psf_sigma",
    "sky",
    "lens_e1",
    "lens_e2",
)
# New keys in results of fits, by the stem of the file. A key that ends in `*` is a prefix.
FIT_KEYS = {
    "published_images": {
        "real*": "published*",
        "line*": "vortex*",
        "chi_square": "reduced_chi2",
        **{f"{name}/chi_square": "chi2" for name in FREED_CONSTANTS},
        "reduced_chi_square": "reduced_chi2",
        "scatter": "reduced_chi2_std",
        "scatter_expected": "std_expected",
        "gain": "delta_2lnL",
        "gains": "delta_2lnL_steps",
        "gain_median": "delta_2lnL_median",
        "least_gain": "min_delta_2lnL",
        "p_value_total_gain": "p_value_delta_2lnL",
        "starts": "agreeing_starts",
        "counts": "is_counts",
        "file": "image",
        "smooth_laws": "smooth_lens",
        "least": "min",
        "most": "max",
        "fraction_most": "fraction_max",
        "radius_most": "radius_max",
        "disc": "disk",
        "disc_over_uniform": "delta_2lnL_disk_uniform",
        "radius_disc_over_uniform": "radius_delta_2lnL_disk_uniform",
        "share_recovered": "fraction_recovered",
        "number_real_over_simulated": "number_published_over_simulated",
    },
    "published_masses": {
        "chi_square": "chi2",
        "chance_of_more": "p_value",
        "apart": "difference_sigma",
        "low_68": "lo68",
        "high_68": "hi68",
    },
    "sampled_masses": {
        "who": "methods",
        "left": "mse_ratio",
        "scale_reduction": "r_hat",
        "doubtful": "warnings",
    },
    "fit_coverage": {
        "reduced_chi_square": "reduced_chi2",
        "seconds/low": "lower_quartile",
        "seconds/high": "upper_quartile",
        "seconds/most": "max",
    },
    "likelihood_gain": {},
    "mass_bound": {},
}
FIT_KEYS["fit_coverage_estimated"] = FIT_KEYS["fit_coverage"]


def migrate_result(path: Path) -> None:
    """Rewrite a result file."""
    if path.stem not in FIT_KEYS:
        raise NotImplementedError(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    if "format" not in content:
        content["halometry_version"] = content.pop("version")
        write_json(path, "measurement", _renamed(content, FIT_KEYS[path.stem]))


def _renamed(content: Any, keys: dict[str, str], parent: str = "") -> Any:
    """Rename keys at all levels; a key may be given with its parent, as `parent/key`."""
    if isinstance(content, list):
        return [_renamed(item, keys, parent) for item in content]
    if not isinstance(content, dict):
        return content
    prefixes = {old[:-1]: new[:-1] for old, new in keys.items() if old.endswith("*")}
    renamed = {}
    for key, value in content.items():
        new = keys.get(f"{parent}/{key}", keys.get(key))
        if new is None:
            old = next((p for p in prefixes if key.startswith(p)), "")
            new = prefixes.get(old, "") + key[len(old) :]
        renamed[new] = _renamed(value, keys, key)
    return renamed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="run folders and result files")
    for path in parser.parse_args().paths:
        if path.is_dir():
            migrate_run(path)
        else:
            migrate_result(path)


if __name__ == "__main__":
    main()
