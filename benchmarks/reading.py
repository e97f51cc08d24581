"""Time to open folders in the published layouts: the first time (packing) and the second.

    python benchmarks/reading.py --out results/reading.json

Writes small files in the two published layouts, `train|val/{no,sphere,vort}/N.npy` with
(1, 150, 150) float64 and `lens_data/image_N.npy` with `[image, mass fraction]`, opens each set
twice, beginning with an empty cache, and times the reader alone on 2,000 of them. The 30,000 files
(5 GB) were just written, so the system may still hold them in memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import begin_record, create_parser, write_record

import halometry
from halometry.datasets.cache import cache_info
from halometry.datasets.readers import read_image
from halometry.simulation import load_preset, sample

CLASSES = ("no", "sphere", "vort")
VALIDATION_FRACTION = 0.2
DISTINCT_IMAGES = 120  # which the files repeat


def write_classes(root: Path, count: int) -> None:
    """Write the published classification layout, with images that are min-max scaled."""
    images, scene = sample(load_preset("common_test_1"), 0, 0, DISTINCT_IMAGES, "cpu")
    arrays = images.double().numpy()
    low, high = arrays.min(axis=(1, 2, 3)), arrays.max(axis=(1, 2, 3))
    arrays = (arrays - low[:, None, None, None]) / (high - low)[:, None, None, None]
    for part in ("train", "val"):
        for name in CLASSES:
            (root / part / name).mkdir(parents=True)
    for i in range(count):
        part = "val" if i % 100 < 100 * VALIDATION_FRACTION else "train"
        which = i % DISTINCT_IMAGES
        name = CLASSES[int(scene.labels[which])]
        np.save(root / part / name / f"{i}.npy", arrays[which])


def write_masses(root: Path, count: int) -> None:
    """Write the published mass layout: object arrays, half of the images with a channel axis."""
    images, scene = sample(load_preset("halo_mass"), 0, 0, DISTINCT_IMAGES, "cpu")
    (root / "lens_data").mkdir(parents=True)
    for i in range(count):
        which = i % DISTINCT_IMAGES
        pair = np.empty(2, dtype=object)
        image = images[which].double().numpy()
        pair[0] = image if i % 2 else image[0]
        pair[1] = float(scene.labels[which])
        np.save(root / "lens_data" / f"image_{i}.npy", pair, allow_pickle=True)


def seconds_to_open(root: Path) -> float:
    """Seconds until every image can be used."""
    start = time.perf_counter()
    data = halometry.open_dataset(root)
    len(data)
    return time.perf_counter() - start


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--folder", type=Path, help="where to write the files for a while")
    options = parser.parse_args()
    record = begin_record("seconds to open a folder of small files") | {"sets": {}}
    record["rows"] = [["layout", "files", "reader alone", "first time", "second time"]]
    for layout, make in (("classes", write_classes), ("masses", write_masses)):
        root = Path(tempfile.mkdtemp(prefix=f"halometry-{layout}-", dir=options.folder))
        os.environ["HALOMETRY_CACHE"] = str(root / "cache")
        try:
            make(root / "set", options.count)
            files = sorted((root / "set").rglob("*.npy"))
            sample_files = files[:: max(1, len(files) // 2000)]
            start = time.perf_counter()
            for file in sample_files:
                read_image(file)
            each = (time.perf_counter() - start) / len(sample_files)
            first, second = seconds_to_open(root / "set"), seconds_to_open(root / "set")
            row = {
                "files": len(files),
                "set_bytes": sum(f.stat().st_size for f in files),
                "cache_bytes": cache_info().bytes,
                "reader_ms_per_file": 1e3 * each,
                "first_seconds": first,
                "second_seconds": second,
            }
            record["sets"][layout] = row
            cells = [f"{len(files):,}", f"{1e3 * each:.2f} ms a file"]
            record["rows"].append([layout, *cells, f"{first:.1f} s", f"{second:.1f} s"])
        finally:
            shutil.rmtree(root)
    write_record(record, options.out)


if __name__ == "__main__":
    main()
