"""The live page in a real browser, served by a server process."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from end_to_end.peers import broadcasts, joined, messages
from end_to_end.running import ROOT
from faults.nginx import Nginx
from playwright.sync_api import Browser

from .pages import PHONE, Open, Serve, Site, Visit

TOKEN = "0123456789abcdef"


def simulate(site: Site, events: int, rate: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "simulator", "--total-events", str(events)]
    command += ["--mix", "1,1,1,1,1"]
    command += ["--rate", str(rate), "--concurrency-level", "20", "--log-level", "error"]
    command += ["--event-listener-port", str(site.child.source_address[1])]
    command += ["--client-listener-port", str(site.child.client_address[1])]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def flood(site: Site, data: bytes) -> None:
    """Send from a native thread: no greenlet runs while a test waits for the browser."""

    def run() -> None:
        with suppress(OSError), socket.create_connection(site.child.source_address) as sock:
            sock.sendall(data)
            sock.recv(1)  # returns when the server ends

    threading.Thread(target=run, daemon=True).start()


def number(text: str) -> float:
    """Return the value of a number as the page formats it."""
    text = text.strip().replace(",", "")
    scale = {"k": 1e3, "M": 1e6}.get(text[-1], 1)
    return float(text.rstrip("kM")) * scale


def test_under_load_the_page_shows_the_values_of_the_status(serve: Serve, visit: Open) -> None:
    site = serve(level="info")
    site.child.client(10**9)  # receives the broadcasts, and outlives the simulator
    page = visit(site)
    dark, phone = visit(site, scheme="dark"), visit(site, size=PHONE)
    simulator = simulate(site, 25_000, 5_000)
    try:
        page.page.wait_for_function(
            "() => document.getElementById('sessions').textContent === '21'"
            " && parseFloat(document.getElementById('deliveries-rate').textContent) > 0"
            " && document.getElementById('latency-p99').textContent.endsWith('s')"
        )
        assert 0 < number(page.text("routed-rate")) < 50_000
        assert page.text("sources") == "1 event source"
        assert page.page.locator("#clients tbody tr").count() == 10
        phone.page.wait_for_function(  # so that the screenshots show a curve
            "() => points.filter((point) => point.deliveries).length > 2"
        )
        for name, view in [("desktop-light", page), ("desktop-dark", dark), ("phone", phone)]:
            view.picture(name)
        assert simulator.wait(20) == 0
    finally:
        simulator.kill()
        simulator.wait()
    page.await_text("routed-total", "25,000")
    page.await_exactly("sessions", "1")
    status = site.status()
    assert status["events"]["routed"] == 25_000
    assert number(page.text("sessions")) == status["sessions"]["connected"] == 1
    assert page.text("state") == status["state"]
    assert page.text("about").startswith(f"version {status['version']}, {status['core']} core")
    assert str(status["order"]["next_sequence"]) in page.text("order")
    points = page.page.evaluate("points")
    assert max(point["deliveries"] for point in points) > 0
    assert page.page.locator("#events-chart canvas").count() > 0


def test_a_client_can_be_disconnected_by_keyboard(site: Site, visit: Open) -> None:
    one, two = site.child.clients([1, 2])
    page = visit(site)
    page.await_exactly("sessions", "2")
    row = page.page.locator("#clients tbody tr", has_text="from").filter(
        has=page.page.get_by_role("button", name="Disconnect user 2,")
    )
    session = row.get_attribute("data-session")
    row.get_by_role("button").focus()
    page.page.keyboard.press("Enter")
    assert f"Disconnect user 2 (connection {session}," in page.text("confirm-text")
    page.page.keyboard.press("Enter")  # the default button keeps the client connected
    assert not page.page.locator("#confirm").is_visible()
    assert site.status()["sessions"]["connected"] == 2
    row.get_by_role("button").focus()
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    two.expect_closed()
    page.await_exactly("spoken", f"User 2 (connection {session}) was disconnected.")
    assert page.page.evaluate("document.activeElement.id") == "clients-title"
    page.await_exactly("sessions", "1")
    page.page.wait_for_function("() => document.querySelectorAll('#clients tbody tr').length === 1")
    (closed,) = site.child.logged("session_closed")
    assert (closed["reason"], closed["connection"]) == ("operator", int(session or 0))
    assert site.status()["sessions"]["closed"]["operator"] == 1
    page.await_text("warnings", "session closed")
    one.close()


def test_rows_keep_their_places_under_a_pointer(site: Site, visit: Open) -> None:
    slow = site.child.client(1, small_buffers=True)
    site.child.await_logged("session_opened", 1)
    site.child.clients([2])
    page = visit(site)
    page.await_exactly("sessions", "2")
    first = page.page.locator("#clients tbody tr").first
    before = first.get_attribute("data-session")
    page.page.locator("#clients tbody tr").nth(1).hover()
    flood(site, joined(messages(1, 100_000, 2)))
    queued = page.page.locator("#clients td.queued")
    spot = page.page.locator("#clients tbody tr").nth(1).bounding_box()
    assert spot is not None
    for step in itertools.count():
        page.page.mouse.move(spot["x"] + 50 + step % 50, spot["y"] + 10)
        if queued.all_inner_texts() != ["0 B", "0 B"]:
            break
    assert first.get_attribute("data-session") == before
    # A pointer at rest, or a finger that was lifted, stops holding the rows.
    page.pass_time(3)
    page.page.wait_for_function(
        "(before) => document.querySelector('#clients tbody tr').dataset.session !== before",
        arg=before,
    )
    slow.close()


def test_the_page_says_that_there_is_no_traffic(site: Site, visit: Open) -> None:
    page = visit(site)
    page.await_text("notice", "No event source is connected.")
    assert page.text("no-clients") == "No client is connected."
    assert page.text("no-rejects") == "Nothing was rejected."
    assert page.text("no-warnings") == "No warnings."
    assert page.text("latency-p50") == "\N{EN DASH}"
    source = site.child.source()
    page.await_text("notice", "No events are arriving.")
    source.send(joined(broadcasts(1, 4)))
    page.await_text("routed-total", "3")
    page.page.wait_for_selector("#notice", state="hidden")
    page.picture("no-traffic")


def test_missing_events_and_rejects_are_shown(site: Site, visit: Open) -> None:
    page = visit(site)
    source = site.child.source()
    source.send(b"1|B\n3|B\n4|B\nnonsense\n")
    page.await_text("order", "Event 2 has been missing for")
    assert "2 events wait behind it" in page.text("order")
    site.child.client(1).close()
    stranger = site.child.client(2)
    stranger.send(b"more\n")
    row = page.page.locator("#rejects tr[data-reason='event bad_sequence']")
    assert row.inner_text().split() == ["event", "bad", "sequence", "1"]
    page.await_text("warnings", "line rejected")
    assert "line=nonsense" in page.text("warnings")
    source.send(b"2|B\n")
    page.await_text("order", "No event is missing.")


def test_the_page_reports_and_survives_a_restart(serve: Serve, visit: Open) -> None:
    site = serve()
    site.child.source().send(joined(broadcasts(1, 10)))
    page = visit(site)
    page.await_text("routed-total", "9")
    site.child.signal(signal.SIGKILL)
    page.await_text("state", "no response")
    page.await_text("notice", "The server does not respond.")
    assert page.page.locator("main.stale").count() == 1
    page.picture("no-answer")
    site.child.status()
    serve(port=str(site.port))
    page.await_text("state", "ready")
    page.await_text("notice", "The server restarted at")
    assert page.text("routed-total") == "0"
    assert page.page.locator("main.stale").count() == 0
    refused = [text for text in page.complaints if "ERR_CONNECTION_REFUSED" not in text]
    page.complaints[:] = [text for text in refused if "ERR_INCOMPLETE_CHUNKED" not in text]


def test_a_draining_server_is_shown(site: Site, visit: Open) -> None:
    client = site.child.client(1, small_buffers=True)
    page = visit(site)
    page.await_exactly("sessions", "1")
    flood(site, joined(messages(1, 200_000, 1)))
    page.page.wait_for_function("() => document.getElementById('queued').textContent !== '0 B'")
    site.child.signal(signal.SIGTERM)
    page.await_text("state", "draining")
    page.await_text("notice", "The server is stopping")
    client.close()
    assert site.child.status() == 0
    page.await_text("state", "no response")
    page.complaints.clear()  # the browser's messages about the closed port


def test_a_token_is_asked_for_once(serve: Serve, visit: Open) -> None:
    page = visit(serve("--admin-token", TOKEN))
    page.await_text("state", "token needed")
    assert not page.page.locator("#main").is_visible()
    page.page.keyboard.type("a-wrong-token")  # the field has the focus
    page.page.keyboard.press("Enter")
    page.await_text("notice", "Wrong admin token.")
    page.picture("token")
    page.page.keyboard.type(TOKEN)
    page.page.keyboard.press("Enter")
    page.await_text("state", "ready")
    assert not page.page.locator("#token-form").is_visible()
    page.page.reload()
    page.await_text("state", "ready")
    page.complaints[:] = [text for text in page.complaints if "401" not in text]
    assert TOKEN not in " ".join(page.requests)


def test_without_the_charts_everything_else_works(site: Site, browser: Browser) -> None:
    page = Visit(browser, site.url)
    page.page.route("**/charts.js", lambda route: route.fulfill(status=404))
    page.open()
    page.await_text("state", "ready")
    assert "dygraphs is not installed" in page.text("no-charts")
    assert page.page.locator("#no-charts").is_visible()
    page.await_change("about", "")
    page.close()
    assert all("404" in complaint for complaint in page.complaints)


def test_light_and_dark_follow_the_system_until_one_is_chosen(site: Site, visit: Open) -> None:
    def ground(page: Visit) -> str:
        return str(page.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = visit(site), visit(site, scheme="dark")
    light_ground, dark_ground = ground(light), ground(dark)
    assert light_ground != dark_ground
    light.page.get_by_role("button", name="Use dark colours").click()
    assert ground(light) == dark_ground
    light.page.reload()
    assert ground(light) == dark_ground
    light.page.get_by_role("button", name="Use light colours").click()
    assert ground(light) == light_ground


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(site: Site, visit: Open, scheme: str) -> None:
    """WCAG requires a contrast of 4.5 for text of that size, and of 3 around a button."""
    page = visit(site, scheme=scheme)
    contrasts = page.page.evaluate(
        """() => {
            const style = getComputedStyle(document.documentElement);
            const ink = (name) => {
                const canvas = document.createElement("canvas").getContext("2d");
                canvas.fillStyle = style.getPropertyValue(name);
                canvas.fillRect(0, 0, 1, 1);
                const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
                    value /= 255;
                    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
                });
                return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
            };
            const ground = ink("--panel");
            const series = ["--first", "--second", "--third"];
            const names = ["--edge", "--text", "--quiet", ...series, "--bad", "--warn", "--good"];
            return Object.fromEntries(names.map((name) => {
                const [high, low] = [ink(name), ground].sort((one, two) => two - one);
                return [name, (high + 0.05) / (low + 0.05)];
            }));
        }"""
    )
    assert contrasts.pop("--edge") >= 3
    assert {name: value for name, value in contrasts.items() if value < 4.5} == {}


def test_on_a_phone_nothing_scrolls_sideways(site: Site, visit: Open) -> None:
    site.child.clients([1, 2**63 - 1])
    page = visit(site, size=PHONE)
    page.await_exactly("sessions", "2")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    button = page.page.get_by_role("button", name="Disconnect user 1,")
    box = button.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= PHONE[0]
    assert box["height"] >= 32


def test_the_page_works_behind_nginx(serve: Serve, visit: Open, tmp_path: Path) -> None:
    site = serve("--admin-token", TOKEN)
    (client,) = site.child.clients([7])
    with Nginx(tmp_path, site.port) as nginx:
        site.url = nginx.url
        page = visit(site)
        page.await_text("state", "token needed")
        page.page.keyboard.type(TOKEN)
        page.page.keyboard.press("Enter")
        page.await_exactly("sessions", "1")
        page.await_statuses(2)
        page.page.get_by_role("button", name="Disconnect user 7,").click()
        page.page.click("#confirm-yes")
        client.expect_closed()
        page.await_exactly("sessions", "0")
        page.page.goto("about:blank")  # ends the stream before nginx does
        page.complaints[:] = [text for text in page.complaints if "401" not in text]


def test_the_charts_begin_anew_when_the_clock_is_set_back(site: Site, visit: Open) -> None:
    page = visit(site)
    page.page.wait_for_function("() => points.length > 1")
    times = page.page.evaluate(
        """() => {
            const last = points[points.length - 1];
            addPoint({ ...last, time: last.time - 86400 });
            return points.map((point) => point.time - last.time);
        }"""
    )
    assert times == [-86400]
