"""Static files of the live page: its own, and the charting library from its package.

A native thread reads and compresses each file once, so that the event loop never
waits for the disk.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import gevent

PAGE = Path(__file__).with_name("page")
CHARTS = "charts.js"
"""The charting library's name in the page's URLs."""
CHARTS_PACKAGE = "dygraphs"
CHARTS_PATH = "assets/dygraph-combined.js"

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
SCRIPTS = ("values.js", "graphs.js", "clients.js", "journal.js", "app.js")
FILES = {"index.html", *SCRIPTS, "page.css", "icon.svg", CHARTS}


@dataclass(frozen=True)
class Asset:
    """One file, plain and compressed, with its type and the ETag of its content."""

    content: bytes
    compressed: bytes
    content_type: str
    tag: str


_loaded: dict[str, Asset | None] = {}


def load(name: str) -> Asset | None:
    """Return the file; None if the page has no such file or its package is not installed."""
    if name not in FILES:
        return None
    if name not in _loaded:
        _loaded[name] = gevent.get_hub().threadpool.apply(_read, (name,))
    return _loaded[name]


def _read(name: str) -> Asset | None:
    path = _charts_path() if name == CHARTS else PAGE / name
    if path is None or not path.is_file():
        return None
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return Asset(content, gzip.compress(content, mtime=0), CONTENT_TYPES[path.suffix], tag)


def _charts_path() -> Path | None:
    """Return the library's path inside its package, without importing the package."""
    spec = find_spec(CHARTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / CHARTS_PATH
