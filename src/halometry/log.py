"""Log messages, warnings and progress bars.

The library prints nothing but progress bars. Messages go to the logger `halometry`; only the
command installs a handler that prints them. Warnings are of the class `HalometryWarning`. Progress
bars appear on a terminal. `progress=False` switches them off in the functions that have this
argument, and the environment variable `HALOMETRY_PROGRESS=0` switches them off everywhere.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from halometry.errors import HalometryWarning

logger = logging.getLogger("halometry")
logger.addHandler(logging.NullHandler())
console = Console(stderr=True, highlight=False, soft_wrap=True)

SECONDS_BETWEEN_MESSAGES = 10.0  # of progress, if there is no terminal

Function = TypeVar("Function", bound=Callable[..., Any])
_progress_enabled: ContextVar[bool] = ContextVar("progress_enabled", default=True)


def warn(message: str, category: type[HalometryWarning] = HalometryWarning) -> None:
    """Issue a `HalometryWarning` that points to the caller of the calling function."""
    warnings.warn(message, category, stacklevel=3)


def silence() -> None:
    """Switch off messages, warnings and progress in this process for good.

    For training in several processes, of which only the first reports.
    """
    logger.setLevel(logging.ERROR)
    warnings.simplefilter("ignore", HalometryWarning)
    _progress_enabled.set(False)


@contextmanager
def without_progress(active: bool = True) -> Iterator[None]:
    """Switch progress off inside a `with` block, if `active`."""
    token = _progress_enabled.set(_progress_enabled.get() and not active)
    try:
        yield
    finally:
        _progress_enabled.reset(token)


def with_progress(function: Function) -> Function:
    """Decorator for functions whose keyword argument `progress` switches progress on or off."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with without_progress(not kwargs.get("progress", True)):
            return function(*args, **kwargs)

    return cast("Function", wrapped)


def progress_is_shown() -> bool:
    """Whether progress is reported, by bars or by messages."""
    return _progress_enabled.get() and os.environ.get("HALOMETRY_PROGRESS", "1") != "0"


class Tracker:
    """Counter of finished work, which `track` creates.

    Attributes:
        done, total: amount of work that is finished, and that there is.
        note: text beside the counter, such as a loss.
    """

    def __init__(self, description: str, total: int, bar: Progress | None) -> None:
        self.description, self.total, self.done, self.note = description, total, 0, ""
        self._bar = bar
        self._task = bar.add_task(description, total=total, note="") if bar else None
        self._start = self._last_message = time.monotonic()
        self._done_before = 0

    def start_at(self, done: int) -> None:
        """Count work of an earlier process as done; the estimated time ignores it."""
        self.done = self._done_before = done
        if self._bar and self._task is not None:
            self._bar.reset(self._task, total=self.total, completed=done)

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count more work as done, and change the note if one is given."""
        self.done += count
        self.note = self.note if note is None else note
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=self.note)
        else:
            self._log(time.monotonic())

    def _log(self, now: float) -> None:
        """Log the state, unless that was done a moment ago."""
        if now - self._last_message < SECONDS_BETWEEN_MESSAGES or self.done >= self.total:
            return
        self._last_message = now
        if progress_is_shown():
            rate = max(self.done - self._done_before, 1e-9) / (now - self._start)
            left = duration((self.total - self.done) / rate)
            text = f"{self.description}: {self.done}/{self.total}, {left} left  {self.note}"
            logger.info(text.rstrip())


class TimeLeft(ProgressColumn):
    """Column of a progress bar: the time left, in minutes and seconds."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if left is None:
            return Text("")
        minutes, seconds = divmod(round(left), 60)
        return Text(f"{minutes}:{seconds:02d} left", style="progress.remaining")


@contextmanager
def track(description: str, total: int) -> Iterator[Tracker]:
    """Report the progress of `total` pieces of work: a bar on a terminal, else log messages.

    Example:
        >>> with track("reading", 3) as progress:
        ...     for _ in range(3):
        ...         progress.advance()
    """
    if sys.stderr.isatty() and progress_is_shown():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeLeft(table_column=Column(min_width=9, no_wrap=True)),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            yield Tracker(description, total, bar)
    else:
        yield Tracker(description, total, None)


def duration(seconds: float) -> str:
    """Format a duration with its units.

    Example:
        >>> duration(75), duration(0.4), duration(7260)
        ('1 min 15 s', '0.4 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


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


def printed_level() -> int | None:
    """Level from which `printed_messages` prints messages, or None outside of it."""
    is_printed = any(isinstance(handler, ConsoleHandler) for handler in logger.handlers)
    return logger.level if is_printed else None
