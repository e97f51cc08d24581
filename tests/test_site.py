"""The site builds without a warning, its links lead somewhere, and it loads from no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
CSS_URL = re.compile(r"(?:url\(|@import )[\s\"']*([^\s\"')]+)")


class Links(HTMLParser):
    """Anchors, links and loaded files of one page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.classes: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.classes |= set(given.get("class", "").split())
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
                          text=True, capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """Contents of all pages by their paths."""
    return {page: Links(page) for page in sorted(site.rglob("*.html")) if page.stem != "404"}


def is_local(url: str) -> bool:
    return not urlsplit(url).netloc and urlsplit(url).scheme in ("", "data")


def broken_links(page: Path, pages: dict[Path, Links]) -> Iterator[str]:
    """Links of a page to files or anchors that do not exist."""
    for link in pages[page].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_file():
            yield link
        elif target in pages and parts.fragment:
            known = pages[target].anchors
            if unquote(parts.fragment) not in known:
                yield link


def test_links_and_anchors_of_the_site_exist(pages: dict[Path, Links]) -> None:
    assert len(pages) > 40
    broken = {page.name: found for page in pages if (found := [*broken_links(page, pages)])}
    assert not broken


def test_pages_load_nothing_from_another_host(site: Path, pages: dict[Path, Links]) -> None:
    for page, content in pages.items():
        assert all(map(is_local, content.loaded)), page.name
        assert "mermaid" not in content.classes, page.name  # would be fetched
    for sheet in site.rglob("*.css"):
        urls = CSS_URL.findall(sheet.read_text(encoding="utf-8"))
        assert all(map(is_local, urls)), sheet.name


def test_formulas_are_set_by_the_files_of_the_site(site: Path, pages: dict[Path, Links]) -> None:
    page = site / "explanation/mass-maps.html"
    assert "arithmatex" in pages[page].classes
    scripts = [(page.parent / name).resolve() for name in pages[page].loaded if "katex" in name]
    assert len(scripts) == 3
    assert all(script.is_file() for script in scripts)
    for font in CSS_URL.findall((site / "assets/katex/katex.min.css").read_text("utf-8")):
        assert (site / "assets/katex" / font).is_file()


def test_each_page_is_two_clicks_from_the_home_page(pages: dict[Path, Links], site: Path) -> None:
    def linked(page: Path) -> set[Path]:
        paths = (urlsplit(link) for link in pages[page].links)
        local = {
            (page.parent / unquote(p.path)).resolve() for p in paths if not p.netloc and p.path
        }
        return local & set(pages)

    home = site / "index.html"
    once = linked(home)
    twice = once.union(*(linked(page) for page in once))
    assert set(pages) - twice <= {home}


def test_each_page_begins_with_a_sentence() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        title, _, rest = page.read_text(encoding="utf-8").partition("\n")
        assert title.startswith("# "), page.name
        assert re.match(r"\n[*`A-Za-z].*?[.:?]\s", rest, re.DOTALL), page.name
