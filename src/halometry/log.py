"""Messages, warnings and progress bars.

The library itself prints nothing but progress bars. Messages go to the logger `halometry`, for
which only the command installs a handler; warnings are `HalometryWarning`. Progress bars appear on
a terminal. `progress=False` in a function that has this argument switches them off, and so does
the environment variable `HALOMETRY_PROGRESS=0` everywhere.
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
console = Console(stderr=True, highlight=False, soft_wrap=True)

SECONDS_BETWEEN_MESSAGES = 10.0  # of progress, where there is no terminal

Function = TypeVar("Function", bound=Callable[..., Any])
_bars_wanted: ContextVar[bool] = ContextVar("bars_wanted", default=True)


def warn(message: str) -> None:
    """Issue a `HalometryWarning` that points to the caller of the function that calls this."""
    warnings.warn(message, HalometryWarning, stacklevel=3)


def silence() -> None:
    """Show no more messages and progress in this process, which is one of several."""
    logger.setLevel(logging.ERROR)
    _bars_wanted.set(False)


def with_progress(function: Function) -> Function:
    """Decorate a function whose keyword `progress` says whether progress bars are shown."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("progress", True):
            return function(*args, **kwargs)
        token = _bars_wanted.set(False)
        try:
            return function(*args, **kwargs)
        finally:
            _bars_wanted.reset(token)

    return cast("Function", wrapped)


def progress_is_shown() -> bool:
    """Whether progress is reported: neither `progress=False` nor HALOMETRY_PROGRESS=0."""
    return _bars_wanted.get() and os.environ.get("HALOMETRY_PROGRESS", "1") != "0"


class Tracker:
    """Counter of finished work; see `track`."""

    def __init__(self, description: str, total: int, bar: Progress | None) -> None:
        self.description, self.total, self.done, self.note = description, total, 0, ""
        self._bar = bar
        self._task = bar.add_task(description, total=total, note="") if bar else None
        self._start = self._last = time.monotonic()
        self._first = 0

    def start_at(self, done: int) -> None:
        """Start from work done by an earlier process, which does not count for the time left."""
        self.done = self._first = done
        if self._bar and self._task is not None:
            self._bar.reset(self._task, total=self.total, completed=done)

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count more work as done, with a note (a loss, a metric) to show beside it."""
        self.done += count
        self.note = self.note if note is None else note
        now = time.monotonic()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=self.note)
        elif now - self._last >= SECONDS_BETWEEN_MESSAGES and self.done < self.total:
            self._last = now
            if progress_is_shown():
                rate = max(self.done - self._first, 1e-9) / (now - self._start)
                left = duration((self.total - self.done) / rate)
                text = f"{self.description}: {self.done}/{self.total}, {left} left  {self.note}"
                logger.info(text.rstrip())


class TimeLeft(ProgressColumn):
    """Time left, in minutes and seconds."""

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
    """A duration in words.

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
