"""Training time to an AUC: the baseline recipe, the default one, and that on mass maps.

    python benchmarks/time_to_auc.py --out results/time_to_auc.json

`halometry train` runs with each recipe until the AUC of the validation images passes a threshold.
All recipes have the same validation images. The seconds begin with the command: they include the
start of Python, validation and everything else. A run that does not reach the AUC ends at the
limit, and the ratio is then a lower limit. The baseline recipe may take as many epochs as the limit
allows, because its schedule does not depend on their number. Both begin with random weights.
`mapped` is the default recipe on mass maps of the images. Its seconds include `halometry map`,
which begins the fit of each lens at the true one. The time of rendering the images is given
separately (`rendering_seconds`).

Repeat the command to continue where it was stopped; the runs stay in `--work`. Each seed has
another split, order and network. A ratio is the geometric mean over seeds, with Student's interval
of the logarithms.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import begin_record, create_parser, write_record
from scipy import stats

from halometry.runs.run import CONFIG, HISTORY, is_finished

MIN_RATIO = 5.0
RECIPES = ("baseline", "default", "mapped")
BASELINE_OPTIONS = ["--recipe", "baseline", "--no-pretrained", "--epochs", "10000"]
SECONDS_BETWEEN_POLLS = 0.5  # seconds between looks at a run


class TimedRun:
    """Training with one recipe until the threshold, in a run folder that stays.

    Args:
        run: the folder.
        words: the command that trains into it.
        threshold: AUC of the validation images.
        limit: seconds.
        spent: seconds before training began, which count.
    """

    def __init__(
        self, run: Path, words: list[str], threshold: float, limit: float, spent: float = 0
    ) -> None:
        self.run, self.words, self.threshold, self.limit = run, words, threshold, limit
        self.spent = spent
        self.note = run.with_suffix(".setup.json")

    def result(self) -> dict[str, Any]:
        """Return seconds and whether the threshold was reached; train if this is not known."""
        if (there := self.outcome()) is not None:
            return there
        begin = time.monotonic()
        with self.run.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "halometry", "train", *self.words], stderr=log
            )
        try:
            while (there := self.outcome()) is None:
                if process.poll():
                    sys.exit(f"halometry train failed: see {log.name}")
                if not self.note.exists() and (self.run / CONFIG).exists():
                    self.note.write_text(json.dumps(time.monotonic() - begin), encoding="utf-8")
                time.sleep(SECONDS_BETWEEN_POLLS)
        finally:
            process.kill()
            process.wait()
        return there

    def outcome(self) -> dict[str, Any] | None:
        """Outcome according to the history; None as long as it is open."""
        if not self.note.exists() or not (self.run / HISTORY).exists():
            return None
        setup = self.spent + json.loads(self.note.read_text(encoding="utf-8"))
        with (self.run / HISTORY).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            seconds, auc = setup + float(row["seconds"]), float(row["val_metric"])
            if auc >= self.threshold and seconds <= self.limit:
                return _outcome(seconds, True, row)
            if seconds > self.limit:
                return _outcome(self.limit, False, row)
        # A finished run would not reach the threshold in the time left either.
        return _outcome(self.limit, False, rows[-1]) if is_finished(self.run) else None


def _outcome(seconds: float, reached: bool, row: dict[str, str]) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 1),
        "reached": reached,
        "auc": float(row["val_metric"]),
        "images": int(row["images"]),
    }


def time_ratio(runs: list[dict[str, dict[str, Any]]], recipe: str) -> dict[str, Any] | None:
    """Ratio of the baseline's seconds to another recipe's: geometric mean and 95 % interval.

    None if the other recipe did not reach the threshold.
    """
    if not all(one[recipe]["reached"] for one in runs):
        return None
    logs = np.log([one["baseline"]["seconds"] / one[recipe]["seconds"] for one in runs])
    found: dict[str, Any] = {"value": float(np.exp(logs.mean()))}
    if len(logs) > 1:
        half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
        low, high = np.exp(logs.mean() - half), np.exp(logs.mean() + half)
        found |= {"low": float(low), "high": float(high)}
    return found | {"at_least": not all(one["baseline"]["reached"] for one in runs)}


def make_set(out: Path, words: list[str]) -> float:
    """Make a set by a command if it does not exist; return the seconds that this took."""
    note = out.with_suffix(".json")
    if not note.exists():
        out.unlink(missing_ok=True)
        begin = time.monotonic()
        subprocess.run([sys.executable, "-m", "halometry", *words, "--out", str(out)], check=True)
        note.write_text(json.dumps(time.monotonic() - begin), encoding="utf-8")
    seconds: float = json.loads(note.read_text(encoding="utf-8"))
    return seconds


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("time-to-auc"), help="where runs stay")
    parser.add_argument("--preset", default="demo_classification")
    parser.add_argument("--networks", nargs="+", default=["mobilenetv3_small", "resnet18"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--threshold", type=float, default=0.90)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=3600, help="seconds a run")
    options = parser.parse_args()
    record = begin_record(f"seconds to an AUC of {options.threshold:g} on the validation images")
    record |= {key: getattr(options, key) for key in ("preset", "images", "threshold", "limit")}
    recipes = [one for one in RECIPES if one in options.recipes]
    others = [one for one in recipes if one != "baseline" and "baseline" in recipes]
    record |= {"bars": {f"baseline / {one}": MIN_RATIO for one in others}, "networks": {}}
    place = options.work / f"{options.preset}-{options.images}"
    store, maps = place / "images.h5", place / "images_mapped.h5"
    drawn = ["simulate", options.preset, "--count", str(options.images), "--seed", "1"]
    record["rendering_seconds"] = round(make_set(store, drawn), 1)
    images = dict.fromkeys(recipes, (store, 0.0))
    if "mapped" in recipes:
        images["mapped"] = maps, make_set(maps, ["map", str(store)])
        record["mapping_seconds"] = round(images["mapped"][1], 1)
    ratios = [f"baseline / {one}" for one in others]
    record["rows"] = [["network", *(f"{one} (s)" for one in recipes), *ratios]]
    for name in options.networks:
        runs: list[dict[str, dict[str, Any]]] = []
        for seed in range(options.seeds):
            runs.append({})
            for recipe in recipes:
                data, spent = images[recipe]
                run = place / f"{name}-{recipe}-{seed}"
                words = ["--task", "classification", "--data", str(data), "--backbone", name]
                words += ["--out", str(run), "--seed", str(seed)]
                words += BASELINE_OPTIONS if recipe == "baseline" else []
                race = TimedRun(run, words, options.threshold, options.limit, spent)
                runs[-1][recipe] = race.result()
                print(f"{name}, {recipe}, seed {seed}: {runs[-1][recipe]}", file=sys.stderr)
        ratio = {one: time_ratio(runs, one) for one in others}
        record["networks"][name] = {"runs": runs, "ratio": ratio}
        record["rows"].append(table_row(name, runs, recipes, ratio))
    write_record(record, options.out)


def table_row(
    name: str,
    runs: list[dict[str, dict[str, Any]]],
    recipes: list[str],
    ratios: dict[str, dict[str, Any] | None],
) -> list[str]:
    """Row of the table: seconds of each seed (`>` if the threshold was not reached), ratios."""
    seconds = [", ".join(_seconds(one[recipe]) for one in runs) for recipe in recipes]
    return [name, *seconds, *(_ratio(one, len(runs)) for one in ratios.values())]


def _seconds(outcome: dict[str, Any]) -> str:
    return f"{'' if outcome['reached'] else '> '}{outcome['seconds']:.0f}"


def _ratio(ratio: dict[str, Any] | None, seeds: int) -> str:
    if ratio is None:
        return ""
    told = f"{'at least ' if ratio['at_least'] else ''}{ratio['value']:.3g}"
    return told if seeds == 1 else f"{told} [{ratio['low']:.3g}, {ratio['high']:.3g}]"


if __name__ == "__main__":
    main()
