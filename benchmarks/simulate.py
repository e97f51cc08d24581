"""Speed of `halometry simulate` with one and two processes, and its peak memory.

python benchmarks/simulate.py --out results/simulate.json
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import begin_record, create_parser, format_rate, quartiles, write_record

from halometry.datasets.generate import simulate

PROCESSES = (1, 2)
SHARD_SIZE = 256


def measure_rate(preset: str, count: int, workers: int) -> float:
    """Images per second of a whole set, including the start of processes and writing."""
    with tempfile.TemporaryDirectory(prefix="halometry-") as folder:
        start = time.perf_counter()
        simulate(preset, count, out=Path(folder) / "set.h5", workers=workers, shard_size=SHARD_SIZE)
        return count / (time.perf_counter() - start)


def peak_memory(preset: str, count: int) -> int:
    """Peak memory of the command with one process, bytes."""
    with tempfile.TemporaryDirectory(prefix="halometry-") as folder:
        words = ["simulate", preset, "--count", str(count), "--workers", "1"]
        process = subprocess.Popen(
            [sys.executable, "-m", "halometry", *words, "--out", str(Path(folder) / "set.h5")],
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"halometry simulate ended with status {process.returncode}")
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--preset", default="common_test_1", help="for the rates")
    parser.add_argument("--count", type=int, default=16_384, help="images of a set for the rates")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-preset", default="demo_mass")
    parser.add_argument("--memory", type=int, nargs="*", default=[1_000, 10_000, 100_000],
                        help="images of the sets whose memory is measured")  # fmt: skip
    options = parser.parse_args()
    record = begin_record("images/s of `halometry simulate`, median and quartiles, and peak memory")
    record |= {
        "preset": options.preset,
        "images": options.count,
        "rounds": options.rounds,
    }
    rates: dict[int, list[float]] = {workers: [] for workers in PROCESSES}
    for _ in range(options.rounds):
        for workers in PROCESSES:  # in turns, so that a busy moment hits both
            rates[workers].append(measure_rate(options.preset, options.count, workers))
    ratios = [two / one for one, two in zip(*rates.values(), strict=True)]
    record["images_per_second"] = {str(n): quartiles(values) for n, values in rates.items()}
    record["two_over_one"] = quartiles(ratios)
    record["memory_preset"] = options.memory_preset
    record["peak_memory_bytes"] = {}
    for count in options.memory:
        record["peak_memory_bytes"][str(count)] = peak_memory(options.memory_preset, count)
    measured, memory = record["images_per_second"].items(), record["peak_memory_bytes"].items()
    named = [(f"{n} process{'es' if n != '1' else ''}", format_rate(rate)) for n, rate in measured]
    record["rows"] = [
        ["what", "median [quartiles]"],
        *([f"{options.preset}, {name}, images a second", rate] for name, rate in named),
        ["two processes over one", format_rate(record["two_over_one"])],
        *(
            [f"{options.memory_preset}, {int(n):,} images: memory", f"{m / 1e6:.0f} MB"]
            for n, m in memory
        ),
    ]
    write_record(record, options.out)


if __name__ == "__main__":
    main()
