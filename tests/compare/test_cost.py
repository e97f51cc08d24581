"""Cost of networks whose cost is known."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from halometry.compare.cost import measure_speed, model_cost, peak_memory
from halometry.provenance import machine


def test_cost_of_a_convolution_is_known(tmp_path: Path) -> None:
    net = nn.Conv2d(2, 8, 3, padding=1, bias=False).eval()
    weights = tmp_path / "weights"
    weights.write_bytes(b"x" * 123)
    cost = model_cost(net, torch.zeros(1, 2, 10, 12), weights, batch_size=4)
    assert cost["parameters"] == 2 * 8 * 9
    assert cost["macs"] == 2 * 8 * 9 * 10 * 12
    assert cost["checkpoint_bytes"] == 123
    arrays = 2 * 8 * 9 + 4 * 2 * 120 + 4 * 8 * 120  # weights, input, output
    assert cost["peak_memory_bytes"] == 4 * arrays


def test_peak_memory_counts_live_tensors_only() -> None:
    # In a chain of ten equal layers, only a layer's input and output live at the same time.
    chain = nn.Sequential(*[nn.ReLU() for _ in range(10)]).eval()
    batch = torch.zeros(1, 1000)
    assert peak_memory(chain, batch) == 3 * batch.nbytes


def test_peak_memory_grows_with_the_batch() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    net(torch.zeros(1, 1, 16, 16))
    small, large = (peak_memory(net, torch.zeros(n, 1, 16, 16)) for n in (2, 8))
    assert small < large < 4 * small + 1


def test_larger_network_is_slower() -> None:
    light, heavy = nn.Conv2d(1, 2, 3).eval(), nn.Conv2d(1, 256, 9).eval()
    example = torch.zeros(1, 1, 64, 64)
    speeds = measure_speed({"light": light, "heavy": heavy}, example, batch_size=8, seconds=0.2)
    assert speeds["light"]["latency_ms"]["median"] < speeds["heavy"]["latency_ms"]["median"]
    assert speeds["light"]["throughput"]["median"] > speeds["heavy"]["throughput"]["median"]
    for numbers in speeds["light"].values():
        assert numbers["low"] <= numbers["median"] <= numbers["high"]


def test_machine_is_described() -> None:
    here = machine()
    assert here["processor"]
    assert here["cores"] >= 1
    assert here["memory_gb"] > 0
