"""Execution and checkpoint interval of a run, as they follow from the machine and the recipe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from halometry.errors import UsageError
from halometry.models import Network
from halometry.parallel import find_device
from halometry.runs.execution import Execution, pinned_threads
from halometry.runs.recipe import Recipe
from halometry.training import hardware, trainer
from halometry.training.distributed import DistributedContext
from halometry.training.hardware import (
    NetworkProfile,
    choose_execution,
    profile_network,
    steps_per_checkpoint,
)

CONVOLUTIONAL = NetworkProfile(macs=100, convolution_macs=99)
TRANSFORMER = NetworkProfile(macs=100, convolution_macs=1)


@pytest.mark.parametrize("is_native", [True, False])
def test_automatic_precision_follows_from_the_machine(
    monkeypatch: pytest.MonkeyPatch, is_native: bool
) -> None:
    monkeypatch.setattr(hardware, "has_native_bfloat16", lambda device: is_native)
    automatic = choose_execution(CONVOLUTIONAL, Recipe(), "cpu")
    assert automatic.precision == ("bfloat16" if is_native else "float32")
    for precision in ("float32", "bfloat16"):
        chosen = choose_execution(CONVOLUTIONAL, Recipe(precision=precision), "cpu")
        assert chosen.precision == precision


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_bfloat16_is_native_with_avx512_or_amx(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert hardware.has_native_bfloat16("cpu") is expected


def test_bfloat16_of_a_gpu_is_asked_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: True)
    assert hardware.has_native_bfloat16("cuda:1")


def test_automatic_memory_format_is_channels_last_for_convolutions() -> None:
    assert choose_execution(CONVOLUTIONAL, Recipe(), "cpu").channels_last
    assert not choose_execution(TRANSFORMER, Recipe(), "cpu").channels_last
    assert choose_execution(TRANSFORMER, Recipe(channels_last=True), "cpu").channels_last
    assert not choose_execution(CONVOLUTIONAL, Recipe(channels_last=False), "cpu").channels_last


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv3_small", "d4net"])
def test_profile_of_convolutional_networks_is_in_convolutions(backbone: str) -> None:
    profile = profile_network(Network(backbone, 1, 3), torch.rand(1, 1, 48, 48))
    assert profile.macs / 2 < profile.convolution_macs <= profile.macs


def test_profile_of_transformers_is_not_in_convolutions() -> None:
    profile = profile_network(Network("test_vit", 1, 3), torch.rand(1, 1, 160, 160))
    assert profile.convolution_macs < profile.macs / 2


def test_profile_counts_multiply_accumulates() -> None:
    convolution = torch.nn.Conv2d(2, 3, 5, padding="same")
    profile = profile_network(convolution, torch.rand(1, 2, 8, 8))
    assert profile == NetworkProfile(2 * 3 * 25 * 64, 2 * 3 * 25 * 64)


def test_networks_with_depthwise_convolutions_have_float32_on_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "has_native_bfloat16", lambda device: True)
    example = torch.rand(1, 1, 48, 48)
    for backbone, precision in (("mobilenetv3_small", "float32"), ("d4net", "bfloat16")):
        profile = profile_network(Network(backbone, 1, 3), example)
        assert choose_execution(profile, Recipe(), "cpu").precision == precision
        assert choose_execution(profile, Recipe(), "cuda").precision == "bfloat16"


def test_execution_does_not_depend_on_the_moment() -> None:
    first, second = (choose_execution(CONVOLUTIONAL, Recipe(), "cpu") for _ in range(2))
    assert first == second
    assert first.threads == torch.get_num_threads()


def test_checkpoint_interval_follows_from_the_cost_of_a_step() -> None:
    resnet18_at_150_px = NetworkProfile(macs=839_266_368, convolution_macs=839_266_368)
    assert steps_per_checkpoint(resnet18_at_150_px, 64) == 80  # of 43 images/s: two minutes
    assert steps_per_checkpoint(resnet18_at_150_px, 32) == 161
    assert steps_per_checkpoint(NetworkProfile(10**13, 0), 64) == 1
    assert steps_per_checkpoint(NetworkProfile(10**6, 0), 16) == 1000
    assert steps_per_checkpoint(NetworkProfile(0, 0), 16) == 1000


def test_unusable_device_is_refused() -> None:
    assert find_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="device 'meta' is not usable here"):
        find_device("meta")


def test_pinned_threads_are_restored() -> None:
    before = torch.get_num_threads()
    with pinned_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_run_uses_no_more_threads_than_the_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(trainer, "_fit", lambda *_: seen.append(torch.get_num_threads()))
    spec: Any = SimpleNamespace(config=SimpleNamespace(execution=Execution(threads=64)))
    with pinned_threads(1):
        trainer.fit(spec, DistributedContext())
    assert seen == [1]
