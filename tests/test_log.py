"""Progress bars, progress messages and warnings of the library."""

from __future__ import annotations

import io
import logging
import warnings
from types import SimpleNamespace

import pytest
from rich.console import Console

from halometry.errors import HalometryWarning
from halometry.log import duration, progress_is_shown, track, warn, with_progress


class FakeTerminal(io.StringIO):
    """Text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> FakeTerminal:
    """Standard error as a terminal, to which the progress bars are written."""
    stream = FakeTerminal()
    monkeypatch.delenv("HALOMETRY_PROGRESS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    # Pytest replaces `sys.stderr` itself between the set-up and the call of a test.
    monkeypatch.setattr("halometry.log.sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr("halometry.log.console", Console(file=stream, width=80))
    return stream


@with_progress
def count_to(total: int, *, progress: bool = True) -> bool:
    """Report progress; return whether it is shown."""
    with track("counting", total) as tracker:
        for _ in range(total):
            tracker.advance(note="loss 0.5")
    return progress_is_shown()


def test_bar_appears_on_a_terminal(terminal: FakeTerminal) -> None:
    assert count_to(3)
    for text in ("counting", "3/3", "loss 0.5"):
        assert text in terminal.getvalue()


def test_progress_false_switches_the_bar_off(terminal: FakeTerminal) -> None:
    assert not count_to(3, progress=False)
    assert terminal.getvalue() == ""
    assert progress_is_shown()  # again, after the call


def test_progress_false_holds_for_inner_calls(terminal: FakeTerminal) -> None:
    @with_progress
    def outer(*, progress: bool = True) -> bool:
        return count_to(3, progress=True)

    assert not outer(progress=False)
    assert terminal.getvalue() == ""


def test_environment_variable_switches_the_bar_off(
    terminal: FakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALOMETRY_PROGRESS", "0")
    assert not count_to(3)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("setting", ["messages", "progress=False", "HALOMETRY_PROGRESS=0"])
def test_progress_is_logged_without_a_terminal(
    setting: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, logger="halometry")
    monkeypatch.setattr("halometry.log.SECONDS_BETWEEN_MESSAGES", 0.0)
    monkeypatch.setenv("HALOMETRY_PROGRESS", "0" if setting == "HALOMETRY_PROGRESS=0" else "1")
    count_to(3, progress=setting != "progress=False")
    beginnings = [message.split(",")[0] for message in caplog.messages]
    assert beginnings == (["counting: 1/3", "counting: 2/3"] if setting == "messages" else [])
    assert capsys.readouterr() == ("", "")


def test_time_left_ignores_earlier_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="halometry")
    clock = iter((0.0, 20.0))  # seconds at the start and after one piece
    monkeypatch.setattr("halometry.log.time.monotonic", lambda: next(clock))
    with track("counting", 10) as tracker:
        tracker.start_at(5)
        tracker.advance()
    assert caplog.messages == ["counting: 6/10, 1 min 20 s left"]


def test_warning_points_to_the_caller() -> None:
    def public_function() -> None:
        warn("take care")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        public_function()
    (warning,) = caught
    assert warning.category is HalometryWarning
    assert warning.filename == __file__


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.94, "9.9 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3661, "1 h 1 min")]
)
def test_duration_has_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
