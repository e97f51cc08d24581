"""Check README, docs, changelog, model cards and help texts for words that readers stumble over.

    python research/check_words.py

Home-made terms fail: the field has a standard term for each, which is printed. Constructions that
are hard to read, and long sentences, are warnings. Code and tables are not checked.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main

from halometry.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "docs/**/*.ipynb",
    "src/**/README.md",
)
MAX_WORDS = 35  # in a sentence

# Home-made term (regular expression, without regard to capitals) -> standard term.
TERMS = {
    r"familiar(ity|ise|ize)?": "in-distribution",
    r"(un)?usual images?|strange(ness)?|novelty": "out of distribution (OOD)",
    r"real (images?|sets?|ones)": "published (simulated) images, or observed images",
    r"true masses": "physical substructure masses",
    r"passes": "epochs",
    r"shares? of": "fraction",
    r"bears?": "tolerates, is robust to",
    r"rightly": "correctly",
    r"judges?|judged": "evaluate",
    r"selection images?": "validation set",
    r"kept (aside|apart|from)": "held out",
    r"fresh images?": "online simulations, or new images",
    r"running mean of the weights": "exponential moving average (EMA) of the weights",
    r"eight forms|symmetric copies": "test-time augmentation (TTA)",
    r"quarter turns?": "90° rotations",
    r"trapezoid(al)?": "warmup-stable-decay schedule",
    r"begun from": "initialized from",
    r"leaves? chance": "rises above chance",
    r"learns? by heart": "overfits",
    r"rests? on": "depends on",
    r"speaks? for": "supports",
    r"holds? the truth": "contains the true value",
    r"told apart": "significantly different",
    r"at hand": "available",
    r"told": "given, known",
    r"kinds": "classes, types",
    r"lumpy": "with subhalos",
    r"unlike the training set": "out of distribution (OOD)",
}
# Construction -> advice; warnings.
STYLE = {
    r"of which": "start a new sentence",
    r"those that": "name the things again",
    r"such (that|as have)": "start a new sentence",
    r"is (not )?so\b": "say what is true",
    r"does so": "repeat the verb",
}
# (page, pattern of TERMS or STYLE) -> reason why the page may use it.
EXCEPTIONS = {
    ("docs/reference/glossary.md", ".*"): "explains earlier terms",
    ("CHANGELOG.md", ".*"): "the tables of renamed things quote earlier names",
    ("*", r"trapezoid(al)?"): "a value of the recipe key `schedule`",
}
NOT_PROSE = re.compile(
    r"```.*?```|~~~.*?~~~|<!-- table .*?<!-- end -->|<!--.*?-->|^---\n.*?^---\n|`[^`\n]*`"
    r"|\$\$.*?\$\$|\$[^$\n]+\$|^\s*\|.*?$|<[^>\n]+>|\]\([^)]*\)|^ {4,}\S.*?$",
    re.DOTALL | re.MULTILINE,
)
SENTENCE_END = re.compile(r"(?<=[.!?:;])[\s*_\"')\]]+(?=\S)|\n\s*\n|\n\s*(?:[-*+]|\d+\.|#+)\s")


@dataclass(frozen=True)
class Finding:
    """A word or sentence to change.

    Attributes:
        place: file and line, or a command's help.
        text: the words.
        advice: what to write instead.
        is_error: whether it fails the check.
    """

    place: str
    text: str
    advice: str
    is_error: bool

    def __str__(self) -> str:
        return f"{self.place}: {'' if self.is_error else 'warning: '}{self.text!r}: {self.advice}"


def check_text(name: str, text: str) -> Iterator[Finding]:
    """Findings in a text.

    Args:
        name: of the page, or of the command.
        text: Markdown, or plain text.
    """
    prose = NOT_PROSE.sub(_blank, text)
    for patterns, is_error in ((TERMS, True), (STYLE, False)):
        for pattern, advice in patterns.items():
            if _is_exception(name, pattern):
                continue
            for match in re.finditer(rf"\b(?:{pattern})\b", prose, re.IGNORECASE):
                line = prose.count("\n", 0, match.start()) + 1
                yield Finding(f"{name}:{line}", match[0], advice, is_error)
    position = 0
    for sentence in SENTENCE_END.split(prose):
        position = prose.index(sentence, position)
        words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", sentence)
        if len(words) > MAX_WORDS:
            line = prose.count("\n", 0, position) + 1
            start = " ".join(sentence.split()[:6])
            yield Finding(f"{name}:{line}", f"{start} ...", f"{len(words)} words long", False)


def _blank(match: re.Match[str]) -> str:
    """Spaces instead of code, tables and links; lines stay, so that they can be counted."""
    return re.sub(r"[^\n]", " ", match[0])


def _is_exception(name: str, pattern: str) -> bool:
    return any(
        page in ("*", name) and exception in (".*", pattern) for page, exception in EXCEPTIONS
    )


def help_texts() -> Iterator[tuple[str, str]]:
    """Names and help texts of all commands and options."""
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        yield f"{command.name} --help", command.help or ""
        for parameter in command.params:
            yield f"{command.name} --help, {parameter.name}", getattr(parameter, "help", "") or ""


def pages() -> Iterator[tuple[str, str]]:
    """Paths from the root, and texts, of all pages."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "markdown"]
                text = "\n\n".join("".join(cell["source"]) for cell in cells)
            yield path.relative_to(ROOT).as_posix(), text


def main() -> int:
    """Print all findings; 1 if there is an error."""
    findings = [f for name, text in [*pages(), *help_texts()] for f in check_text(name, text)]
    errors = [finding for finding in findings if finding.is_error]
    quiet = "--quiet" in sys.argv
    for finding in errors if quiet else sorted(findings, key=lambda f: f.is_error):
        print(finding)
    print(f"words: {len(errors)} errors, {len(findings) - len(errors)} warnings")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
