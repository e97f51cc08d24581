"""Images a second that each preset renders: draws, deflection, PSF and noise.

python benchmarks/rendering.py --out results/rendering.json

Two methods run in turns: that of data sets, in one thread, whose bytes do not depend on batches,
and that of online simulation in training, with all threads, which is equal up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from measuring import (
    begin_record,
    create_parser,
    format_rate,
    median_ratio,
    quartiles,
    write_record,
)

from halometry.parallel import find_device
from halometry.simulation import Preset, load_preset, sample
from halometry.simulation import list_presets as preset_names
from halometry.simulation.render import sample_fast

BATCH_SIZE = 32
RENDERERS: dict[str, Callable[..., object]] = {"set": sample, "training": sample_fast}


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=preset_names())
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = find_device(options.device)
    record = begin_record("rendering, images a second, median and quartiles, batches of 32", device)
    presets = {name: load_preset(name) for name in options.presets}
    rates: dict[str, dict[str, list[float]]] = {name: {} for name in presets}
    for k in range(options.rounds + 1):  # the first warms up
        for name, preset in presets.items():  # in turns, so that a busy moment hits all
            for way, make in RENDERERS.items():
                rate = measure_rate(
                    partial(make, preset, 0, k * BATCH_SIZE, BATCH_SIZE, device), device
                )
                if k:
                    rates[name].setdefault(way, []).append(rate)
    record["device"] = device
    record["presets"] = {
        name: {way: quartiles(of) for way, of in each.items()}
        | {"ratio": median_ratio(each["training"], each["set"])}
        for name, each in rates.items()
    }
    threads = f"{torch.get_num_threads()} threads, as training does"
    record["rows"] = [
        ["preset", "pixels", "one thread, as a set is made", threads, "ratio"],
        *(
            [
                name,
                format_shape(presets[name]),
                *(format_rate(each[key]) for key in (*RENDERERS, "ratio")),
            ]
            for name, each in record["presets"].items()
        ),
    ]
    write_record(record, options.out)


def measure_rate(make: Callable[[], object], device: str) -> float:
    """Images per second of one call."""
    start = time.perf_counter()
    make()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return BATCH_SIZE / (time.perf_counter() - start)


def format_shape(preset: Preset) -> str:
    """Size of the images in pixels."""
    return " x ".join(map(str, preset.image.shape[1:]))


if __name__ == "__main__":
    main()
