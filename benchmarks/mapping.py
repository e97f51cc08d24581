"""Time to map the mass in an image, and the effect of the initial lens on the result.

    python benchmarks/mapping.py --out results/mapping.json

New images of a preset are mapped on one core, in turns: with the fit of the lens starting at the
true one, and without the truth. The residuals of the same images are compared.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from measuring import begin_record, create_parser, write_record

from halometry.datasets.readers import Image
from halometry.evaluation.bootstrap import binomial_interval
from halometry.log import track
from halometry.massmaps.mapper import MassMapper
from halometry.massmaps.pool import IMAGES_PER_BATCH
from halometry.simulation import sample

MAX_RESIDUAL_DIFFERENCE = 0.1  # standard deviations of the noise; residuals closer are alike


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--preset", default="common_test_1")
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--seed", type=int, default=8011)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = begin_record("seconds of one core to map the mass in an image")
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
    alike = binomial_interval(int((np.array(apart) < MAX_RESIDUAL_DIFFERENCE).sum()), len(apart))
    record |= {key: getattr(options, key) for key in ("preset", "count", "seed")}
    record |= {"threads": 1, "residuals_alike": alike.to_dict(), "largest_difference": max(apart)}
    record["seconds"] = {name: [float(q) for q in each] for name, each in quantiles.items()}
    record["rows"] = [["search for the lens", "seconds an image, median (quartiles)"]]
    for name, (middle, low, high) in quantiles.items():
        record["rows"].append([name, f"{middle:.3f} ({low:.3f}, {high:.3f})"])
    write_record(record, options.out)


if __name__ == "__main__":
    main()
