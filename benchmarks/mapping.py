"""What it takes to map mass in an image, and whether it matters where the search began.

    python benchmarks/mapping.py --out results/mapping.json

Fresh images of a preset are mapped on one core, a few at a time in turns: from their true lenses,
and blindly. Compared are the residuals of the same images.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from measuring import arguments, begin, write

from halometry.datasets.readers import Image
from halometry.evaluation.bootstrap import binomial_interval
from halometry.log import track
from halometry.massmaps.mapper import MassMapper
from halometry.massmaps.pool import IMAGES_PER_BATCH
from halometry.simulation import sample

ALIKE = 0.1  # of the noise: the largest difference of residuals that is none


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="common_test_1")
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--seed", type=int, default=8011)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = begin("seconds of one core to map the mass in an image")
    mapper = MassMapper(options.preset)
    seconds: dict[str, list[float]] = {"from the true one": [], "blind": []}
    apart: list[float] = []
    with track("mapping", options.count) as progress:
        for first in range(0, options.count, IMAGES_PER_BATCH):
            counts, scene = sample(mapper.preset, options.seed, first, IMAGES_PER_BATCH)
            start = time.perf_counter()
            known = mapper.map_scenes(counts[:, 0], scene)
            seconds["from the true one"].append((time.perf_counter() - start) / IMAGES_PER_BATCH)
            for k, one in enumerate(counts.numpy()):
                start = time.perf_counter()
                found = mapper.map_image(Image(one, None, f"{first + k}"))
                seconds["blind"].append(time.perf_counter() - start)
                apart.append(float(np.abs(found[1] - known[k, 1]).max()))
            progress.advance(IMAGES_PER_BATCH)
    quantiles = {name: np.quantile(each, (0.5, 0.25, 0.75)) for name, each in seconds.items()}
    alike = binomial_interval(int((np.array(apart) < ALIKE).sum()), len(apart))
    record |= {key: getattr(options, key) for key in ("preset", "count", "seed")}
    record |= {"threads": 1, "residuals_alike": alike.to_dict(), "largest_difference": max(apart)}
    record["seconds"] = {name: [float(q) for q in each] for name, each in quantiles.items()}
    record["rows"] = [["search for the lens", "seconds an image, median (quartiles)"]]
    for name, (middle, low, high) in quantiles.items():
        record["rows"].append([name, f"{middle:.3f} ({low:.3f}, {high:.3f})"])
    write(record, options.out)


if __name__ == "__main__":
    main()
