"""The documentation site: it builds without warnings, loads nothing from another host, and has every public name."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent

LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
    "link": ("href",),
}
"""Elements whose address a browser fetches when it shows a page; links (`a`) may lead anywhere."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every network address unreachable."""
    out = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", ROOT / "docs", ROOT, out],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out


class Fetched(HTMLParser):
    """The addresses that a page makes the browser fetch, inline styles included."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.found += [named[name] or "" for name in LOADED.get(tag, ()) if name in named]
        self.found += in_css(named.get("style") or "")
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += in_css(data)


def in_css(text: str) -> list[str]:
    """The addresses that a style sheet makes the browser fetch."""
    found = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", text)
    return [url or imported for url, imported in found]


def fetched(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return in_css(text)
    parser = Fetched()
    parser.feed(text)
    return parser.found


def foreign(addresses: list[str]) -> list[str]:
    return [address for address in addresses if re.match(r"\s*(https?:)?//", address)]


def pages(site: Path) -> Iterator[Path]:
    for suffix in ("html", "css", "svg"):
        yield from site.rglob(f"*.{suffix}")


@pytest.mark.timeout(600)
def test_site_fetches_nothing_from_another_host(site):
    everything = {page: fetched(page) for page in pages(site)}
    assert any("searchtools.js" in address for addresses in everything.values() for address in addresses)
    assert {str(page): foreign(found) for page, found in everything.items() if foreign(found)} == {}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img src="http://example.org/badge.svg">',
        '<svg><image xlink:href="https://example.org/x.png"/></svg>',
        "<style>@import 'https://fonts.example/css';</style>",
        '<p style="background: url(https://example.org/x.png)">',
    ],
)
def test_check_reports_an_address_of_another_host(text, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(f'<a href="https://example.org">a link</a>{text}<img src="own.png">', encoding="utf-8")
    assert len(foreign(fetched(page))) == 1


def test_site_has_a_page_for_every_page_of_the_repository(site):
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "results" / "README.md"]
    for source in sources:
        assert (site / source.relative_to(ROOT).with_suffix(".html")).is_file()
    assert 'url=README.html"' in (site / "index.html").read_text(encoding="utf-8")


def test_site_has_a_search_index_of_its_pages(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(f'"docs/{page}"' in index for page in ("plugins", "record", "reference"))
    assert (site / "search.html").is_file()


def public_names(module: ModuleType) -> list[str]:
    defined = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", [name for name in defined if not name.startswith("_")])


@pytest.mark.parametrize("module", ["ganzoo", "ganzoo.losses", "ganzoo.testing"])
def test_reference_has_every_public_name(site, module):
    reference = (site / "docs" / "reference.html").read_text(encoding="utf-8")
    public = public_names(importlib.import_module(module))
    assert public
    assert [name for name in public if f'id="{module}.{name}"' not in reference] == []
