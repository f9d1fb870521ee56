"""The live page of a server that has several processes."""

from __future__ import annotations

import os
import signal

from end_to_end.peers import broadcasts, joined

from .pages import PHONE, Open, Serve, Visit
from .test_page_journal import await_row


def await_rows(page: Visit, section: str, expected: list[list[str]]) -> None:
    """Wait until a table has these rows; each cell is a regular expression."""
    page.page.wait_for_function(
        """([section, expected]) => {
            const rows = [...document.querySelectorAll(`#${section} tbody tr`)];
            const cells = rows.map((row) => [...row.cells].map((cell) => cell.textContent));
            return cells.length === expected.length && expected.every((row, place) =>
                row.every((text, cell) => RegExp(`^${text}$`).test(cells[place][cell])));
        }""",
        arg=[section, expected],
    )


def await_processes(page: Visit, expected: list[list[str]]) -> None:
    """Wait until the table of processes has these rows."""
    await_rows(page, "processes", expected)


def test_each_process_has_a_row(serve: Serve, visit: Open) -> None:
    site = serve("--edges", "2")
    page, phone = visit(site), visit(site, scheme="dark", size=PHONE)
    site.child.clients(range(20))
    site.child.source().send(joined(broadcasts(1, 10)))
    page.page.wait_for_function("() => document.getElementById('sessions').textContent === '20'")
    row = ["ready", r"\d+", r".* per second", "0 events", r".* MiB", "0"]
    ingest = ["ingest", "ready", "0", r".* per second", ".", r".* MiB", "0"]
    await_processes(page, [ingest, ["edge-1", *row], ["edge-2", *row]])
    await_processes(phone, [ingest, ["edge-1", *row], ["edge-2", *row]])
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    await_row(page, "feed", "edges that follow", "2")
    assert not page.page.locator("#edges").is_visible()  # the table of processes has them
    page.picture("processes")
    phone.picture("processes-phone")
    edge = next(each for each in site.status()["processes"] if each["name"] == "edge-2")
    os.kill(edge["pid"], signal.SIGKILL)
    await_processes(page, [ingest, ["edge-1", *row], ["edge-2", *row[:-1], "1"]])


def test_a_server_of_one_process_has_no_table(serve: Serve, visit: Open) -> None:
    page = visit(serve())
    page.page.wait_for_function("() => document.getElementById('state').textContent === 'ready'")
    assert not page.page.locator("#processes").is_visible()
