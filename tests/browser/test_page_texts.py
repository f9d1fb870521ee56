"""The live page's texts: notices, times and units; changing them moves nothing on the page."""

from __future__ import annotations

import pytest

from .pages import DESKTOP, PHONE, Open, Serve, Site

TOKEN = "0123456789abcdef"


def test_a_gap_that_stops_the_routing_is_announced(site: Site, visit: Open) -> None:
    page = visit(site)
    source = site.child.source()
    source.send(b"1|B\n3|B\n")
    page.await_text("order", "1 event waits behind it.")
    page.await_text("notice", "Event 2 has been missing for")
    assert "and blocks routing: 1 event waits behind it (limit 100,000)." in page.text("notice")
    page.await_exactly("state", "gap")
    spoken = page.page.locator("#spoken").text_content()
    assert spoken is not None
    assert "Event 2 has been missing" in spoken
    page.picture("gap")
    page.await_statuses(2)
    assert page.page.locator("#spoken").text_content() == spoken  # announced once, not every second
    source.send(b"2|B\n")
    page.await_exactly("state", "ready")
    assert "missing" not in page.text("notice")


def test_a_short_gap_is_not_announced(site: Site, visit: Open) -> None:
    page = visit(site)
    site.child.source().send(b"2|B\n")
    page.await_text("order", "Event 1 has been missing for")
    announced = page.page.evaluate(
        """[0.004, 1.9, 2.1].map((missing_seconds) => {
            const order = { ...lastStatus.order, missing_seconds };
            const kinds = Object.keys(noticesOf({ ...lastStatus, order }));
            return kinds.some((kind) => kind.startsWith("gap"));
        })"""
    )
    assert announced == [False, False, True]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_changing_texts_move_nothing_on_the_page(
    site: Site, visit: Open, size: tuple[int, int]
) -> None:
    page = visit(site, size=size)
    page.await_text("notice", "No event source is connected.")
    tops = """(act) => {
        act();
        const parts = [...document.querySelectorAll(".tile, .panel")];
        const boxes = parts.map((part) => part.getBoundingClientRect());
        return boxes.map((box) => [box.top, box.height]);
    }"""
    silent = (
        "() => { stand({}); if (!byId('notice').hidden) throw new Error('the notice is shown'); }"
    )
    before = page.page.evaluate(f"({tops})({silent})")
    assert page.page.evaluate(f"({tops})(() => tell('Something went wrong. '.repeat(9)))") == before
    written = """() => {
        say("latency-p50", "1023 ms"); say("latency-p99", "1023 ms"); say("routed-rate", "9,999");
        say("queued", "1023 KiB"); say("queued-largest", "1023 KiB"); say("bytes-rate", "1023 KiB");
        say("routed-total", "123,456,789,012"); say("memory", "1023 MiB"); say("cpu", "100 %");
        showOrder({ next_sequence: 123456789, ready_events: 0, missing_sequence: 123456789,
                    missing_seconds: 0.0123, waiting_events: 99999 });
    }"""
    assert page.page.evaluate(f"({tops})({written})") == before
    unsaid = (
        "() => document.querySelectorAll('.legend').forEach((legend) => legend.replaceChildren())"
    )
    assert page.page.evaluate(f"({tops})({unsaid})") == before  # the layout before the first point
    cut = "[...document.querySelectorAll('.tile p')].filter((p) => p.scrollWidth > p.clientWidth)"
    assert page.page.evaluate(f"{cut}.map((p) => p.textContent)") == []


def test_times_are_utc_as_in_the_log(site: Site, visit: Open) -> None:
    page = visit(site, zone="Asia/Kathmandu")
    site.child.source().send(b"nonsense\n")
    page.await_text("warnings", "line rejected")
    (line,) = site.child.logged("line_rejected")
    assert line["timestamp"][11:19] in page.text("warnings")
    assert "All times are UTC" in page.text("main")
    assert page.page.evaluate("moment('2020-01-02T23:04:05.678Z')") == "2020-01-02 23:04:05"
    assert page.page.evaluate("clock(0)") == "00:00:00"


def test_a_list_in_a_warning_is_shown_without_brackets(serve: Serve, visit: Open) -> None:
    site = serve()
    page = visit(site)
    first = site.child.source()
    page.await_text("sources", "1 event source")
    site.child.source()
    page.await_text("warnings", "source refused")
    host, port = first.sock.getsockname()
    assert f"connected={host}:{port}" in page.text("warnings")


def test_byte_ticks_are_powers_of_two(site: Site, visit: Open) -> None:
    page = visit(site)
    page.page.wait_for_function("() => points.length > 0")
    labels = page.page.evaluate(
        """() => {
            points = points.map((point) => ({ ...point, queue_bytes: 1100000 }));
            drawCharts();
            const texts = document.querySelectorAll("#queue-chart .dygraph-axis-label-y");
            return [...texts].map((label) => label.textContent);
        }"""
    )
    assert len(labels) > 2
    assert set(labels) <= {"0 B", *(f"{size} KiB" for size in range(128, 1024, 128)), "1 MiB"}


def test_a_malformed_token_is_refused_at_once(serve: Serve, visit: Open) -> None:
    page = visit(serve("--admin-token", TOKEN))
    page.await_text("state", "token needed")
    page.page.keyboard.type("wr\N{LATIN SMALL LETTER O WITH DIAERESIS}ng\N{SNOWMAN}")
    page.page.keyboard.press("Enter")
    page.await_text("notice", "consists of ASCII characters")
    page.page.reload()
    page.await_text("state", "token needed")
    assert page.page.locator("#token-form").is_visible()
    page.page.locator("#token").fill(f" {TOKEN} ")
    page.page.keyboard.press("Enter")
    page.await_text("state", "ready")
    page.await_statuses(2)
    streams = [url for url in page.requests if url.endswith("/api/events")]
    assert len(streams) == 3  # one per load of the page, and one with the token
    page.complaints[:] = [text for text in page.complaints if "401" not in text]
