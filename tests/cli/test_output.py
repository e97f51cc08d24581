"""Tables on standard output."""

from __future__ import annotations

import pytest
from rich.console import Console

from halometry.cli import output


def test_names_are_printed_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "out_console", Console(width=60))
    interval = "9.48 [9.41, 9.54]"
    row = ["on the ring", "ideal_blind_search", interval, interval, interval]
    output.print_rows([["placement", "observer", "10 %", "50 %", "90 %"], row])
    printed = capsys.readouterr().out
    assert "ideal_blind_search" in printed
    assert "on the ring" in printed
