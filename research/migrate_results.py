"""Rewrite result files of the formats used before the first release in the current formats.

Used by `migrate_formats.py`. Keys and the words of tables change; numbers, `command` and the
recorded versions stay. The conclusion of a comparison is written again from its numbers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from halometry.compare.ranking import conclusion
from halometry.compare.schema import ComparisonRecord
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.records import CalibrationRecord, CoverageRecord, PosteriorRecord
from halometry.io import header, write_text
from halometry.robustness.shifts import SHIFTS
from halometry.robustness.tables import TITLES
from halometry.sensitivity.tables import HEADER as SENSITIVITY_HEADER
from halometry.sensitivity.tables import format_ratio

KEYS = {  # at any depth
    "selection": "validation",
    "selection_loss": "val_loss",
    "selection_metric": "val_metric",
    "fresh_images": "online_images",
    "ece_by_noise": "ece_bias",
    "unlike": "ood_fraction",
    "cut_log_odds": "threshold_log_odds",
    "search_threshold_sigma": "trials_threshold_sigma",
    "behind_dex": "delta_log10_mass",
    "scale_reduction": "r_hat",
    "real_against_real": "published_against_published",
}
OBSERVERS = {
    "lens known": "ideal_fixed_lens",
    "lens fitted": "ideal_fitted_lens",
    "lens fitted, place sought": "ideal_blind_search",
}
FREED_CONSTANTS = (
    "source_radius",
    "source_index",
    "source_brightness",
    "psf_sigma",
    "sky",
    "lens_e1",
    "lens_e2",
)
# New keys in single files, by the stem of the file. A key that ends in `*` is a prefix.
FILE_KEYS = {
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
    "out_of_distribution": {
        "rate": "false_positive_rate",
        "compared_with": "n_reference",
        "familiar": "in_distribution",
        "real_familiar": "published",
        "hackathon_2020, real": "hackathon_2020, published",
        "lens_finding, real": "lens_finding, published",
        "median_strangeness": "median_score",
        "for": "reasons",
        "centre": "center",
        "off centre by 25 pixels": "off center by 25 pixels",
        "familiarity": "p_value",
        "strangeness": "score",
        "unusual": "reason",
    },
    "posteriors": {
        "r2_more_than_plain": "r2_minus_plain",
        "flow, backbone held": "flow, frozen backbone",
        "Gaussian, backbone held": "Gaussian, frozen backbone",
    },
}
FILE_KEYS["fit_coverage_estimated"] = FILE_KEYS["fit_coverage"]
FILE_KEYS["population"] = {"pool_shares": "pool_fractions", "spread": "std"}
ATTRIBUTION_HEADER = ["maximum of the map at", "lenses", "radius", "hits", "by chance",
                      "above chance"]  # fmt: skip
TEXTS = (  # in `what` and the cells of tables
    (r"selection images", "validation images"),
    (r"^calibration error as given$", "calibration error after calibration"),
    (r"^cross-entropy as given$", "cross-entropy after calibration"),
    (r"^the same, less its bias$", "debiased"),
    (r"^of noise alone$", "bias of calibrated probabilities"),
    (r"^sets of (\d+ %) hold the truth$", r"coverage of sets of \1"),
    (r"^of images of `(\w+)`$", r"coverage of images of `\1`"),
    (r"^classes in a set of (\d+ %), mean$", r"mean number of classes in a set of \1"),
    (r"^share of sets by size$", "sets by size"),
    (r"^conformal intervals of (\d+ %) hold the truth$", r"coverage of conformal \1 intervals"),
    (r"^their mean width at (\d+ %)$", r"mean width of conformal \1 intervals"),
    (r"^within (\d+ %)", r"coverage of \1 intervals"),
    (r"^of the error is left$", "error ratio"),
    (r"^apart, in their errors$", "difference in standard errors"),
    (r"^answers differ by$", "largest difference"),
    (r"^mostly for$", "most frequent reason"),
    (r"^familiar, fresh$", "new, in distribution"),
    (r"^(hackathon_2020|lens_finding), real$", r"\1, published"),
    (r"^without fresh images, and so without heavy ones$",
     "without online simulation and curriculum"),
    (r"^without heavy substructure at first$", "without curriculum"),
    (r"^without the map of the mass$", "without mass-map loss"),
    (r"^without the running mean of weights$", "without EMA"),
    (r"^centre$", "center"),
    (r"^off centre by\b", "off center by"),
    (r"^who$", "method"),
    (r"^fresh images$", "new images"),
    (r"\breal images of common_test_1, judged by a network that saw only simulated ones\b",
     "published images of common_test_1, predicted by a network trained on simulated images"),
    (r"\bsimulated and on real images\b", "simulated and on published images"),
    (r"\btell real images from others\b", "tell published images from others"),
    (r"^real$", "published"),
    (r"\bbackbone held$", "frozen backbone"),
    (r"^images unlike those a run was trained on, told from fresh ones that are alike$",
     "OOD detection: images that differ from the training images of a run, against new"
     " in-distribution images"),
    (r"^posteriors on a plain run's features against its own answers, on images that no run has"
     r" seen$", "posteriors from the features of a plain run, compared with its own predictions on"
     " new images"),
    (r"\bon fresh images$", "on new images"),
    (r"halo_mass, real and simulated$", "halo_mass, published and simulated"),
)  # fmt: skip


def migrate_result(path: Path) -> None:
    """Rewrite a result file; one in the current format is left as it is."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if "halometry_version" in content:
        return
    name = content.pop("format", "halometry-measurement").removeprefix("halometry-")
    recorded = content.pop("version", None)
    content.pop("format_version", None)
    version = (
        recorded if isinstance(recorded, str) else content.get("versions", {}).get("halometry")
    )
    content = _rename(content)
    for stem, patterns in KEY_PATTERNS.items():
        if path.stem.startswith(stem):
            content = _rename_patterns(content, patterns)
    if path.stem in FILE_KEYS:
        content = _rename_fit_keys(content, FILE_KEYS[path.stem])
    if name == "comparison":
        content = _comparison(content)
    elif name == "robustness":
        _robustness(content)
    elif name == "sensitivity":
        content = _sensitivity(content)
    elif name == "attribution":
        content["rows"][0] = ATTRIBUTION_HEADER
        for row in content["rows"]:
            row[0] = row[0].replace("the line of mass", "the vortex")
    else:
        _measurement(content)
    head = header(name) | {"halometry_version": version or "0.1.0"}
    write_text(path, json.dumps(head | content, indent=1, ensure_ascii=False) + "\n")


