"""Table of results of the README: new images, mapped without their true lenses."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results"
METHODS = {
    "common_test_1/d4net": "d4net on raw images",
    "common_test_1/d4net_mapped": "d4net on mass maps",
    "common_test_1_broad/d4net_mapped": "d4net on mass maps, broad preset",
    "halo_mass/d4net": "d4net on raw images",
    "halo_mass/d4net_mapped": "d4net on mass maps",
    "halo_mass_broad/d4net_mapped": "d4net on mass maps, broad preset",
    "sampled subhalos": "MCMC sampling, no network",
}


def results_table() -> list[list[str]]:
    """Rows of the table: what is predicted, method, two metrics, and number of images."""
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
    return rows
