"""The mass fractions of real images of class `sphere` by two ways that share nothing but physics.

    python research/real_masses.py --data ../shared/data/common_test_1/sphere \
        --out results/real_masses.json

One samples the subhalos of each image, told everything that the preset `common_test_1` holds; the
other is a network that learnt from maps of lenses of which little is known. Nobody knows the truth:
what is asked is whether the two agree as well as their errors say.
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
from halometry.provenance import command, provenance

SAMPLED, SPREAD = "common_test_1", 2.0  # the preset; standard deviations in a 68 % interval


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of images of one class")
    parser.add_argument("--run", default="halo_mass_broad/d4net_mapped")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    options = parser.parse_args()
    files = sorted(options.data.glob("*.npy"), key=lambda path: natural_sort_key(path.name))
    fits = halometry.fit_lens(files, SAMPLED, subhalo_method="mcmc")
    images: list[dict[str, Any]] = []
    for file, fit, answer in zip(files, fits, halometry.predict(options.run, files), strict=True):
        if isinstance(fit, ReadError) or fit.subhalo_posterior is None:
            raise SystemExit(f"{file}: cannot be fitted")
        mass = fit.subhalo_posterior.mass_fractions
        low, high = answer.intervals["68"]
        apart = (answer.f_sub - mass.mean()) / np.hypot(mass.std(), (high - low) / SPREAD)
        images.append(
            {
                "image": f"{file.parent.name}/{file.name}",
                "sampled": {"mean": float(mass.mean()), "error": float(mass.std())},
                "network": {"mean": answer.f_sub, "lo68": low, "hi68": high},
                "apart": float(apart),
            }
        )
    statistic = float(sum(one["apart"] ** 2 for one in images))
    rows = [["image", "sampled subhalos", options.run, "apart, in their errors"]]
    for one in images:
        sampled, network = one["sampled"], one["network"]
        rows.append(
            [
                one["image"],
                f"{sampled['mean']:.4f} ± {sampled['error']:.4f}",
                f"{network['mean']:.4f} [{network['low_68']:.4f}, {network['high_68']:.4f}]",
                f"{one['apart']:+.1f}",
            ]
        )
    record = {
        "what": "mass fractions of real images, by sampling their subhalos and by a network",
        "command": command(),
        **provenance(),
        "preset": SAMPLED,
        "run": options.run,
        "chi_square": statistic,
        "chance_of_more": float(chi2.sf(statistic, len(images))),
        "images": images,
        "rows": rows,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=1), statistic, record["chance_of_more"])


if __name__ == "__main__":
    main()
