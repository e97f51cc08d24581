"""Comparison of networks on both published tasks, with simulated sets of the published size.

    python research/published_comparison.py --out runs/published --results results/published

Simulates 37,500 images for classification (7,500 of them for the test) and 20,000 for the mass
(2,000 for the test), and compares the three published networks with the baseline and the default
recipe. Every finished network is added to the results at once. Repeat the command to continue where
it was stopped: on two cores it takes days. A dry run:

    python research/published_comparison.py --out dry --results dry/results \
        --scale 0.003 --set epochs=1 --set size=32 --no-pretrained

With little time, networks can begin with weights that were trained on substructure `--warm-up`
times as heavy (a third as many images, `--warm-up-epochs` epochs), and see smaller images. The
baseline in `results/` was made by

    python research/published_comparison.py --out runs/baseline --results results \
        --tasks classification --recipes baseline --backbones mobilenetv3_small resnet18 \
        --scale 0.35 --test 1500 --set size=75 --set epochs=8 --no-pretrained \
        --warm-up 5 --warm-up-epochs 6 --note "..."
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import halometry
from halometry.config import Task
from halometry.errors import UnavailableError
from halometry.log import duration
from halometry.runs.recipe import parse_overrides

BACKBONES = ["mobilenetv3_small", "resnet18", "efficientnet_b5"]


@dataclass(frozen=True)
class Experiment:
    """A task with its preset, number of images, and number of test images."""

    task: Task
    preset: str
    count: int
    test: int


EXPERIMENTS = (
    Experiment("classification", "common_test_1", 37_500, 7_500),
    Experiment("regression", "halo_mass", 20_000, 2_000),
)


def main() -> None:
    options = _options()
    results = Path(options.results)
    results.mkdir(parents=True, exist_ok=True)
    overrides = parse_overrides(options.set)
    if not options.pretrained:
        overrides["pretrained"] = False
    begin = time.monotonic()
    tasks = [e for e in EXPERIMENTS if e.task in options.tasks]
    stores = {e.task: _simulate(e, Path(options.out), options) for e in tasks}
    for experiment, recipe in itertools.product(tasks, options.recipes):
        name = f"{experiment.task}_{recipe}"
        for count in range(1, len(options.backbones) + 1):
            backbones = options.backbones[:count]
            start = _train_on_heavy_substructure(experiment, backbones, recipe, overrides, options)
            comparison = halometry.compare_networks(
                experiment.task,
                stores[experiment.task],
                backbones,
                Path(options.out) / name,
                recipe=recipe,
                overrides=overrides,
                seed=options.seed,
                device=options.device,
                init_from=start,
                note=options.note,
            )
            for kept in ("results.json", "report.html"):
                shutil.copyfile(comparison.out / kept, results / f"{name}{Path(kept).suffix}")
            print(
                f"{name}, {options.backbones[count - 1]}: {duration(time.monotonic() - begin)} in",
                file=sys.stderr,
            )


def _simulate(experiment: Experiment, out: Path, options: argparse.Namespace) -> Path:
    store = out / f"{experiment.task}.h5"
    if not store.exists():
        test = options.test or max(20, round(experiment.test * options.scale))
        count = max(3 * test, round(experiment.count * options.scale))
        halometry.simulate(
            experiment.preset,
            count,
            seed=options.seed,
            out=store,
            device=options.device,
            n_test=test,
        )
    return store


def _train_on_heavy_substructure(
    experiment: Experiment,
    backbones: list[str],
    recipe: str,
    overrides: dict[str, object],
    options: argparse.Namespace,
) -> Path | None:
    """Train networks on heavier substructure, if `--warm-up` is given; return their folder."""
    if not options.warm_up:
        return None
    out = Path(options.out) / f"warm_{experiment.task}_{recipe}"
    store = out / "heavy.h5"
    if not store.exists():
        usual = halometry.load_preset(experiment.preset)
        name = f"{usual.name}, substructure {options.warm_up:g} times as heavy"
        heavy = usual.model_copy(update={"name": name, "mass_scale": options.warm_up})
        count = max(60, round(experiment.count * options.scale / 3))
        halometry.simulate(heavy, count, seed=options.seed, out=store, device=options.device)
    longer = overrides | {"epochs": options.warm_up_epochs}
    for backbone in backbones:
        run = out / backbone
        halometry.train(
            experiment.task,
            store,
            backbone,
            run,
            recipe=recipe,
            overrides=longer,
            seed=options.seed,
            device=options.device,
        )
    return out


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for images and runs (gigabytes)")
    parser.add_argument("--results", required=True, help="folder for result files and reports")
    parser.add_argument("--tasks", nargs="+", default=[e.task for e in EXPERIMENTS])
    parser.add_argument("--recipes", nargs="+", default=["baseline", "default"])
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the published numbers"
    )
    parser.add_argument("--test", type=int, help="number of test images")
    parser.add_argument("--warm-up", type=float, help="mass factor of the initial weights")
    parser.add_argument("--warm-up-epochs", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    parser.add_argument("--no-pretrained", dest="pretrained", action="store_false")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--note", help="note for the report")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except UnavailableError as error:
        raise SystemExit(f"{error}; or give --no-pretrained") from error
