"""A bad network between the server and its peers: it delays, cuts, throttles and half-closes."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from end_to_end.peers import Client, Source, broadcasts, joined, until
from end_to_end.running import Child

from .proxy import Proxy

Serve = Callable[..., Child]


def client_behind(network: Proxy, child: Child, user: int) -> Client:
    """Connect a client through the proxy; wait until its session has begun."""
    opened = len(child.logged("session_opened"))
    client = Client(network.address)
    client.send(b"%d\n" % user)
    child.await_logged("session_opened", opened + 1)
    return client


def test_delay_changes_no_byte(serve: Serve) -> None:
    child = serve()
    lines = joined(broadcasts(1, 20_001))
    with (
        Proxy(child.source_address, piece=7_000, pause=0.01) as to_source,
        Proxy(child.client_address, piece=5_000, pause=0.01) as to_client,
    ):
        (direct,) = child.clients([1])
        delayed = client_behind(to_client, child, 2)
        source = Source(to_source.address)
        source.send(lines)
        direct.expect(lines)
        delayed.expect(lines)


def test_cut_client_affects_no_other_and_may_reconnect(serve: Serve) -> None:
    child = serve()
    (direct,) = child.clients([1])
    source = child.source()
    number = 1
    with Proxy(child.client_address) as network:
        for cut in range(1, 11):
            visitor = client_behind(network, child, 2)
            lines = joined(broadcasts(number, number + 1_000))
            source.send(lines)
            number += 1_000
            direct.expect(lines)
            visitor.expect(lines)  # whole lines, from the first one after it connected
            network.cut()
            child.await_logged("session_closed", cut)
    assert {line["user"] for line in child.logged("session_closed")} == {2}
    assert {line["level"] for line in child.logged("session_closed")} == {"debug"}


def test_cut_source_leaves_half_a_line_that_is_dropped(serve: Serve) -> None:
    child = serve()
    (client,) = child.clients([1])
    with Proxy(child.source_address) as network:
        for cut in range(1, 11):
            source = Source(network.address)
            source.send(b"1|B\n2|B\n3|P|9")
            client.expect(b"1|B\n2|B\n")
            until(lambda c=cut: network.forwarded_bytes == 13 * c, "the half line to arrive")  # type: ignore[misc]
            network.cut()
            child.await_logged("source_disconnected", cut)
    assert len(child.logged("source_cut_off")) == 10
    child.source().send(b"1|P|9|1\n")
    client.expect_nothing_before(b"1|P|9|1\n")


def test_source_throttled_to_a_byte_a_second_delays_no_other(serve: Serve) -> None:
    child = serve("--max-sources", "2")
    (client,) = child.clients([1])
    lines = joined(broadcasts(2, 20_002))
    with Proxy(child.source_address, piece=1, pause=1.0) as network:
        slow, fast = Source(network.address), child.source()
        child.await_logged("source_connected", 2)
        fast.send(lines)
        slow.send(b"1|B\n")
        client.expect(b"1|B\n" + lines)
        assert child.logged("numbers_skipped") == []


def test_half_closed_client_has_left_and_half_closed_source_has_ended(serve: Serve) -> None:
    child = serve()
    with (
        Proxy(child.source_address) as to_source,
        Proxy(child.client_address) as to_client,
    ):
        (direct,) = child.clients([1])
        leaving = client_behind(to_client, child, 2)
        source = Source(to_source.address)
        source.send(b"3|B\n2|B\n")
        child.await_logged("source_connected")
        to_client.half_close()
        leaving.expect_closed()
        child.await_logged("session_closed")
        until(lambda: to_source.forwarded_bytes == 8, "the events to arrive")
        to_source.half_close()
        direct.expect(b"2|B\n3|B\n")  # the server gives up the gap before them
        source.expect_closed()
    (line,) = child.logged("session_closed")
    assert (line["user"], line["reason"]) == (2, "left")


def test_network_that_stops_for_a_while_loses_nothing(serve: Serve) -> None:
    """The network stops in mid-stream on both sides at once, and then goes on."""
    child = serve()
    stream = joined(broadcasts(1, 200_001))
    with (
        Proxy(child.source_address) as to_source,
        Proxy(child.client_address) as to_client,
    ):
        inbox = client_behind(to_client, child, 2).read_in_background()
        source = Source(to_source.address)
        sending = source.send_in_background(stream)
        until(lambda: inbox.size > 100_000, "the stream to flow")
        to_source.hold()
        to_client.hold()
        gevent.sleep(1.0)  # the fault itself
        to_client.release()
        to_source.release()
        until(lambda: inbox.size >= len(stream), "everything to arrive", seconds=30)
        sending.join(10)
    assert inbox.so_far() == stream
    assert [line["reason"] for line in child.logged("session_closed")][:-1] == []
