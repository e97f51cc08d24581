"""Printing of log messages and warnings, for as long as the command runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from halometry.errors import HalometryWarning
from halometry.log import console, logger, without_progress


class ConsoleHandler(logging.Handler):
    """Handler that prints each log message as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), markup=False)


@contextmanager
def printed_messages(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Print messages and warnings of the library on standard error inside a `with` block.

    Args:
        quiet: print warnings only: no messages and no progress.
        verbose: print debug messages too.
    """
    handler, previous_level = ConsoleHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO)
    try:
        with warnings.catch_warnings(), without_progress(quiet):
            warnings.simplefilter("always", HalometryWarning)
            _print_our_warnings()
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous_level)


def _print_our_warnings() -> None:
    """Show a `HalometryWarning` as one line, without the place in the code that issued it."""
    show_other_warning = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: object) -> None:
        if issubclass(category, HalometryWarning):
            console.print(f"warning: {message}", markup=False)
        else:
            show_other_warning(message, category, *place)  # type: ignore[arg-type]

    warnings.showwarning = show  # type: ignore[assignment]
