"""Images a second that each preset renders on this machine: draws, deflection, PSF and noise.

python benchmarks/rendering.py --out results/rendering.json
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from halometry.devices import find_device
from halometry.evaluation.cost import machine
from halometry.simulation import load_preset, sample
from halometry.simulation import presets as preset_names

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = find_device(options.device)
    presets = {name: load_preset(name) for name in preset_names()}
    rates: dict[str, list[float]] = {name: [] for name in presets}
    for k in range(options.rounds + 1):  # the first warms up
        for name, preset in presets.items():  # in turns, so that a busy moment hits all
            start = time.perf_counter()
            images, _ = sample(preset, 0, k * BATCH, BATCH, device)
            images.cpu()
            if k:
                rates[name].append(BATCH / (time.perf_counter() - start))
    record = {
        "what": "images/s, median and quartiles, batches of 32",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "device": device,
        "presets": {},
    }
    for name, values in rates.items():
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        record["presets"][name] = {"median": median, "low": low, "high": high}  # type: ignore[index]
        shape = " x ".join(map(str, presets[name].image.shape[1:]))
        print(f"{name:22} {shape:>10} px  {median:8.1f} images/s  [{low:.1f}, {high:.1f}]")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
