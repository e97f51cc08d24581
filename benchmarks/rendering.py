"""Images a second that each preset renders on this machine: draws, deflection, PSF and noise.

python benchmarks/rendering.py --out results/rendering.json

Two ways in turns: as a set is made, in one thread and the same to the byte however it is divided,
and as training makes its fresh images, with all threads and the same up to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from measuring import arguments, begin, quartiles, ratio, told, write

from halometry.parallel import find_device
from halometry.simulation import Preset, load_preset, sample
from halometry.simulation import list_presets as preset_names
from halometry.simulation.render import sample_fast

BATCH = 32
WAYS: dict[str, Callable[..., object]] = {"set": sample, "training": sample_fast}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=preset_names())
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = find_device(options.device)
    record = begin("rendering, images a second, median and quartiles, batches of 32", device)
    presets = {name: load_preset(name) for name in options.presets}
    rates: dict[str, dict[str, list[float]]] = {name: {} for name in presets}
    for k in range(options.rounds + 1):  # the first warms up
        for name, preset in presets.items():  # in turns, so that a busy moment hits all
            for way, make in WAYS.items():
                rate = rate_of(partial(make, preset, 0, k * BATCH, BATCH, device), device)
                if k:
                    rates[name].setdefault(way, []).append(rate)
    record["device"] = device
    record["presets"] = {
        name: {way: quartiles(of) for way, of in each.items()}
        | {"ratio": ratio(each["training"], each["set"])}
        for name, each in rates.items()
    }
    threads = f"{torch.get_num_threads()} threads, as training does"
    record["rows"] = [
        ["preset", "pixels", "one thread, as a set is made", threads, "ratio"],
        *(
            [name, pixels(presets[name]), *(told(each[key]) for key in (*WAYS, "ratio"))]
            for name, each in record["presets"].items()
        ),
    ]
    write(record, options.out)


def rate_of(make: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    make()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return BATCH / (time.perf_counter() - start)


def pixels(preset: Preset) -> str:
    return " x ".join(map(str, preset.image.shape[1:]))


if __name__ == "__main__":
    main()
