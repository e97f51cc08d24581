"""The command `halometry`."""

from __future__ import annotations

import sys

from rich.console import Console

from halometry.cli import (  # their verbs, in this order, are the application's
    actions,
    fitting,
    lists,
    trust,
)
from halometry.cli.app import app
from halometry.errors import HalometryError

__all__ = ["actions", "app", "fitting", "lists", "main", "trust"]

INTERRUPTED = 130  # the exit status after Ctrl-C
GO_ON = ("simulate", "map", "train", "compare", "demo")  # where they were stopped


def main() -> None:
    """Run the command; a user's mistake is one line on standard error, not a traceback."""
    debug = "--debug" in sys.argv[1:]
    if debug:
        # Accepted anywhere on the line, since that is where a person adds it.
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app()
    except HalometryError as error:
        if debug:
            raise
        if str(error):
            errors.print(f"error: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
            more = "; repeat the same command to go on" if verb in GO_ON else ""
            anew = ", without --overwrite" if more and "--overwrite" in sys.argv else ""
            errors.print(f"stopped{more}{anew}", markup=False)
        raise
    except RuntimeError as error:
        if debug or type(error).__name__ != "OutOfMemoryError":  # PyTorch's, not imported here
            raise
        advice = "a smaller --set batch_size=... for training, or --device cpu"
        errors.print(f"error: the GPU's memory is not enough; use {advice}", style="red")
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        named = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        errors.print(f"error: {named}{reason} (--debug shows where)", markup=False, style="red")
        sys.exit(1)
