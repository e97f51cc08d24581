"""Mass fractions of published images of class `sphere`: posterior of subhalos against a network.

    python research/published_masses.py --data ../shared/data/common_test_1/sphere \
        --out results/published_masses.json

The posterior uses all that the preset `common_test_1` holds. The network was trained on mass maps
of broadly distributed lenses. The truth is unknown: the question is whether the two methods agree
within their errors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

import halometry
from halometry.datasets.inputs import natural_sort_key
from halometry.errors import ReadError
from halometry.io import write_json
from halometry.provenance import command, provenance

PRESET = "common_test_1"
STDS_IN_68 = 2.0  # width of a 68 % interval in standard deviations


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of images of one class")
    parser.add_argument("--run", default="halo_mass_broad/d4net_mapped")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    options = parser.parse_args()
    files = sorted(options.data.glob("*.npy"), key=lambda path: natural_sort_key(path.name))
    fits = halometry.fit_lens(files, PRESET, subhalo_method="mcmc")
    images: list[dict[str, Any]] = []
    for file, fit, prediction in zip(
        files, fits, halometry.predict(options.run, files), strict=True
    ):
        if isinstance(fit, ReadError) or fit.subhalo_posterior is None:
            raise SystemExit(f"{file}: cannot be fitted")
        mass = fit.subhalo_posterior.mass_fractions
        low, high = prediction.intervals["68"]
        difference = (prediction.f_sub - mass.mean()) / np.hypot(
            mass.std(), (high - low) / STDS_IN_68
        )
        images.append(
            {
                "image": f"{file.parent.name}/{file.name}",
                "sampled": {"mean": float(mass.mean()), "error": float(mass.std())},
                "network": {"mean": prediction.f_sub, "lo68": low, "hi68": high},
                "difference_sigma": float(difference),
            }
        )
    chi2_sum = float(sum(image["difference_sigma"] ** 2 for image in images))
    rows = [["image", "sampled subhalos", options.run, "difference over its error"]]
    for image in images:
        sampled, network = image["sampled"], image["network"]
        rows.append(
            [
                image["image"],
                f"{sampled['mean']:.4f} ± {sampled['error']:.4f}",
                f"{network['mean']:.4f} [{network['lo68']:.4f}, {network['hi68']:.4f}]",
                f"{image['difference_sigma']:+.1f}",
            ]
        )
    record = {
        "what": "mass fractions of published images, by sampling their subhalos and by a network",
        "command": command(),
        **provenance(),
        "preset": PRESET,
        "run": options.run,
        "chi2": chi2_sum,
        "p_value": float(chi2.sf(chi2_sum, len(images))),
        "images": images,
        "rows": rows,
    }
    write_json(options.out, "measurement", record)
    print(json.dumps(rows, indent=1), chi2_sum, record["p_value"])


if __name__ == "__main__":
    main()
