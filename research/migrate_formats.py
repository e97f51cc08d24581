"""Rewrite files of the formats used before the first release in the current formats.

    python research/migrate_formats.py src/halometry/runs/weights/*/*
    python research/migrate_formats.py results/*.json

A folder is taken for a run folder, a file for a result file. Only names, keys and the layout
change; numbers and the bytes of tensors stay. Files in the current format are left as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from migrate_results import migrate_result
from safetensors import safe_open
from torch import Tensor

from halometry.config import read_yaml, validate
from halometry.io import check_header, header, write_json
from halometry.runs.config import RunConfig
from halometry.runs.run import write_config, write_tensors
from halometry.simulation import load_preset

CONFORMAL_SCORES = {"distance": "absolute_residual", "credibility": "central_credibility"}
METRICS_KEYS = {
    "precision_of_weights": "weights_precision",
    "largest_change_by_precision": "max_change_half_precision",
}
DETECTOR_NAMES = {
    "unit": "scaling.unit",
    "levels": "scaling.levels",
    "channels": "scaling.channels",
    "features.mean": "subspace.mean",
    "features.axes": "subspace.axes",
    "units": "distance_scales",
    "compared": "reference_scores",
}
DETECTOR_GROUPS = {"centre": "center", "together": "statistics"}


def migrate_run(folder: Path) -> None:
    """Rewrite all files of a run folder, except its card."""
    _migrate_config(folder / "config.yaml")
    _migrate_split(folder / "split.json")
    _migrate_lineage(folder / "earlier.json")
    _migrate_conformal(folder / "conformal.json")
    _migrate_metrics(folder / "metrics.json")
    _migrate_detector(folder / "novelty.safetensors")
    _migrate_weights(folder / "weights.safetensors")


def _migrate_config(path: Path) -> None:
    content = read_yaml(path)
    if "initial_weights" not in content:
        names = {"start": "initial_weights"}
        content = {names.get(key, key): value for key, value in content.items()}
        content["versions"].pop("halometry", None)
    content["recipe"].pop("max_seconds", None)
    preset = content["data"].get("mass_map_preset")
    if preset is not None:
        content["data"]["mass_map_preset"] = _current_preset(preset)
    config = validate(RunConfig, content | header("run"), str(path))
    write_config(path.parent, config)


def _current_preset(text: str) -> str:
    """Return the package's text of a preset, if it differs in remarks on sources only."""
    content = yaml.safe_load(text)
    current = load_preset(content["name"]).to_yaml()
    if _without_remarks(yaml.safe_load(current)) != _without_remarks(content):
        raise SystemExit(f"preset {content['name']} has other values than the package's")
    return current


def _without_remarks(content: Any) -> Any:
    if isinstance(content, dict):
        remarks = ("source", "description")
        return {k: _without_remarks(value) for k, value in content.items() if k not in remarks}
    return content


def _migrate_split(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    if "format" not in content:
        write_json(path, "split", _split(content))


def _migrate_lineage(path: Path) -> None:
    if not path.is_file():
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    datasets = [
        {"data": entry["data"], "split": _split(json.loads(entry["split"]))} for entry in content
    ]
    write_json(path.with_name("lineage.json"), "lineage", {"datasets": datasets})
    path.unlink()


def _split(content: dict[str, Any]) -> dict[str, Any]:
    return {"seed": content["seed"], "parts": content["images"]}


def _migrate_conformal(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    if "untouched" not in content:
        return
    score = CONFORMAL_SCORES[content.get("kind", "distance")]
    current = {
        "score": "class_probability" if len(content["scores"]) > 1 else score,
        "scores": content["scores"],
        "images": content["images"],
        "fingerprint": content["fingerprint"],
        "held_out": content["untouched"],
    }
    write_json(path, "conformal", current)


def _migrate_metrics(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    if "format" not in content:
        current = {METRICS_KEYS.get(key, key): value for key, value in content.items()}
        write_json(path, "training", current)


def _migrate_detector(path: Path) -> None:
    if not path.is_file():
        return
    tensors = {}
    for name, tensor in _tensors(path)[0].items():
        if name.startswith("clouds."):
            _, group, part = name.split(".")
            tensors[f"gaussians.{DETECTOR_GROUPS.get(group, group)}.{part}"] = tensor
        else:
            tensors[DETECTOR_NAMES[name]] = tensor
    write_tensors(path.with_name("ood.safetensors"), tensors, "ood")
    path.unlink()


def _migrate_weights(path: Path) -> None:
    tensors, metadata = _tensors(path)
    if not metadata:
        write_tensors(path, tensors, "weights")
    check_header(_tensors(path)[1], "weights", path)


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="run folders and result files")
    for path in parser.parse_args().paths:
        if path.is_dir():
            migrate_run(path)
        else:
            migrate_result(path)


if __name__ == "__main__":
    main()
