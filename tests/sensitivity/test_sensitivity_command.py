"""`halometry sensitivity` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.terminal import Command


def test_sensitivity_ends_with_what_matters(command: Command, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    words = ("sensitivity", run, "--count", 2, "--false-positives", 0.4, "--grid", 3)
    seen = command(*words, "--out", out, "--device", "cpu")
    assert seen.status == 0
    assert "mobilenetv3_small" in seen.out
    assert "lens known" in seen.out
    rows = json.loads((out / "sensitivity.json").read_text(encoding="utf-8"))["rows"]
    assert rows[-1][:2] == ["on the ring", "lens fitted, place sought"]  # wrapped where narrow
    last = seen.out.splitlines()[-3:]
    assert last[0].startswith("Anywhere, at 0.4 false alarms a smooth lens: ")
    assert last[1].startswith("On the ring, at 0.4 false alarms a smooth lens: ")
    assert last[2] == f"curves and maps -> {out}"


def test_a_share_that_is_none_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    failed = command("sensitivity", run, "--false-positives", 1, "--out", tmp_path / "x")
    assert failed.status == 2
    assert "error: --false-positives 1: must be from 0.001 to below 0.5" in failed.err
    assert not (tmp_path / "x").exists()
