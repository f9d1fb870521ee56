"""The live pages of an ingest and an edge that run alone, and of a journal in Redis."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from end_to_end.peers import broadcasts, joined
from redis_server import running

from .pages import PHONE, Open, Serve, Visit
from .test_page_journal import await_row, row
from .test_page_processes import await_rows


def test_an_ingest_shows_its_edges_and_an_edge_its_feed(
    serve: Serve, visit: Open, tmp_path: Path
) -> None:
    feed = f"unix:{tmp_path / 'feed'}"
    ingest = serve("--role", "ingest", "--feed", feed, "--journal", str(tmp_path / "journal"))
    edge = serve("--role", "edge", "--feed", feed)
    of_ingest, of_edge = visit(ingest), visit(edge)
    phone = visit(edge, scheme="dark", size=PHONE)
    ingest.child.source().send(joined(broadcasts(1, 10)))
    name = rf"{socket.gethostname()}:\d+"
    await_rows(of_ingest, "edges", [[name, "unix", r"\d+-10", "0 events", r".*B"]])
    await_row(of_ingest, "feed", "edges that follow", "1")
    assert row(of_ingest, "feed", "edges dropped") == "0"
    await_row(of_edge, "feed", "journal ends at", r"\d+-10")
    await_row(of_edge, "feed", "behind", "0 events")
    await_row(of_edge, "feed", "last answer", ".* ago")
    assert row(of_edge, "feed", "from") == feed
    assert row(of_edge, "feed", "state") == "connected"
    assert not of_edge.page.locator("#edges").is_visible()
    await_row(phone, "feed", "behind", "0 events")
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    of_ingest.picture("ingest")
    of_edge.picture("edge")
    phone.picture("edge-phone")


def test_an_edge_that_has_lost_its_feed_says_so(serve: Serve, visit: Open, tmp_path: Path) -> None:
    feed = f"unix:{tmp_path / 'feed'}"
    ingest = serve("--role", "ingest", "--feed", feed, "--journal", str(tmp_path / "journal"))
    page = visit(serve("--role", "edge", "--feed", feed))
    await_row(page, "feed", "state", "connected")
    ingest.child.signal(signal.SIGKILL)
    await_row(page, "feed", "state", "not connected")
    page.await_exactly("state", "feed unavailable")
    assert row(page, "feed", "times disconnected") == "1"


def test_the_lease_and_the_tail_are_shown(serve: Serve, visit: Open) -> None:
    with running() as redis:
        page = visit(serve("--journal", f"unix://{redis.path}"))
        await_row(page, "journal", "lease", "held, renewed .* ago")
        await_row(page, "journal", "memory in Redis", ".*B")
        fence = row(page, "journal", "fence")
        assert int(fence) > 10**15
        assert row(page, "journal", "Redis may still lose").endswith("(limit 64.0 MiB)")
        assert row(page, "journal", "appended again") == "0 batches after 0 losses"
        assert not page.page.locator("#feed").is_visible()
        page.picture("journal-redis")
        show = (
            "(lease) => showJournal({ ...lastStatus, journal: { ...lastStatus.journal, lease } })"
        )
        page.page.evaluate(f"({show})({{ is_held: false, fence: null, renewed_seconds: null }})")
        assert row(page, "journal", "lease") == "held by another process"


def notices(page: Visit, change: str) -> dict[str, str]:
    found = page.page.evaluate(f"noticesOf({{ ...lastStatus, {change} }})")
    assert isinstance(found, dict)
    return found


def test_what_is_wrong_is_announced(serve: Serve, visit: Open) -> None:
    page = visit(serve())
    page.await_exactly("state", "ready")
    shown = notices(page, "state: 'standby'")
    assert shown["standby"].startswith("This server is a standby: another process writes")
    shown = notices(page, "feed: { is_held_up: true }")
    assert shown["held"].startswith("Nothing is written at present: an edge still needs")
    assert not {"standby", "held"} & set(notices(page, ""))
    states = page.page.evaluate(
        """[true, false, null].map((is_connected) => stateOf({ state: "ready", is_connected }))"""
    )
    assert states == ["ready", "no feed", "ready"]
