"""What it gains to keep freed memory in the process: rates of simulation and training, in turns.

    python benchmarks/freed_memory.py --out results/freed_memory.json

Each measurement is a process of its own, with and without in turns: `_keep_memory` of
`simulation.render` for rendering by one thread, `training.memory.keep_freed_memory` for training
steps by all threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import torch

from halometry.io import write_json
from halometry.models import Network
from halometry.provenance import command, provenance
from halometry.simulation import load_preset
from halometry.training.memory import keep_freed_memory

IMAGES = 160  # rendered in one measurement
BATCH_SIZE, STEPS, WARM_UP_STEPS = 64, 8, 2
CASES = {  # name and arguments of `training_rate`
    "simulate common_test_1": None,
    "train resnet18, bfloat16": ("resnet18", True),
    "train mobilenetv3_small, float32": ("mobilenetv3_small", False),
    "train d4net, bfloat16": ("d4net", True),
}


def simulation_rate(keep: bool) -> float:
    """Simulated images per second, by one thread."""
    render = import_module("halometry.simulation.render")
    if not keep:
        vars(render)["_keep_memory"] = lambda: None
    preset = load_preset("common_test_1")
    render.sample(preset, 0, 0, 8)
    start = time.perf_counter()
    render.sample(preset, 1, 0, IMAGES)
    return IMAGES / (time.perf_counter() - start)


def training_rate(backbone: str, bfloat16: bool, keep: bool) -> float:
    """Images per second of the fastest training step, at 150 px."""
    with keep_freed_memory() if keep else nullcontext():
        network = Network(backbone, channels=1, n_outputs=3).train()
        network = network.to(memory_format=torch.channels_last)
        images = torch.rand(BATCH_SIZE, 1, 150, 150).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters())
        seconds = []
        for _ in range(STEPS):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = network(images).float().square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
    return BATCH_SIZE / min(seconds[WARM_UP_STEPS:])


def measure(case: str, keep: bool) -> float:
    """Rate of a case, in a process of its own."""
    words = [sys.executable, __file__, "--case", case, *(["--keep"] if keep else [])]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the record to write")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=CASES, help="measure once and print the rate")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if options.case:
        training = CASES[options.case]
        print(training_rate(*training, options.keep) if training else simulation_rate(options.keep))
        return
    load = os.getloadavg()[0]
    rows = {}
    for case in CASES:
        pairs = [(measure(case, True), measure(case, False)) for _ in range(options.rounds)]
        ratios = [kept / freed for kept, freed in pairs]
        rows[case] = {
            "images_per_second": {
                "kept": [round(kept, 1) for kept, _ in pairs],
                "freed": [round(freed, 1) for _, freed in pairs],
            },
            "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        }
        print(f"{case}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    about = {
        "what": "images per second with freed memory kept in the process, and without",
        "interval": "median, smallest and largest ratio of the rounds",
        "command": command(),
        **provenance(),
        "load_before": round(load, 2),
        "rounds": options.rounds,
    }
    write_json(options.out, "measurement", about | {"cases": rows})


if __name__ == "__main__":
    main()
