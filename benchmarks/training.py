"""Images a second in training for each network, in every way that this machine could run it.

python benchmarks/training.py --out results/training_speed.json
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from measuring import arguments, begin, write

from halometry.models import Network
from halometry.models.backbones import PLAIN_NAMES
from halometry.parallel import find_device
from halometry.training.hardware import choose_execution
from halometry.training.memory import freed_memory_kept

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = find_device(options.device)
    example = torch.rand(options.batch, 1, options.size, options.size)
    what = f"training, batches of {options.batch} images of {options.size} px, one channel"
    ways = [(precision, last) for precision in PRECISIONS for last in (True, False)]
    head = ["network", *(f"{p}, channels {'last' if last else 'first'}" for p, last in ways)]
    record = begin(what, device) | {"ways": [], "rows": [head]}
    for name in PLAIN_NAMES:
        record["rows"].append([name])
        for precision, channels_last in ways:
            build = partial(Network, name, 1, 3)
            with freed_memory_kept():
                way = choose_execution(build, example, device, precision, channels_last)
            record["ways"].append({"network": name} | way.model_dump())
            record["rows"][-1].append(f"{way.images_per_second:.0f}")
    write(record, options.out)


if __name__ == "__main__":
    main()
