"""Tables of the README: results on new images, and trained weights with what they tolerate."""

from __future__ import annotations

import json

from reference_tables import RESULTS, ROBUSTNESS, markdown, time_per_image, tolerated_range

from halometry import list_weights
from halometry.runs.run import load_run

METHODS = {
    "common_test_1/d4net": "d4net on raw images",
    "common_test_1/d4net_mapped": "d4net on mass maps",
    "common_test_1_broad/d4net_mapped": "d4net on mass maps, broad preset",
    "halo_mass/d4net": "d4net on raw images",
    "halo_mass/d4net_mapped": "d4net on mass maps",
    "halo_mass_broad/d4net_mapped": "d4net on mass maps, broad preset",
    "sampled subhalos": "MCMC sampling, no network",
}


TOLERATED = {
    "exposure": "exposure",
    "psf": "PSF width",
    "source_size": "source size",
    "pixel_scale": "pixel scale",
    "added_lens_light": "lens light",
}


def results_table() -> str:
    """What is predicted, method, two metrics, and number of images; mapped without true lenses."""
    rows = [["prediction", "method", "AUC or R²", "accuracy or MSE", "images"]]
    for file, metrics in (
        ("mapped_blind", (1, 2)),
        ("mapped_blind_mass", (1, 2)),
        ("sampled_masses", (2, 1)),
    ):
        record = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
        head, *found = record["rows"]
        count = record.get("count") or record["images"]
        for row in found:
            if row[0] not in METHODS or (file == "sampled_masses" and row[0] == "halo_mass/d4net"):
                continue
            cells = [f"{head[column]} {row[column]}" for column in metrics]
            prediction = "class" if file == "mapped_blind" else "f_sub"
            rows.append([prediction, METHODS[row[0]], *cells, str(count)])
    return markdown(rows)


def weights_table() -> str:
    """All trained weights: what they predict, input, time, and range of each shift."""
    rows = [["weights", "predicts", "input", "time per image", *TOLERATED.values()]]
    for name in list_weights():
        config = load_run(name).config
        ranges = ["not measured"] * len(TOLERATED)
        if name in ROBUSTNESS:
            file = RESULTS / f"{ROBUSTNESS[name]}.json"
            steps = json.loads(file.read_text(encoding="utf-8"))["steps"]
            ranges = [tolerated_range(steps, shift) for shift in TOLERATED]
        rows.append(
            [
                f"`{name}`",
                "class" if config.task == "classification" else "f_sub",
                "raw image" if config.data.mass_map_preset is None else "mass maps",
                time_per_image(name),
                *("–" if cell == "not measured" else cell for cell in ranges),
            ]
        )
    return markdown(rows)


README_TABLES = {"results": results_table, "weights": weights_table}
