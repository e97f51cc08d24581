"""The documentation is true: its commands run, its links exist, its tables match the results."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from halometry.cli import app
from halometry.io import FORMATS
from halometry.simulation import OnlineImages
from helpers.terminal import Command

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
CARDS = sorted((ROOT / "src/halometry/runs/weights").glob("*/*/README.md"))
CODE_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
# Commands that install, or that run everything; the tests themselves cover these.
NOT_RUN = (
    "make ",
    "pip ",
    "python3 -m venv",
    "halometry demo",
    "halometry reproduce",
    "pre-commit ",
)
NOT_MEASURED = {"results/gpu.json"}  # files that a named command would write
OTHER_OPTIONS = ("--max-restarts", "--gpus-per-node", "--gpus-per-task", "--ntasks-per-node")
QUICKER = (  # changes to the README for the quick test
    ("--backbone resnet18", "--backbone test_resnet --epochs 1"),
    ("--count 30", "--count 6"),
)


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Language and code of each block of shell commands or Python."""
    return CODE_BLOCK.findall(page.read_text(encoding="utf-8"))


def command_lines(code: str) -> list[list[str]]:
    """Words of each command in a block of shell commands, without redirections."""
    lines = re.sub(r" > \S+$", "", code.replace("\\\n", " "), flags=re.MULTILINE).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def readme_blocks() -> Iterator[tuple[str, str]]:
    """Language and code of the README's blocks that are run."""
    for language, code in code_blocks(ROOT / "README.md"):
        if not any(line.startswith(NOT_RUN) for line in code.splitlines()):
            yield language, code


def published_images(preset: str, count: int) -> list[tuple[int | float, np.ndarray]]:
    """Label and pixels (150, 150) of simulated images."""
    labeled = OnlineImages(preset, seed=5, batch_size=count, batches=1)
    ((images, labels),) = labeled
    return [(label.item(), image[0].numpy()) for image, label in zip(images, labels, strict=True)]


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """Working folder with small versions of the datasets that the README names."""
    for i, (label, image) in enumerate(published_images("common_test_1", 33)):
        part, name = "train" if i < 24 else "val", ("no", "sphere", "vort")[int(label)]
        folder = tmp_path / "dataset" / part / name
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{i}.npy", (image[None] - image.min()) / np.ptp(image))
    (tmp_path / "lens_data").mkdir()
    (tmp_path / "my_images").mkdir()
    for i, (label, image) in enumerate(published_images("halo_mass", 24)):
        pair = np.empty(2, dtype=object)
        pair[0], pair[1] = image.astype(np.int64), label
        np.save(tmp_path / "lens_data" / f"image_{i}.npy", pair, allow_pickle=True)
        if i < 4:
            np.save(tmp_path / "my_images" / f"{i}.npy", image)
    return tmp_path


def assert_readme_results(folder: Path) -> None:
    """Check that the commands of the README wrote what it says."""
    assert (folder / "runs/classes/weights.safetensors").exists()
    for name in ("evaluation", "dataset_evaluation"):
        assert (folder / name / "roc.png").exists()
    assert len((folder / "my_predictions.csv").read_text().splitlines()) == 5
    assert (folder / "montage.png").stat().st_size > 10_000


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for left_out in (r"```.*?```", r"<!--.*?-->", r"^\|.*?$", r"\]\([^)]*\)"):
        text = re.sub(left_out, " ", text, flags=re.MULTILINE | re.DOTALL)
    assert len(text.split()) <= 800


def test_readme_runs(command: Command, user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(user_folder)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(old in text for old, _ in QUICKER)
    blocks = list(readme_blocks())
    assert len(blocks) == 5
    for language, code in blocks:
        for old, new in QUICKER:
            code = code.replace(old, new)
        if language == "python":
            exec(code, {})
            continue
        for program, *words in command_lines(code):
            assert program == "halometry"
            outcome = command(*words)
            assert outcome.status == 0, f"{words}\n{outcome.err}"
    assert_readme_results(user_folder)


@pytest.mark.slow
def test_readme_runs_unchanged_in_a_shell(user_folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    for language, code in readme_blocks():
        program = [sys.executable, "-c"] if language == "python" else ["bash", "-e", "-c"]
        done = subprocess.run([*program, code], cwd=user_folder, env=environment, text=True,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    assert_readme_results(user_folder)


def test_commands_in_the_pages_can_be_parsed() -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    shown = set()
    for page in (*PAGES, *CARDS):
        for language, code in code_blocks(page):
            for program, *words in command_lines(code) if language == "sh" else []:
                if program != "halometry" or words == ["--help"]:
                    continue
                name, *arguments = words
                assert name in commands, f"{page}: {words}"
                try:
                    commands[name].make_context(name, list(arguments))
                except Exception as error:
                    pytest.fail(f"{page}: {shlex.join(words)}: {error}")
                shown.add(name)
    assert shown == set(commands)


def test_options_named_in_the_text_exist() -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    parameters = [p for command in commands.values() for p in command.params]
    known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
    known |= {"--debug", "--quiet", "--verbose", "--version", "--help", *OTHER_OPTIONS}
    for page in PAGES:
        text = re.sub(
            r"^```(?!sh\n).*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S
        )
        lines = [line for line in text.splitlines() if "research/" not in line]
        named = set(re.findall(r"`(--[a-z][a-z-]*)", "\n".join(lines)))
        assert named <= known, f"{page.name}: {named - known}"


def test_make_has_the_targets_that_the_pages_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, page.name


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as the site makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings]
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


def test_links_between_pages_exist() -> None:
    for page in (*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"):
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor and linked.suffix == ".md":
                assert anchor in anchors(linked), f"{page.name}: {target}#{anchor}"


def test_files_named_in_the_pages_exist() -> None:
    pattern = (
        r"(?<![\w/])((?:research|benchmarks|results|docs|tests)/[\w./-]+\.(?:py|json|png|jpg))"
    )
    for page in PAGES:
        named = set(re.findall(pattern, page.read_text(encoding="utf-8")))
        missing = {name for name in named if not (ROOT / name).exists()}
        assert missing <= NOT_MEASURED, f"{page.name}: {missing}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {
        page.relative_to(DOCS) for suffix in ("md", "ipynb") for page in DOCS.rglob(f"*.{suffix}")
    }
    assert set(re.findall(r"[\w/-]+\.md", navigation)) == {
        page.with_suffix(".md").as_posix() for page in pages
    }


def test_every_format_is_specified() -> None:
    text = (DOCS / "reference/formats.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`halometry-([a-z]+)`", text)) == set(FORMATS)


def test_glossary_has_each_term_once_in_order() -> None:
    text = (DOCS / "reference/glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)
    names = [term.lower() for term in terms]
    assert len(names) >= 60
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    "arguments", [("research/tables.py", "--check"), ("research/check_words.py", "--quiet")]
)
def test_script_finds_nothing_to_change_in_the_pages(
    arguments: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / arguments[0]
    monkeypatch.setattr(sys, "argv", [str(script), arguments[1]])
    monkeypatch.syspath_prepend(script.parent)
    status: Any = 0
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        status = end.code
    assert not status, capsys.readouterr()
