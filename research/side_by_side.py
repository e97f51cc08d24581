"""Evaluate trained weights of one preset on the same new images, with paired differences.

python research/side_by_side.py halo_mass/d4net halo_mass/d4net_deep \
    halo_mass/d4net,halo_mass/d4net_deep --out results/deeper_mass.json

For weights that were trained on mass maps, the images are mapped without the true lens, with the
preset of the training. `--shift psf 1.5` simulates a shifted preset.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import halometry
from halometry.evaluation.differences import differences, find_difference
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.metrics import key_metric, metric_title
from halometry.io import write_json
from halometry.massmaps.dataset import map_mass
from halometry.massmaps.pool import preset_from_yaml
from halometry.parallel import available_cores
from halometry.provenance import command, provenance
from halometry.robustness.shifts import shift_preset
from halometry.runs.open import open_run

SHOWN_METRICS = {"classification": ("auc", "accuracy", "loss"), "regression": ("r2", "mse", "nll")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "runs", nargs="+", help="names or folders; an ensemble is separated by commas"
    )
    parser.add_argument("--count", type=int, default=4000, help="number of images")
    parser.add_argument("--seed", type=int, default=7007, help="of the images")
    parser.add_argument("--shift", nargs=2, metavar=("NAME", "FACTOR"), help="as in `robustness`")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    options = parser.parse_args()
    runs = {name: open_run(name) for name in options.runs}
    first, *others = runs
    config = runs[first].config
    if config.data.preset is None:
        parser.error(f"{first}: was not trained on simulated images")
    own = halometry.load_preset(config.data.preset)
    preset = shift_preset(own, options.shift[0], float(options.shift[1])) if options.shift else own
    if preset is None:
        parser.error(f"--shift {options.shift[0]}: the preset has no such thing")
    with TemporaryDirectory() as place:
        images = Path(place) / "fresh.h5"
        halometry.simulate(preset, options.count, seed=options.seed, out=images)
        sets: dict[str | None, Path] = {None: images}
        for text in {p for run in runs.values() if (p := run.config.data.mass_map_preset)}:
            out = images.with_name(f"mapped-{len(sets)}.h5")
            sets[text] = map_mass(
                images,
                out,
                preset=preset_from_yaml(text),
                workers=available_cores(),
                no_truth_init=True,
            )
        found = {
            name: evaluate(run, sets[run.config.data.mass_map_preset]) for name, run in runs.items()
        }
    outputs = {name: one.outputs for name, one in found.items()}
    pairs = differences(found[first].truth, outputs)
    key, shown = key_metric(config.task), SHOWN_METRICS[config.task]
    rows = [["weights", *map(metric_title, shown), f"difference of {metric_title(key)}"]]
    for name, one in found.items():
        cells = [str(one.metrics[metric]) for metric in shown]
        difference = str(find_difference(pairs, key, name, first)) if name in others else ""
        rows.append([name, *cells, difference])
    record = {
        "what": f"weights for {config.data.preset} on the same new images",
        "command": command(),
        **provenance(),
        "count": options.count,
        "seed": options.seed,
        "shift": options.shift,
        "metrics": {
            name: {metric: value.to_dict() for metric, value in one.metrics.items()}
            for name, one in found.items()
        },
        "differences": [pair.model_dump() for pair in pairs],
        "rows": rows,
    }
    write_json(options.out, "measurement", record)
    print("\n".join(" | ".join(row) for row in rows))


if __name__ == "__main__":
    main()