def _rename(value: Any) -> Any:
    if isinstance(value, dict):
        return {KEYS.get(key, key): _rename(inner) for key, inner in value.items()}
    return [_rename(inner) for inner in value] if isinstance(value, list) else value


# Patterns of keys in results on published images, by the beginning of the file's stem.
KEY_PATTERNS = {
    "hackathon_two_sample": (
        (r"^median_real$", "median_published"),
        (r"^share above", "fraction above"),
        (r"^scatter at", "std at"),
        (r"^background scatter$", "background std"),
        (r"^asymmetry turned by", "asymmetry rotated by"),
        (r"^centre$", "center"),
    ),
    "hackathon_2020_simulated": ((r"^judged$", "evaluations"), (r"^real$", "published")),
    "hackathon_2020_recipe": (
        (r"_of_any_law$", "_of_any_distribution"),
        (r"^laws$", "distributions"),
        (r"^scatter$", "std"),
    ),
    "published_beside_simulated": ((r"^real$", "published"),),
    "simulated_to_published": ((r"^right$", "correct"), (r"^of$", "count")),
}


def _rename_patterns(value: Any, patterns: tuple[tuple[str, str], ...]) -> Any:
    if isinstance(value, list):
        return [_rename_patterns(item, patterns) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {}
    for key, inner in value.items():
        new = key
        for pattern, replacement in patterns:
            new = re.sub(pattern, replacement, new)
        renamed[new] = _rename_patterns(inner, patterns)
    return renamed


def _rename_fit_keys(content: Any, keys: dict[str, str], parent: str = "") -> Any:
    """Rename keys at all levels; a key may be given with its parent, as `parent/key`."""
    if isinstance(content, list):
        return [_rename_fit_keys(item, keys, parent) for item in content]
    if not isinstance(content, dict):
        return content
    prefixes = {old[:-1]: new[:-1] for old, new in keys.items() if old.endswith("*")}
    renamed = {}
    for key, value in content.items():
        new = keys.get(f"{parent}/{key}", keys.get(key))
        if new is None:
            old = next((p for p in prefixes if key.startswith(p)), "")
            new = prefixes.get(old, "") + key[len(old) :]
        renamed[new] = _rename_fit_keys(value, keys, key)
    return renamed


def _replace_texts(text: str) -> str:
    for pattern, replacement in TEXTS:
        text = re.sub(pattern, replacement, text)
    return text


def _comparison(content: dict[str, Any]) -> dict[str, Any]:
    content["best_minus_second"] = content.pop("lead", None)
    for model in content["models"]:
        trust = model.pop("trust", {})
        model["calibration"] = trust.get("calibration")
        model["coverage"] = _coverage(trust["conformal"]) if "conformal" in trust else None
        if model.get("posterior"):
            model["posterior"] = _posterior(model["posterior"])
    content["conclusion"] = []
    record = ComparisonRecord.model_validate(content)
    content["conclusion"] = conclusion(record)
    return content


def _coverage(content: dict[str, Any]) -> dict[str, Any]:
    levels = [
        {"nominal": level["level"], "coverage": level["coverage"], "mean_size": level["mean_size"]}
        | ({"classes": level["classes"]} if "classes" in level else {})
        | ({"fraction_by_size": level["share_by_size"]} if "share_by_size" in level else {})
        for level in content["levels"]
    ]
    coverage = {
        "images": content["from"],
        "held_out": content["untouched"],
        "interval": content["interval"],
        "levels": levels,
    }
    CoverageRecord.model_validate(coverage)
    return coverage


def _posterior(content: dict[str, Any]) -> dict[str, Any]:
    curve = content["expected_coverage"]
    posterior = content | {
        "expected_coverage": {"level": curve["level"], "fraction": curve["share"]},
        "coverage": [
            {key: row[key] for key in ("by", "third", "count")}
            | {"coverage_68": row["68"], "coverage_95": row["95"]}
            for row in content["coverage"]
        ],
    }
    PosteriorRecord.model_validate(posterior)
    return posterior


def _robustness(content: dict[str, Any]) -> None:
    titles = TITLES[content["task"]]
    shown = [title for key, title in titles.items() if key in content["steps"][0]["metrics"]]
    head, *rows = content["rows"]
    content["rows"] = [["shift", "factor", *shown, head[-1]], *rows]
    for step, row in zip(content["steps"], rows, strict=True):
        if step["shift"]:
            row[0] = SHIFTS[step["shift"]].label
    content["interval"] = "95 %, percentile bootstrap over images; binomial for ood_fraction"


def _sensitivity(content: dict[str, Any]) -> dict[str, Any]:
    """The record with the observers' new names; a column of mass ratios replaces sentences."""
    content = _rename_observers(content)
    del content["conclusion"]
    content["what"] = "mass of single subhalos that are detected at a fixed false-positive rate"
    content["interval"] = (
        "95 %; binomial for the network's completeness, else bootstrap over lenses"
    )
    content["placements"] = content.pop("places")
    for observers in content["placements"].values():
        for record in observers.values():
            for mass in record["log10_mass"].values():
                mass["is_reached"] = mass.pop("reached")
    content["rows"] = [
        SENSITIVITY_HEADER,
        *(_add_ratio(row, content) for row in content["rows"][1:]),
    ]
    lens_map = content["map"]
    content["map"] = {"lens_index": lens_map.pop("lens")} | lens_map
    content["map"]["fraction_detected"] = content["map"].pop("share_of_places")
    return content


def _rename_observers(content: Any) -> Any:
    if isinstance(content, dict):
        return {OBSERVERS.get(key, key): _rename_observers(item) for key, item in content.items()}
    if isinstance(content, list):
        return [_rename_observers(item) for item in content]
    return OBSERVERS.get(content, content) if isinstance(content, str) else content


def _add_ratio(row: list[str], content: dict[str, Any]) -> list[str]:
    """Add the network's mass over that of an ideal observer to a row of the table."""
    placement, observer = row[:2]
    records = content["placements"][placement]
    if (
        observer not in OBSERVERS.values()
        or not records[observer]["log10_mass"]["0.5"]["is_reached"]
    ):
        return [*row, ""]
    network = records["network"]
    mass = network["log10_mass"]["0.5"]
    ratio = format_ratio(
        Interval(**network["delta_log10_mass"][observer]),
        is_reached=mass["is_reached"],
        is_cut_off=mass["high"] >= content["log10_masses"][-1],
    )
    return [*row, ratio]


def _measurement(content: dict[str, Any]) -> None:
    rows = content.pop("rows", None)
    if "conformal" in content:
        content["coverage"] = _coverage(content.pop("conformal"))
    if isinstance(calibration := content.get("calibration"), dict) and "after" in calibration:
        CalibrationRecord.model_validate(calibration)
    if isinstance(posterior := content.get("posterior"), dict) and "pit" in posterior:
        content["posterior"] = _posterior(posterior)
    if "posteriors" in content:
        content["posteriors"] = {k: _posterior(v) for k, v in content["posteriors"].items()}
    if "what" in content:
        content["what"] = _replace_texts(content["what"])
    if rows is not None:
        content["rows"] = [
            [_replace_texts(cell) if isinstance(cell, str) else cell for cell in row]
            for row in rows
        ]
