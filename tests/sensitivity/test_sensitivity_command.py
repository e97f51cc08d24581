"""The command `halometry sensitivity`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.terminal import Command


def test_sensitivity_prints_the_table(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.sensitivity.core.SEARCH_GRID", 9)
    out = tmp_path / "out"
    words = ("sensitivity", run, "--count", 2, "--false-positives", 0.49, "--grid", 3)
    result = command(*words, "--out", out, "--device", "cpu")
    assert result.status == 0
    assert "mobilenetv3_small" in result.out
    assert "ideal_fixed_lens" in result.out
    rows = json.loads((out / "sensitivity.json").read_text(encoding="utf-8"))["rows"]
    assert rows[0][-1] == "mass ratio"
    assert rows[-1][:2] == ["on the ring", "ideal_blind_search"]
    assert result.out.splitlines()[-1] == f"curves and maps -> {out}"


def test_sensitivity_refuses_a_false_positive_rate_of_one(
    command: Command, run: Path, tmp_path: Path
) -> None:
    failed = command("sensitivity", run, "--false-positives", 1, "--out", tmp_path / "x")
    assert failed.status == 2
    assert "error: --false-positives 1: must be from 0.001 to below 0.5" in failed.err
    assert not (tmp_path / "x").exists()
