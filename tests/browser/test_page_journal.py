"""The live page shows the journal, and clients that come back."""

from __future__ import annotations

import socket
from pathlib import Path

from end_to_end.peers import broadcasts, joined

from .pages import PHONE, Open, Serve, Site, Visit


def row(page: Visit, section: str, name: str) -> str:
    """Return the value of a row of a table."""
    cells = page.page.locator(f"#{section} tr", has_text=name).locator("td")
    return str(cells.nth(1).inner_text())


def await_row(page: Visit, section: str, name: str, value: str) -> None:
    """Wait until the value of a row of a table matches a regular expression."""
    page.page.wait_for_function(
        """([section, name, value]) => {
            const rows = [...document.querySelectorAll(`#${section} tr`)];
            const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent));
            return texts.some(([found, text]) => found === name && RegExp(`^${value}$`).test(text));
        }""",
        arg=[section, name, value],
    )


def test_the_journal_and_the_resumes_are_shown(serve: Serve, visit: Open, tmp_path: Path) -> None:
    site = serve("--journal", str(tmp_path / "journal"))
    page, phone = visit(site), visit(site, scheme="dark", size=PHONE)
    site.child.source().send(joined(broadcasts(1, 10)))
    await_row(page, "journal", "median time of a commit", ".*s")  # of the last ten seconds
    await_row(page, "journal", "events kept", "9")
    position = site.status()["journal"]["position"]
    assert position.endswith("-10")
    assert row(page, "journal", "committed up to") == position
    assert row(page, "journal", "commits").endswith(" per second")
    assert row(page, "journal", "newest snapshot") == "none"
    assert row(page, "journal", "file in use").endswith(" KiB")
    assert not page.page.locator("#trouble").is_visible()
    assert not page.page.locator("#resumes").is_visible()  # nobody has come back
    epoch = position.partition("-")[0]
    with socket.create_connection(site.child.client_address) as client:
        client.sendall(f"1|{epoch}-4\n".encode())
        await_row(page, "resumes", "resumed", "1")
        await_row(page, "resumes", "resuming now", "0")
        assert row(page, "resumes", "events in memory").startswith("9 (")
        await_row(phone, "resumes", "resumed", "1")
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.picture("journal")
        phone.picture("journal-phone")


def test_a_journal_that_cannot_be_written_is_announced(
    serve: Serve, visit: Open, tmp_path: Path
) -> None:
    site = serve("--journal", str(tmp_path / "journal"))
    page = visit(site)
    page.await_exactly("state", "ready")
    (tmp_path / "journal").unlink()
    site.child.source().send(b"1|B\n")
    page.await_exactly("state", "journal unavailable")
    trouble = site.status()["journal"]["trouble"]
    assert page.text("trouble") == trouble
    assert f"Journal: {trouble}." in page.text("notice")
    assert "No events are arriving" not in page.text("notice")
    page.picture("journal-gone")


def test_a_server_that_reads_its_journal_is_announced(site: Site, visit: Open) -> None:
    page = visit(site)
    page.await_exactly("state", "ready")
    notices = page.page.evaluate("noticesOf({ ...lastStatus, state: 'replaying' })")
    assert notices["replaying"].startswith("The server is reading its journal")


def test_without_a_journal_nothing_is_shown_of_it(site: Site, visit: Open) -> None:
    page = visit(site)
    page.await_exactly("state", "ready")
    assert not page.page.locator("#journal").is_visible()
    assert not page.page.locator("#resumes").is_visible()
