"""The benchmarks of training run, in tiny form; what their arithmetic says is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from measuring import ratio  # noqa: E402
from time_to_auc import Race, compared  # noqa: E402

SMALL = ["--networks", "mobilenetv3_small"]


def run(script: str, *options: str, out: Path) -> dict[str, Any]:
    words = [sys.executable, str(FOLDER / script), *options, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(out.read_text())
    assert record["rows"][1][0] in done.stdout
    assert record["machine"]["cores"]
    return record


def test_a_ratio_is_that_of_rounds_in_pairs() -> None:
    found = ratio([10.0, 200.0, 31.0], [5.0, 100.0, 10.0])
    assert found["value"] == 2.0
    assert found["low"] == 2.0
    assert found["high"] == pytest.approx(3.1)


def history(run: Path, rows: list[str], setup: float) -> None:
    run.mkdir(parents=True)
    lines = ["seconds,val_metric,images", *rows]
    (run / "history.csv").write_text("\n".join(lines))
    run.with_suffix(".setup.json").write_text(json.dumps(setup))


def test_time_to_an_auc_counts_from_the_command_and_stops_at_the_limit(tmp_path: Path) -> None:
    run = tmp_path / "run"
    history(run, ["10,0.6,100", "20,0.91,200", "30,0.95,300"], setup=4)
    assert Race(run, [], 0.9, 60).outcome() == {
        "seconds": 24.0, "reached": True, "auc": 0.91, "images": 200
    }  # fmt: skip
    after_maps = Race(run, [], 0.9, 60, spent=30).outcome()
    assert after_maps is not None
    assert after_maps["seconds"] == 54
    late = Race(run, [], 0.9, 15).outcome()
    assert late is not None
    assert (late["seconds"], late["reached"]) == (15, False)
    assert Race(run, [], 0.99, 60).outcome() is None
    (run / "metrics.json").write_text("{}")
    ended = Race(run, [], 0.99, 60).outcome()
    assert ended is not None
    assert (ended["seconds"], ended["reached"]) == (60, False)


def test_a_baseline_that_does_not_get_there_makes_the_ratio_a_lower_one() -> None:
    def one(baseline: float, default: float, reached: bool = True) -> dict[str, Any]:
        return {
            "baseline": {"seconds": baseline, "reached": reached},
            "default": {"seconds": default, "reached": True},
        }

    found = compared([one(40, 10), one(90, 10)], "default")
    assert found is not None
    assert found["value"] == pytest.approx(6.0)
    assert found["low"] < 4
    assert found["high"] > 9
    assert not found["at_least"]
    lower = compared([one(40, 10), one(90, 10, reached=False)], "default")
    assert lower is not None
    assert lower["at_least"]
    assert compared([one(40, 10), one(90, 10, reached=False)], "baseline") is None


@pytest.mark.slow
def test_rendering_is_measured_in_both_ways(tmp_path: Path) -> None:
    options = ["--presets", "demo_mass", "--rounds", "2", "--device", "cpu"]
    record = run("rendering.py", *options, out=tmp_path / "rendering.json")
    rates = record["presets"]["demo_mass"]
    assert min(rates[way]["low"] for way in ("set", "training")) > 0
    assert rates["ratio"]["low"] <= rates["ratio"]["value"] <= rates["ratio"]["high"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_training_loop_is_measured(tmp_path: Path) -> None:
    tiny = ["--preset", "demo_classification", "--images", "60", "--rounds", "2", "--seconds", "0"]
    record = run("training_loop.py", *tiny, *SMALL, out=tmp_path / "loop.json")
    measured = record["networks"]["mobilenetv3_small"]
    assert set(measured["images_per_second"]) == {"published", "default", "stored", "ceiling"}
    for ratio_ in measured["ratios"].values():
        assert 0 < ratio_["low"] <= ratio_["value"] <= ratio_["high"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_time_to_an_auc_is_measured_and_kept(tmp_path: Path) -> None:
    options = ["--images", "60", "--threshold", "0.01", "--seeds", "1", *SMALL]
    options += ["--work", str(tmp_path / "work")]
    first = run("time_to_auc.py", *options, out=tmp_path / "first.json")
    again = run("time_to_auc.py", *options, out=tmp_path / "again.json")
    assert first["networks"] == again["networks"]
    (race,) = first["networks"]["mobilenetv3_small"]["runs"]
    assert race["default"]["reached"]
    assert race["mapped"]["seconds"] > first["mapping_seconds"] > 1
    assert first["rendering_seconds"] > 1


@pytest.mark.slow
def test_the_benchmark_for_a_gpu_runs_in_small_on_a_cpu(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--size", "48", "--images", "32", "--batch", "8", "--seconds"]
    options += ["0.1", "--no-compile", "--record-images", "0", *SMALL]
    record = run("gpu.py", *options, out=tmp_path / "gpu.json")
    assert record["networks"]["mobilenetv3_small"]["eager"]["training"]["median"] > 0
    assert record["matrix_peak_macs"] > 0
