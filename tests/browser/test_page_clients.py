"""The live page's table of the slowest clients, and its disconnect buttons."""

from __future__ import annotations

import itertools
import signal

from playwright.sync_api import Page

from .pages import PHONE, Open, Serve, Site, Visit

LONG_ID = 2**63 - 1
BUTTONS = "#clients tbody button"
HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def ignore_lost_connections(page: Visit) -> None:
    """Drop the browser's messages about a server that is unreachable."""
    page.complaints[:] = [text for text in page.complaints if "net::ERR_" not in text]


def await_label(page: Page, part: str) -> None:
    page.get_by_role("button", name=part).wait_for()


def test_a_dialog_open_during_a_restart_disconnects_nobody(serve: Serve, visit: Open) -> None:
    old = serve()
    old.child.clients([101])
    page = visit(old)
    await_label(page.page, "Disconnect user 101,")
    row = page.page.locator("#clients tbody tr")
    session = row.get_attribute("data-session")
    row.get_by_role("button").click()
    old.child.signal(signal.SIGKILL)
    page.await_text("state", "no response")
    assert page.page.locator("#confirm-yes").is_disabled()
    old.child.status()
    new = serve(port=str(old.port))
    new.child.clients([901])
    await_label(page.page, "Disconnect user 901,")
    assert not page.page.locator("#confirm").is_visible()
    assert "no client was disconnected" in page.text("notice")
    assert row.get_attribute("data-session") == session  # the same number, now of another user
    assert row.locator(".user").inner_text() == "901"
    assert new.status()["sessions"]["connected"] == 1
    ignore_lost_connections(page)


def test_disconnecting_is_disabled_while_the_server_does_not_respond(
    site: Site, visit: Open
) -> None:
    site.child.clients([1, 2])
    page = visit(site)
    page.await_exactly("sessions", "2")
    assert page.page.locator(f"{BUTTONS}:enabled").count() == 2
    page.page.locator(BUTTONS).last.focus()
    site.child.signal(signal.SIGSTOP)
    page.pass_time(6)
    page.await_text("state", "no response")
    assert page.page.locator(f"{BUTTONS}:enabled").count() == 0
    assert page.page.evaluate("document.activeElement.id") == "clients-title"
    site.child.signal(signal.SIGCONT)
    page.await_text("state", "ready")
    assert page.page.locator(f"{BUTTONS}:enabled").count() == 2
    ignore_lost_connections(page)


def test_long_numbers_are_shown_to_the_last_digit(site: Site, visit: Open) -> None:
    site.child.clients([LONG_ID, LONG_ID - 1])
    page = visit(site)
    page.await_exactly("sessions", "2")
    users = page.page.locator("#clients td.user").all_inner_texts()
    assert set(users) == {str(LONG_ID), str(LONG_ID - 1)}
    page.page.get_by_role("button", name=f"Disconnect user {LONG_ID},").click()
    assert f"Disconnect user {LONG_ID} (" in page.text("confirm-text")
    parsed = page.page.evaluate(
        r"""parse('{"big": [9223372036854775807, -9223372036854775807], "safe": 9007199254740991,'
            + '"rest": 0.12345678901234567, "text": "\\"9223372036854775807", "small": -1e3}')"""
    )
    assert parsed == {
        "big": [str(LONG_ID), str(-LONG_ID)],
        "safe": 2**53 - 1,
        "rest": 0.12345678901234567,
        "text": f'"{LONG_ID}',
        "small": -1000,
    }


