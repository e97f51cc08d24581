"""The command `halometry`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from halometry.cli import (  # their verbs, in this order, are the application's
    actions,
    fitting,
    lists,
    trust,
)
from halometry.cli.app import app
from halometry.errors import HalometryError, HalometryWarning
from halometry.log import console, logger, silence

__all__ = ["actions", "app", "fitting", "lists", "main", "trust"]

INTERRUPTED = 130  # the exit status after Ctrl-C
GO_ON = ("simulate", "map", "train", "compare", "demo")  # where they were stopped


GLOBAL_OPTIONS = ("--debug", "--quiet", "--verbose")  # accepted anywhere on the line


class MessageHandler(logging.Handler):
    """Prints log messages to standard error, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), markup=False)


@contextmanager
def messages_printed(level: int) -> Iterator[None]:
    """Print messages from a level on, and warnings, while the command runs."""
    handler, before = MessageHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", HalometryWarning)
            shown = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *rest: object) -> None:
                if issubclass(category, HalometryWarning):
                    console.print(f"warning: {message}", markup=False)
                else:
                    shown(message, category, *rest)  # type: ignore[arg-type]

            warnings.showwarning = show  # type: ignore[assignment]
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def main() -> None:
    """Run the command; a user's mistake is one line on standard error, not a traceback."""
    given = {option for option in GLOBAL_OPTIONS if option in sys.argv[1:]}
    words = [word for word in sys.argv[1:] if word not in GLOBAL_OPTIONS]
    sys.argv = [sys.argv[0], *sorted(given), *words]
    level = logging.INFO
    if "--verbose" in given:
        level = logging.DEBUG
    elif "--quiet" in given:
        level = logging.ERROR
    with messages_printed(level):
        if "--quiet" in given:
            silence()
        _run("--debug" in given)


def _run(debug: bool) -> None:
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
