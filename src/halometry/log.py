"""What is being done and how long it takes: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)

LINE_EVERY = 10.0  # seconds between lines where there is no terminal


def say(message: str) -> None:
    """One line for the person who waits, on standard error."""
    console.print(message, markup=False)


def hush() -> None:
    """Say nothing more in this process, which is not the one that speaks."""
    console.quiet = True


class Tracker:
    """Counts work done; see `track`."""

    def __init__(self, description: str, total: int, bar: Progress | None) -> None:
        self.description, self.total, self.done, self.note = description, total, 0, ""
        self._bar = bar
        self._task = bar.add_task(description, total=total, note="") if bar else None
        self._start = self._last = time.monotonic()
        self._first = 0

    def start_at(self, done: int) -> None:
        """Begin from work that an earlier process did; it does not count for the time left."""
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
        elif now - self._last >= LINE_EVERY and self.done < self.total:
            self._last = now
            rate = max(self.done - self._first, 1e-9) / (now - self._start)
            left = duration((self.total - self.done) / rate)
            say(f"{self.description}: {self.done}/{self.total}, {left} left  {self.note}".rstrip())


class TimeLeft(ProgressColumn):
    """Minutes and seconds left of a bar."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if left is None:
            return Text("")
        minutes, seconds = divmod(round(left), 60)
        return Text(f"{minutes}:{seconds:02d} left", style="progress.remaining")


@contextmanager
def track(description: str, total: int) -> Iterator[Tracker]:
    """Show the progress of `total` pieces of work on standard error.

    Example:
        >>> with track("reading", 3) as progress:
        ...     for _ in range(3):
        ...         progress.advance()
    """
    if sys.stderr.isatty():
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
    """Seconds as a person says them.

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
