"""How well a network that saw only simulated images of a set judges the real ones.

    python research/simulated_to_real_set.py hackathon_2020 --data ../shared/data/hackathon_2020 \
        --work runs/simulated --epochs 16

Renders the preset, trains on it, judges the run on its own test images and on all real ones. The
same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import halometry
from halometry.evaluation.evaluate import Evaluation
from halometry.provenance import provenance, versions

SHOWN = ("auc", "accuracy", "loss", "ece")


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--data", type=Path, required=True, help="the real images, labeled")
    parser.add_argument("--work", type=Path, required=True, help="a folder for images and runs")
    parser.add_argument("--out", type=Path, help="results/PRESET_simulated.json if not given")
    parser.add_argument("--backbone", default="d4net")
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--test", type=int, default=2000, help="of these")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    store = options.work / f"{options.preset}.h5"
    halometry.simulate(
        options.preset, options.count, seed=options.seed, out=store, n_test=options.test
    )
    run = halometry.train(
        "classification", store, options.backbone, options.work / options.backbone,
        overrides={"epochs": options.epochs}, seed=options.seed,
    )  # fmt: skip
    judged = {
        "simulated": halometry.evaluate(run, store),
        "real": halometry.evaluate(run, options.data),
    }
    record = {
        "what": f"a network trained on simulated {options.preset} alone, on simulated and on real"
        " images",
        "command": f"python research/simulated_to_real_set.py {options.preset}"
        f" --data {options.data.name} --work runs/simulated --epochs {options.epochs}",
        **provenance(),
        "versions": versions(),
        "network": options.backbone,
        "seed": options.seed,
        "training": run.training_metrics()["images"],
        "judged": {name: described(one) for name, one in judged.items()},
        "rows": [
            ["images", "number", "AUC", "accuracy", "loss", "calibration error"],
            *(
                [name, f"{len(one.truth):,}", *(str(one.metrics[key]) for key in SHOWN)]
                for name, one in judged.items()
            ),
        ],
    }
    out = options.out or Path(f"results/{options.preset}_simulated.json")
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(" | ".join(row) for row in record["rows"]))


def described(one: Evaluation) -> dict[str, object]:
    """Figures of merit, and where the probabilities of the second class lie by class."""
    quantiles = {
        str(k): np.quantile(one.outputs[one.truth == k, 1], (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
        for k in np.unique(one.truth)
    }
    assert one.confusion is not None
    return {
        "images": len(one.truth),
        "metrics": {key: value.to_dict() for key, value in one.metrics.items()},
        "confusion": one.confusion.tolist(),
        "quantiles_of_second_class": quantiles,
    }


if __name__ == "__main__":
    main()
