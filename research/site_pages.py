"""Hook of MkDocs that shows the notebooks in docs/ as pages, each with a link to download it.

A notebook `NAME.ipynb` becomes the page `NAME.md`, with its output as it was saved. Links of other
pages to the notebook lead to that page.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

DOWNLOAD = "[Download this notebook]({name}){{download}}\n\n"
LINK = re.compile(r"(\]\([^)\s:]+)\.ipynb(?=[)#])(?!\)\{)")  # but not the link for the download


def on_files(files: Files, config: Any) -> Files:
    """Add a page, and its pictures, for each notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = PurePosixPath(file.src_uri)
        text, resources = MarkdownExporter().from_filename(
            file.abs_src_path,
            resources={"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"},
        )
        title, _, rest = text.lstrip().partition("\n")
        text = f"{title}\n\n{DOWNLOAD.format(name=path.name)}{rest}"
        files.append(File.generated(config, str(path.with_suffix(".md")), content=text))
        for name, picture in resources["outputs"].items():
            files.append(File.generated(config, str(path.parent / name), content=picture))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links between pages to the pages of notebooks."""
    return LINK.sub(r"\1.md", markdown)
