"""Images a second in training for each network, in every way that this machine could run it.

python benchmarks/training.py --out results/training_speed.json
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from halometry.devices import find_device
from halometry.evaluation.cost import machine
from halometry.models import Network
from halometry.models.backbone import PLAIN_NAMES
from halometry.training.execution import choose_execution
from halometry.training.memory import freed_memory_kept

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = find_device(options.device)
    example = torch.rand(options.batch, 1, options.size, options.size)
    rows = []
    for name in PLAIN_NAMES:
        for precision in PRECISIONS:
            for channels_last in (True, False):
                build = partial(Network, name, 1, 3)
                with freed_memory_kept():
                    way = choose_execution(build, example, device, precision, channels_last)
                rows.append({"network": name} | way.model_dump())
                print(f"{name:18} {way.summary()}")
    record = {
        "what": f"training, batches of {options.batch} images of {options.size} px, one channel",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "ways": rows,
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
