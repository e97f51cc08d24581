"""`--quiet` and `--verbose`, and what the library prints without the command."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import halometry
from halometry.log import logger, progress_is_shown, track, warn
from helpers.terminal import Command


@pytest.fixture
def chatty_command(command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command whose `presets` logs at each level, warns, and reports progress."""

    def preset_text(name: str) -> str:
        logger.debug("a detail")
        logger.info("a message")
        with track("reading", 3) as progress:
            for _ in range(3):
                progress.advance()
        _warn_twice()
        return f"{name}, progress: {progress_is_shown()}"

    monkeypatch.setattr("halometry.simulation.preset_text", preset_text)
    monkeypatch.setattr("halometry.log.SECONDS_BETWEEN_MESSAGES", 0.0)
    return command


def _warn_twice() -> None:
    for _ in range(2):
        warn("take care")


def test_command_prints_messages_and_warnings(chatty_command: Command) -> None:
    printed = chatty_command("presets", "model_1")
    assert printed.out == "model_1, progress: True\n"
    message, *progress, first_warning, second_warning = printed.err.splitlines()
    assert message == "a message"
    assert [line.split(",")[0] for line in progress] == ["reading: 1/3", "reading: 2/3"]
    assert first_warning == second_warning == "warning: take care"


@pytest.mark.parametrize("words", [("--quiet", "presets"), ("presets", "--quiet")])
def test_quiet_prints_results_and_warnings_only(
    chatty_command: Command, words: tuple[str, ...]
) -> None:
    printed = chatty_command(*words, "model_1")
    assert printed.out == "model_1, progress: False\n"
    assert printed.err.splitlines() == ["warning: take care"] * 2
    assert progress_is_shown()  # again, after the command


def test_quiet_prints_errors(command: Command) -> None:
    failed = command("presets", "modl_1", "--quiet")
    assert failed.status == 2
    assert failed.err.startswith("error: ")


@pytest.mark.parametrize("words", [("--verbose", "presets"), ("presets", "--verbose")])
def test_verbose_prints_debug_messages(chatty_command: Command, words: tuple[str, ...]) -> None:
    printed = chatty_command(*words, "model_1")
    assert printed.err.splitlines()[:2] == ["a detail", "a message"]


def test_command_leaves_the_logger_as_it_was(chatty_command: Command) -> None:
    before = (logger.level, list(logger.handlers))
    chatty_command("presets", "model_1")
    assert (logger.level, logger.handlers) == before


def test_quiet_simulation_prints_its_result_only(command: Command, tmp_path: Path) -> None:
    words = ("simulate", "demo_mass", "--count", 4, "--out", tmp_path / "a.h5")
    assert command(*words, "--quiet").err == ""
    again = command(*words, "--quiet")
    assert again.err == ""
    assert again.out == f"4 images -> {tmp_path / 'a.h5'}, with a.shards/ beside it\n"
    assert "a.h5: complete already" in command(*words).err


def test_library_logs_and_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="halometry")
    for _ in range(2):
        halometry.simulate("demo_mass", 4, out=tmp_path / "a.h5")
    assert "a.h5: complete already" in caplog.text
    assert capsys.readouterr() == ("", "")
