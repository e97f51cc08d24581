"""Images a second in training of each network, with each precision and memory format.

python benchmarks/training.py --out results/training_speed.json
"""

from __future__ import annotations

import torch
from measuring import begin_record, create_parser, write_record

from halometry.doctor import PRECISIONS
from halometry.models import Network
from halometry.models.backbones import PLAIN_NAMES
from halometry.parallel import find_device
from halometry.runs.execution import Execution
from halometry.training.estimate import training_speed
from halometry.training.memory import keep_freed_memory


def main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = find_device(options.device)
    example = torch.rand(options.batch, 1, options.size, options.size)
    what = f"training, batches of {options.batch} images of {options.size} px, one channel"
    ways = [(precision, last) for precision in PRECISIONS for last in (True, False)]
    head = ["network", *(f"{p}, channels {'last' if last else 'first'}" for p, last in ways)]
    record = begin_record(what, device) | {"ways": [], "rows": [head]}
    for name in PLAIN_NAMES:
        record["rows"].append([name])
        for precision, last in ways:
            execution = Execution(
                device=device,
                precision=precision,
                channels_last=last,
                threads=torch.get_num_threads(),
            )
            with keep_freed_memory():
                speed = training_speed(Network(name, 1, 3), example, execution)
            measured = {"network": name, "images_per_second": round(speed, 1)}
            record["ways"].append(measured | execution.model_dump())
            record["rows"][-1].append(f"{speed:.0f}")
    write_record(record, options.out)


if __name__ == "__main__":
    main()
