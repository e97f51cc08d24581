"""The help of the command: panels, plain sentences, and an example for each subcommand."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from halometry.attribution.maps import METHODS
from halometry.cli import app
from halometry.population.masses import MASS_DISTRIBUTIONS
from halometry.publish.export import FORMATS
from helpers.terminal import Command

PANELS = {
    "Data": ["simulate", "map", "show"],
    "Train": ["train", "compare", "calibrate", "reproduce", "demo"],
    "Apply": ["predict", "evaluate", "export", "publish", "fit"],
    "Analyze": ["robustness", "attribution", "sensitivity", "population"],
    "Inform": ["backbones", "presets", "instruments", "recipes", "weights", "doctor"],
}
SUBCOMMANDS = [name for names in PANELS.values() for name in names]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def test_help_shows_the_subcommands_in_panels(command: Command) -> None:
    panels: dict[str, list[str]] = {}
    for line in command("--help").out.splitlines():
        if heading := re.match(r"╭─ (\w+) ", line):
            names = panels.setdefault(heading[1], [])
        elif row := re.match(r"│ (\w+) ", line):
            names.append(row[1])
    del panels["Options"]
    assert panels == PANELS
    assert list(COMMANDS) == SUBCOMMANDS


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_example_of_a_subcommand_is_valid(command: Command, name: str) -> None:
    shown = command(name, "--help").out
    assert shown.count("Example: halometry ") == 1
    example = COMMANDS[name].epilog.removeprefix("Example: ")
    program, subcommand, *words = shlex.split(example)
    assert (program, subcommand) == ("halometry", name)
    COMMANDS[name].make_context(name, words)  # raises for an unknown or a missing option


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_texts_are_sentences(name: str) -> None:
    texts = [
        COMMANDS[name].help,
        *(getattr(parameter, "help", None) for parameter in COMMANDS[name].params),
    ]
    for text in filter(None, texts):
        assert text[0].isupper(), text
        assert text.endswith("."), text
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("attribution", "method", METHODS),
        ("population", "mass_distribution", MASS_DISTRIBUTIONS),
        ("export", "format", FORMATS),
    ],
)
def test_help_names_all_values_of_an_option(name: str, option: str, values: Any) -> None:
    (text,) = [parameter.help for parameter in COMMANDS[name].params if parameter.name == option]
    for value in values:
        assert value in text


def test_help_does_not_import_torch() -> None:
    script = shutil.which("halometry", path=str(Path(sys.executable).parent))
    program = [script] if script else [sys.executable, "-m", "halometry"]
    shown = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    assert "simulate" in shown.stdout
    code = "import sys, halometry.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
