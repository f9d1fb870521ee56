"""A real browser, servers with a live page, and visits that record the page's errors."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from end_to_end.running import Child
from playwright.sync_api import Browser, Page, sync_playwright

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_MS = 30_000

DESKTOP = (1280, 900)
PHONE = (390, 844)


def executable() -> str:
    """Return the browser's path; without a browser, fail under CI, else skip the test."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        why = f"no browser is installed: none of {', '.join(NAMES)} is on the path"
        if os.environ.get("CI"):
            pytest.fail(f"{why}; .ci/run should have installed it")
        pytest.skip(why)
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run headless Chromium."""
    path = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """An open page, with its console messages and its requests."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        zone: str = "UTC",
    ) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.url = url
        self._context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            timezone_id=zone,
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self._context.new_page()
        self.page.clock.install()  # runs on by itself; ``pass_time`` advances it
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self) -> Visit:
        self.page.goto(self.url)
        return self

    def close(self) -> None:
        self._context.close()

    def tab(self) -> Page:
        """Open the same page in another tab of the same browser."""
        tab = self._context.new_page()
        tab.goto(self.url)
        return tab

    def pass_time(self, seconds: float) -> None:
        """Advance the page's clock to fire its timers; the server's clock is unaffected."""
        self.page.clock.run_for(round(1000 * seconds))

    def text(self, name: str) -> str:
        return self.page.inner_text(f"#{name}")

    def await_text(self, name: str, part: str) -> None:
        """Wait until an element's text contains ``part``."""
        self.page.wait_for_function(
            "([id, part]) => document.getElementById(id).textContent.includes(part)",
            arg=[name, part],
        )

    def await_exactly(self, name: str, text: str) -> None:
        """Wait until an element's text equals ``text``."""
        self.page.wait_for_function(
            "([id, text]) => document.getElementById(id).textContent === text", arg=[name, text]
        )

    def await_change(self, name: str, old: str) -> str:
        """Wait until an element's text differs from ``old``, and return it."""
        self.page.wait_for_function(
            "([id, old]) => document.getElementById(id).textContent !== old", arg=[name, old]
        )
        return self.text(name)

    def await_statuses(self, count: int) -> None:
        """Wait until the page has shown ``count`` more statuses, one per second."""
        self.page.wait_for_function(
            "([end, count]) => lastStatus.uptime_seconds > end + count - 0.5",
            arg=[self.page.evaluate("lastStatus.uptime_seconds"), count],
        )

    def picture(self, name: str) -> None:
        """Save a screenshot for people to look at."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def _note_console(self, message: object) -> None:
        kind, text = getattr(message, "type", ""), getattr(message, "text", "")
        if kind in {"error", "warning"}:
            self.complaints.append(text)


class Site:
    """A server and the address of its page."""

    def __init__(self, child: Child) -> None:
        self.child = child
        child.await_logged("admin_ready")
        opened = child.logged("admin_ready")[0]
        self.port = int(opened["admin_port"])
        self.url = f"http://127.0.0.1:{self.port}/"

    def status(self) -> Any:
        with urllib.request.urlopen(f"{self.url}api/status", timeout=5) as answer:
            return json.load(answer)


Serve = Callable[..., Site]
Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server process with some options."""
    with ExitStack() as children:

        def start(*arguments: str, port: str = "free", level: str = "debug") -> Site:
            child = Child("--admin-port", port, "--log-level", level, *arguments)
            return Site(children.enter_context(child).ready())

        yield start


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Return a function that opens a page; later assert no errors and no external requests."""
    visits: list[Visit] = []

    def open_page(site: Site, **how: Any) -> Visit:
        visits.append(Visit(browser, site.url, **how))
        return visits[-1].open()

    yield open_page
    for visit in visits:
        visit.close()
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith(visit.url)] == []


@pytest.fixture
def site(serve: Serve) -> Site:
    return serve()
