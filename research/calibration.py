"""Whether trained weights' answers mean what they say, and their sets and intervals hold the truth.

python research/calibration.py common_test_1/d4net
python research/calibration.py halo_mass/d4net --out results/calibration_mass.json \
    --count 2000 --seed 101 --figure docs/images/calibration_mass.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import halometry
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.calibration_figure import reliability_figure
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import metric_title
from halometry.evaluation.posterior_checks import coverage_rows, posterior_record
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.plotting import save_figure
from halometry.provenance import command, provenance

COUNT, SEED = 4000, 3010


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="of simulated images, calibrated; of masses with posteriors")
    parser.add_argument("--count", type=int, default=COUNT, help="fresh images")
    parser.add_argument("--seed", type=int, default=SEED, help="of the fresh images")
    parser.add_argument("--out", type=Path, default=Path("results/calibration.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/reliability.png"))
    options = parser.parse_args()
    run = halometry.load_run(options.run)
    preset = run.config.data.preset
    if preset is None:
        parser.error(f"{options.run}: was not trained on simulated images")
    with TemporaryDirectory() as place:
        images = Path(place) / "fresh.h5"
        halometry.simulate(preset, options.count, seed=options.seed, out=images)
        found = evaluate(run, images)
    if found.posterior is None:
        drawn = (found.truth, found.outputs, found.untempered)
        save_figure(reliability_figure({options.run: drawn}), options.figure)
        more: dict[str, Any] = {
            "loss": {"before": loss(found, found.untempered), "after": loss(found, found.outputs)}
        }
        table = rows(found)
    else:
        more = {"posterior": posterior_record(found.truth, found.posterior)}
        save_figure(posterior_figure({options.run: more["posterior"]}), options.figure)
        table = rows_of_masses(found)
    record: dict[str, Any] = {
        "what": "calibration and coverage of trained weights on fresh images",
        "command": command(),
        **provenance(),
        "run": options.run,
        "preset": preset,
        "count": len(found.truth),
        "seed": options.seed,
        **more,
        "metrics": {key: value.to_dict() for key, value in found.metrics.items()},
        **found.trust,
        "rows": table,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(" | ".join(row) for row in record["rows"]))


def loss(found: Evaluation, probabilities: np.ndarray) -> float:
    """The mean cross-entropy, in nats."""
    return float(-np.log(probabilities[np.arange(len(found.truth)), found.truth]).mean())


def rows(found: Evaluation) -> list[list[str]]:
    """The table in the documentation: figure, value, interval."""
    calibration, conformal = found.trust["calibration"], found.trust["conformal"]
    table = [["", "value", "95 % interval"]]
    for when, said in (("before", "before calibration"), ("after", "as given")):
        one = calibration[when]
        table.append([f"calibration error {said}", *cells(one["ece"])])
        table.append(["the same, less its bias", f"{one['ece_debiased']:.4f}", ""])
        table.append(["of noise alone", f"{one['ece_by_noise']:.4f}", ""])
        table.append([f"cross-entropy {said}", f"{loss(found, answers_of(found, when)):.4f}", ""])
    for one in conformal["levels"]:
        level = f"{100 * one['level']:g} %"
        table.append([f"sets of {level} hold the truth", *cells(one["coverage"])])
        if one["level"] == 0.9:
            for name, share in one["classes"].items():
                table.append([f"of images of `{name}`", *cells(share)])
        sizes = ", ".join(f"{k}: {s:.1%}" for k, s in enumerate(one["share_by_size"]))
        table.append([f"classes in a set of {level}, mean", *cells(one["mean_size"])])
        table.append(["share of sets by size", sizes, ""])
    return table


def rows_of_masses(found: Evaluation) -> list[list[str]]:
    """The same of masses with posteriors."""
    assert found.posterior is not None
    table = [["", "value", "95 % interval"]]
    for name in ("mse", "r2", "nll", "crps"):
        table.append([metric_title(name), *cells(found.metrics[name].to_dict())])
    for one in coverage_rows(found.truth, found.posterior):
        if one["by"] != "truth":
            which = "" if one["by"] == "all" else f", {one['third']} third by median"
            for level in ("68", "95"):
                table.append([f"within {level} %{which}", *cells(one[level])])
    for one in found.trust["conformal"]["levels"]:
        level = f"{100 * one['level']:g} %"
        table.append([f"conformal intervals of {level} hold the truth", *cells(one["coverage"])])
        table.append([f"their mean width at {level}", *cells(one["mean_size"])])
    return table


def answers_of(found: Evaluation, when: str) -> np.ndarray:
    """The probabilities (N, K) before or after the temperature."""
    return found.untempered if when == "before" else found.outputs


def cells(numbers: dict[str, float]) -> list[str]:
    """A value and its interval as text."""
    value, _, interval = str(Interval(**numbers)).partition(" ")
    return [value, interval]


if __name__ == "__main__":
    main()
