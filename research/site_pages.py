"""Hook of MkDocs that makes pages of notebooks and of model cards.

A notebook `NAME.ipynb` becomes the page `NAME.md`, with its output as it was saved and a link to
download it. The model card of each trained weights becomes a page below `reference/cards/`. Links
of other pages to notebooks and cards lead to these pages.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

CARDS = "reference/cards"
WEIGHTS = Path(__file__).resolve().parents[1] / "src/halometry/runs/weights"
HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # of a card, for the Hub
CARD_LINK = re.compile(r"\]\((?:\.\./)*src/halometry/runs/weights/([\w/]+)/README\.md")
NOTEBOOK_LINK = re.compile(r"(\]\([^)\s:]+)\.ipynb(?=[)#])(?!\)\{)")  # but not a download


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of notebooks, with their pictures, and of model cards."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        for path, content in _pages_of_notebook(file):
            files.append(File.generated(config, path, content=content))
    for card in sorted(WEIGHTS.glob("*/*/README.md")):
        path = f"{CARDS}/{card.parent.relative_to(WEIGHTS).as_posix()}.md"
        text = HEADER.sub("", card.read_text(encoding="utf-8"))
        files.append(File.generated(config, path, content=text))
    return files


def _pages_of_notebook(file: File) -> list[tuple[str, str | bytes]]:
    """Paths and contents of a notebook's page and pictures."""
    path = PurePosixPath(file.src_uri)
    names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, resources = MarkdownExporter().from_filename(file.abs_src_path, resources=names)
    title, _, rest = text.lstrip().partition("\n")
    page = f"{title}\n\n[Download this notebook]({path.name}){{download}}\n\n{rest}"
    pictures = [(str(path.parent / name), data) for name, data in resources["outputs"].items()]
    return [(str(path.with_suffix(".md")), page), *pictures]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead links to notebooks and model cards to their pages."""
    depth = page.file.src_uri.count("/")
    cards = "../" * depth + CARDS
    return NOTEBOOK_LINK.sub(r"\1.md", CARD_LINK.sub(rf"]({cards}/\1.md", markdown))
