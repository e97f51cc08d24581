"""Render the tables in README.md and docs/ from the result files they name.

`python research/tables.py` writes them; with `--check` it only says what is out of date. A table
stands between `<!-- table FILE -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from halometry.evaluation.tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(<!-- table (?P<file>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """A page with all its tables as the result files have them."""

    def table(match: re.Match[str]) -> str:
        record = json.loads((ROOT / match["file"]).read_text(encoding="utf-8"))
        return f"{match[1]}{markdown_table(record)}\n{match[3]}"

    return PLACE.sub(table, text)


def main() -> None:
    check = "--check" in sys.argv
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        if (wanted := rendered(text)) != text:
            stale.append(page.name)
            if not check:
                page.write_text(wanted, encoding="utf-8")
    print("out of date:" if check else "written anew:", ", ".join(stale) or "none")
    sys.exit(check and bool(stale))


if __name__ == "__main__":
    main()
