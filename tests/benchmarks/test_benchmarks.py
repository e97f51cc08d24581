"""Arithmetic of the benchmarks, and the benchmarks themselves in small form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from halometry.io import check_header

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from measuring import median_ratio  # noqa: E402
from time_to_auc import TimedRun, time_ratio  # noqa: E402

SMALL = ["--networks", "mobilenetv3_small"]


def run_script(script: str, *options: str, out: Path) -> dict[str, Any]:
    words = [sys.executable, str(FOLDER / script), *options, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(out.read_text())
    assert record["rows"][1][0] in done.stdout
    assert record["machine"]["cores"]
    check_header(record, "measurement", out)
    return record


def test_median_ratio_is_of_paired_rounds() -> None:
    found = median_ratio([10.0, 200.0, 31.0], [5.0, 100.0, 10.0])
    assert found["value"] == 2.0
    assert found["low"] == 2.0
    assert found["high"] == pytest.approx(3.1)


def write_history(run: Path, rows: list[str], setup: float) -> None:
    run.mkdir(parents=True)
    lines = ["seconds,val_metric,images", *rows]
    (run / "history.csv").write_text("\n".join(lines))
    run.with_suffix(".setup.json").write_text(json.dumps(setup))


def test_time_to_auc_includes_setup_and_ends_at_the_limit(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_history(run, ["10,0.6,100", "20,0.91,200", "30,0.95,300"], setup=4)
    assert TimedRun(run, [], 0.9, 60).outcome() == {
        "seconds": 24.0, "reached": True, "auc": 0.91, "images": 200
    }  # fmt: skip
    after_maps = TimedRun(run, [], 0.9, 60, spent=30).outcome()
    assert after_maps is not None
    assert after_maps["seconds"] == 54
    late = TimedRun(run, [], 0.9, 15).outcome()
    assert late is not None
    assert (late["seconds"], late["reached"]) == (15, False)
    assert TimedRun(run, [], 0.99, 60).outcome() is None
    (run / "metrics.json").write_text("{}")
    ended = TimedRun(run, [], 0.99, 60).outcome()
    assert ended is not None
    assert (ended["seconds"], ended["reached"]) == (60, False)


def test_time_ratio_is_a_lower_limit_if_the_baseline_fails() -> None:
    def pair(baseline: float, default: float, reached: bool = True) -> dict[str, Any]:
        return {
            "baseline": {"seconds": baseline, "reached": reached},
            "default": {"seconds": default, "reached": True},
        }

    found = time_ratio([pair(40, 10), pair(90, 10)], "default")
    assert found is not None
    assert found["value"] == pytest.approx(6.0)
    assert found["low"] < 4
    assert found["high"] > 9
    assert not found["at_least"]
    lower = time_ratio([pair(40, 10), pair(90, 10, reached=False)], "default")
    assert lower is not None
    assert lower["at_least"]
    assert time_ratio([pair(40, 10), pair(90, 10, reached=False)], "baseline") is None


@pytest.mark.slow
def test_rendering_benchmark_runs(tmp_path: Path) -> None:
    options = ["--presets", "demo_mass", "--rounds", "2", "--device", "cpu"]
    record = run_script("rendering.py", *options, out=tmp_path / "rendering.json")
    rates = record["presets"]["demo_mass"]
    assert min(rates[way]["low"] for way in ("set", "training")) > 0
    assert rates["ratio"]["low"] <= rates["ratio"]["value"] <= rates["ratio"]["high"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_loop_benchmark_runs(tmp_path: Path) -> None:
    tiny = ["--preset", "demo_classification", "--images", "60", "--rounds", "2", "--seconds", "0"]
    record = run_script("training_loop.py", *tiny, *SMALL, out=tmp_path / "loop.json")
    measured = record["networks"]["mobilenetv3_small"]
    assert set(measured["images_per_second"]) == {"published", "default", "stored", "ceiling"}
    for ratio_ in measured["ratios"].values():
        assert 0 < ratio_["low"] <= ratio_["value"] <= ratio_["high"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_time_to_auc_benchmark_runs_and_keeps_its_runs(tmp_path: Path) -> None:
    options = ["--images", "60", "--threshold", "0.01", "--seeds", "1", *SMALL]
    options += ["--work", str(tmp_path / "work")]
    first = run_script("time_to_auc.py", *options, out=tmp_path / "first.json")
    again = run_script("time_to_auc.py", *options, out=tmp_path / "again.json")
    assert first["networks"] == again["networks"]
    (race,) = first["networks"]["mobilenetv3_small"]["runs"]
    assert race["default"]["reached"]
    assert race["mapped"]["seconds"] > first["mapping_seconds"] > 1
    assert first["rendering_seconds"] > 1


@pytest.mark.slow
def test_gpu_benchmark_runs_on_a_cpu(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--size", "48", "--images", "32", "--batch", "8", "--seconds"]
    options += ["0.1", "--no-compile", "--record-images", "0", *SMALL]
    record = run_script("gpu.py", *options, out=tmp_path / "gpu.json")
    assert record["networks"]["mobilenetv3_small"]["eager"]["training"]["median"] > 0
    assert record["matrix_peak_macs"] > 0
