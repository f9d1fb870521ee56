"""The files of the live page: its own, and the charting library's, from the installed package.

They are read and compressed once, by a native thread, so that the event loop
never waits for the disk.
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
"""what the page calls the charting library"""
CHARTS_PACKAGE = "dygraphs"
CHARTS_PATH = "assets/dygraph-combined.js"

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
SCRIPTS = ("values.js", "graphs.js", "clients.js", "app.js")
FILES = {"index.html", *SCRIPTS, "page.css", "icon.svg", CHARTS}


@dataclass(frozen=True)
class Asset:
    """One file; ``tag`` changes when its content does."""

    content: bytes
    packed: bytes
    kind: str
    tag: str


_loaded: dict[str, Asset | None] = {}


def load(name: str) -> Asset | None:
    """The file of that name; None if there is none, or its package is not installed."""
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
    return Asset(content, gzip.compress(content, mtime=0), KINDS[path.suffix], tag)


def _charts_path() -> Path | None:
    """Where the package keeps the library; the package itself is not imported."""
    spec = find_spec(CHARTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / CHARTS_PATH