def test_rows_of_closed_sessions_do_not_pile_up_under_a_pointer(site: Site, visit: Open) -> None:
    page = visit(site)
    clients = site.child.clients(range(100, 110))
    page.await_exactly("sessions", "10")
    page.page.locator("#clients tbody tr").first.hover()  # scrolls it into view
    box = page.page.locator("#clients tbody").bounding_box()
    assert box is not None
    rows = page.page.locator("#clients tbody tr")
    for turn in (2, 3):
        for client in clients[:5]:
            client.close()
        clients = clients[5:] + site.child.clients(range(turn * 100, turn * 100 + 5))
        is_listed = f"lastStatus.clients.some((client) => client.user === {turn * 100})"
        for step in itertools.count():
            page.page.mouse.move(box["x"] + 50 + step % 50, box["y"] + 10)
            if page.page.evaluate(is_listed):
                break
        assert rows.count() == 10
    page.pass_time(3)
    page.page.wait_for_function(  # the pointer still rests on the rows
        "() => document.querySelectorAll('#clients tbody tr:not(.absent)').length === 10"
    )
    shown = {int(text) for text in page.page.locator("#clients td.user").all_inner_texts()}
    assert shown == {*range(200, 205), *range(300, 305)}


def test_a_failed_disconnect_is_shown_for_some_seconds(site: Site, visit: Open) -> None:
    site.child.clients([1])
    page = visit(site)
    page.page.route("**/disconnect", lambda route: route.fulfill(status=500))
    page.page.locator(BUTTONS).click()
    page.page.locator("#confirm-yes").click()
    page.await_text("notice", "could not be disconnected: the server answered with status 500.")
    page.await_statuses(1)
    page.pass_time(5)
    assert "could not be disconnected" in page.text("notice")
    page.pass_time(3)
    page.page.wait_for_function(
        "() => !document.getElementById('notice').textContent.includes('could not')"
    )
    page.complaints[:] = [text for text in page.complaints if "500" not in text]


def test_a_disconnect_without_a_response_times_out(site: Site, visit: Open) -> None:
    site.child.clients([1])
    page = visit(site)
    page.page.route("**/disconnect", lambda route: None)
    page.page.locator(BUTTONS).click()
    with page.page.expect_request("**/disconnect"):
        page.page.locator("#confirm-yes").click()
    page.pass_time(5)
    page.await_text("notice", "could not be disconnected: no response within 5 s.")


def test_hidden_tabs_hold_no_connection(site: Site, visit: Open) -> None:
    """A browser opens at most six connections to a server, so a seventh tab would hang."""
    (client,) = site.child.clients([1])
    page = visit(site)
    page.await_text("state", "ready")
    page.page.evaluate(HIDE, True)
    page.await_exactly("state", "paused")
    for _ in range(6):
        tab = page.tab()
        await_label(tab, "Disconnect user 1,")
        tab.evaluate(HIDE, True)
    page.page.evaluate(HIDE, False)
    page.await_text("state", "ready")
    page.page.locator(BUTTONS).click()
    page.page.locator("#confirm-yes").click()
    client.expect_closed()


def test_the_button_stays_visible_beside_a_long_id(site: Site, visit: Open) -> None:
    site.child.clients([LONG_ID])
    for width in (PHONE[0], 640, 900):
        page = visit(site, size=(width, 800))
        button = page.page.locator(BUTTONS)
        button.wait_for()
        box = button.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
        assert page.page.evaluate("document.querySelector('.wide').scrollWidth") <= width
        port = page.page.locator("#clients td.client span")
        assert port.evaluate("(span) => span.getClientRects().length") == 1
        button.click()
        dialog = page.page.locator("#confirm").bounding_box()
        assert dialog is not None
        assert dialog["x"] >= 16
        page.picture(f"dialog-{width}")


def test_the_focus_ring_of_the_last_button_is_not_clipped(site: Site, visit: Open) -> None:
    site.child.clients([1])
    page = visit(site)
    button = page.page.locator(BUTTONS)
    button.wait_for()
    box, around = button.bounding_box(), page.page.locator(".wide:has(#clients)").bounding_box()
    assert box is not None
    assert around is not None
    ring = 5
    assert box["x"] + box["width"] + ring <= around["x"] + around["width"]
    assert box["y"] + box["height"] + ring <= around["y"] + around["height"]
