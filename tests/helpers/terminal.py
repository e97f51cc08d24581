"""The command `halometry`, run inside the test process, with its captured output."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from halometry import cli

QUICK = ["--epochs", "1", "--set", "precision=float32", "--set", "channels_last=true"]


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


class Command:
    """Callable that runs the command with the given words in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.capsys, self.patch = capsys, patch

    def __call__(self, *words: object) -> Outcome:
        self.capsys.readouterr()
        self.patch.setattr(sys, "argv", ["halometry", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Outcome(status, *self.capsys.readouterr())
