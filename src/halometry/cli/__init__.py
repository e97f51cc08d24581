"""The command `halometry`.

Each module of this package holds one group of subcommands. A subcommand is a short function that
calls a public function of the library and prints its result.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from rich.console import Console

from halometry.cli.app import GLOBAL_OPTIONS, app
from halometry.errors import HalometryError
from halometry.log import printed_messages

__all__ = ["app", "main"]

COMMAND_MODULES = ("data", "train", "evaluate", "lens", "analysis", "info")
for _module in COMMAND_MODULES:  # importing a module registers its subcommands, in this order
    import_module(f"halometry.cli.{_module}")

INTERRUPTED = 130  # exit status after Ctrl-C
RESUMABLE = ("simulate", "map", "train", "compare", "reproduce", "demo")  # continue if repeated


def main() -> None:
    """Run the command. A user's mistake is one line on standard error, not a traceback."""
    arguments = sys.argv[1:]
    given = [option for option in GLOBAL_OPTIONS if option in arguments]
    words = [word for word in arguments if word not in GLOBAL_OPTIONS]
    with printed_messages(quiet="--quiet" in given, verbose="--verbose" in given):
        _run([*given, *words], debug="--debug" in given)


def _run(arguments: Sequence[str], *, debug: bool) -> None:
    """Run the application; turn expected errors into a message and an exit status."""
    try:
        app(arguments)
    except HalometryError as error:
        if debug:
            raise
        if str(error):
            _print_error(f"error: {error}")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _print_error(_interruption(arguments), style=None)
        raise
    except RuntimeError as error:
        if debug or type(error).__name__ != "OutOfMemoryError":  # PyTorch's, not imported here
            raise
        advice = "a smaller --set batch_size=... for training, or --device cpu"
        _print_error(f"error: the GPU's memory is not enough; use {advice}")
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        file = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        _print_error(f"error: {file}{reason} (--debug shows the traceback)")
        sys.exit(1)


def _interruption(arguments: Sequence[str]) -> str:
    """Message after Ctrl-C, with how to continue where that is possible."""
    subcommand = next((word for word in arguments if not word.startswith("-")), "")
    if subcommand not in RESUMABLE:
        return "stopped"
    without = ", without --overwrite" if "--overwrite" in arguments else ""
    return f"stopped; repeat the same command to continue{without}"


def _print_error(message: str, style: str | None = "red") -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(message, markup=False, style=style)
