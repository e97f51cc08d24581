"""Calibration of the probabilities of a run, and coverage of its prediction sets, on new images.

python research/calibration.py common_test_1/d4net
python research/calibration.py halo_mass/d4net --out results/calibration_mass.json \
    --count 2000 --seed 101 --figure docs/images/calibration_mass.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import halometry
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.calibration_figure import reliability_figure
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import metric_title
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.io import write_json
from halometry.plotting import save_figure
from halometry.provenance import command, provenance

COUNT, SEED = 4000, 3010


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="calibrated run on simulated images")
    parser.add_argument("--count", type=int, default=COUNT, help="new images")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the new images")
    parser.add_argument("--out", type=Path, default=Path("results/calibration.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/reliability.png"))
    options = parser.parse_args()
    run = halometry.load_run(options.run)
    preset = run.config.data.preset
    if preset is None:
        parser.error(f"{options.run}: was not trained on simulated images")
    with TemporaryDirectory() as folder:
        images = Path(folder) / "images.h5"
        halometry.simulate(preset, options.count, seed=options.seed, out=images)
        evaluation = evaluate(run, images)
    if evaluation.posterior is None:
        curves = (evaluation.truth, evaluation.outputs, evaluation.uncalibrated)
        save_figure(reliability_figure({options.run: curves}), options.figure)
        more: dict[str, Any] = {
            "loss": {
                "before": loss(evaluation, evaluation.uncalibrated),
                "after": loss(evaluation, evaluation.outputs),
            }
        }
        table = rows(evaluation)
    else:
        assert evaluation.posterior_checks is not None
        more = {"posterior": evaluation.posterior_checks.model_dump(mode="json")}
        save_figure(posterior_figure({options.run: evaluation.posterior_checks}), options.figure)
        table = rows_of_masses(evaluation)
    record: dict[str, Any] = {
        "what": "calibration and coverage of trained weights on new images",
        "command": command(),
        **provenance(),
        "run": options.run,
        "preset": preset,
        "count": len(evaluation.truth),
        "seed": options.seed,
        **more,
        "metrics": {key: value.to_dict() for key, value in evaluation.metrics.items()},
        "calibration": evaluation.calibration and evaluation.calibration.model_dump(mode="json"),
        "coverage": evaluation.coverage and evaluation.coverage.model_dump(mode="json"),
        "rows": table,
    }
    write_json(options.out, "measurement", record)
    print("\n".join(" | ".join(row) for row in record["rows"]))


def loss(evaluation: Evaluation, probabilities: np.ndarray) -> float:
    """Mean cross-entropy in nats."""
    return float(-np.log(probabilities[np.arange(len(evaluation.truth)), evaluation.truth]).mean())


def rows(evaluation: Evaluation) -> list[list[str]]:
    """Table of the documentation for classes: name, value, interval."""
    calibration, coverage = evaluation.calibration, evaluation.coverage
    assert calibration is not None
    assert coverage is not None
    table = [["", "value", "95 % interval"]]
    for when, errors, probabilities in (
        ("before calibration", calibration.before, evaluation.uncalibrated),
        ("after calibration", calibration.after, evaluation.outputs),
    ):
        table.append([f"calibration error {when}", *cells(errors.ece)])
        table.append(["debiased", f"{errors.ece_debiased:.4f}", ""])
        table.append(["bias of calibrated probabilities", f"{errors.ece_bias:.4f}", ""])
        table.append([f"cross-entropy {when}", f"{loss(evaluation, probabilities):.4f}", ""])
    for level in coverage.levels:
        percent = f"{100 * level.nominal:g} %"
        table.append([f"coverage of sets of {percent}", *cells(level.coverage)])
        if level.nominal == 0.9:
            for name, fraction in (level.classes or {}).items():
                table.append([f"coverage of images of `{name}`", *cells(fraction)])
        sizes = ", ".join(f"{k}: {s:.1%}" for k, s in enumerate(level.fraction_by_size or ()))
        table.append([f"mean number of classes in a set of {percent}", *cells(level.mean_size)])
        table.append(["sets by size", sizes, ""])
    return table


def rows_of_masses(evaluation: Evaluation) -> list[list[str]]:
    """Table of the documentation for masses with posteriors."""
    assert evaluation.posterior_checks is not None
    assert evaluation.coverage is not None
    table = [["", "value", "95 % interval"]]
    for name in ("mse", "r2", "nll", "crps"):
        table.append([metric_title(name), *cells(evaluation.metrics[name])])
    for row in evaluation.posterior_checks.coverage:
        if row.by != "truth":
            which = "" if row.by == "all" else f", {row.third} third by median"
            for percent, interval in ((68, row.coverage_68), (95, row.coverage_95)):
                table.append([f"coverage of {percent} % intervals{which}", *cells(interval)])
    for level in evaluation.coverage.levels:
        percent_text = f"{100 * level.nominal:g} %"
        table.append([f"coverage of conformal {percent_text} intervals", *cells(level.coverage)])
        table.append([f"mean width of conformal {percent_text} intervals", *cells(level.mean_size)])
    return table


def cells(interval: Interval) -> list[str]:
    """Value and interval as text."""
    value, _, limits = str(interval).partition(" ")
    return [value, limits]


if __name__ == "__main__":
    main()
