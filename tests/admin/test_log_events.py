"""Log events: tracing at debug, numbers of connections, suppressed lines, the admin port."""

from __future__ import annotations

import json
import signal

from end_to_end.peers import until
from end_to_end.running import Child
from gevent.socket import create_connection

from .watching import Answer, Watched, parsed, read_all


def test_an_event_can_be_followed_through_the_log_at_debug() -> None:
    with Child("--log-level", "debug").ready() as child:
        one, two = child.clients([1, 2])
        source = child.source()
        source.send(b"2|P|9|1\n1|B\n")
        one.expect(b"1|B\n2|P|9|1\n")
        two.expect(b"1|B\n")
        child.await_logged("payload_queued", 2)
        (chunk,) = child.logged("chunk_received")
        assert (chunk["received_events"], chunk["chunk_bytes"]) == (2, 12)
        assert chunk["sequences"] == "1-2"
        (batch,) = child.logged("batch_routed")
        assert batch["first"] <= 2 <= batch["last"]
        assert (batch["routed_events"], batch["sessions"]) == (2, 2)
        opened = {line["connection"]: line for line in child.logged("session_opened")}
        queued = {line["user"]: line for line in child.logged("payload_queued")}
        for user, size in [(1, 12), (2, 4)]:
            line = queued[user]
            assert (line["batch"], line["payload_bytes"], line["ends_at_byte"]) == (
                batch["batch"],
                size,
                size,
            )
            assert opened[line["connection"]]["client"] == line["client"]
            assert opened[line["connection"]]["user"] == user
        child.signal(signal.SIGTERM)
        assert child.status() == 0


def test_every_line_about_a_connection_has_its_number_and_its_peer() -> None:
    with Child("--log-level", "debug").ready() as child:
        (client,) = child.clients([1])
        stranger = child.client(0)
        stranger.close()
        source, second = child.source(), child.source()
        second.expect_closed()
        source.send(b"x\n2|B\n")
        source.reset()
        child.await_logged("source_disconnected")
        client.expect(b"2|B\n")
        child.signal(signal.SIGTERM)
        assert child.status() == 0
        lines = [json.loads(line) for line in child.stderr().splitlines()]
    about = [line for line in lines if "client" in line or "source" in line]
    assert {line["event"] for line in about} >= {
        *("session_opened", "session_closed", "source_connected", "source_refused"),
        *("line_rejected", "numbers_skipped", "source_disconnected", "payload_queued"),
    }
    numbers: dict[str, set[int]] = {}
    for line in about:
        numbers.setdefault(line.get("client") or line["source"], set()).add(line["connection"])
    assert all(len(found) == 1 for found in numbers.values())
    assert len(set.union(*numbers.values())) == len(numbers) == 4


def rejected_lines(child: Child) -> int:
    """Return how many rejected lines the log accounts for."""
    return sum(1 + line.get("suppressed", 0) for line in child.logged("line_rejected"))


def test_suppressed_lines_are_reported_though_no_line_follows() -> None:
    with Child().ready() as child:
        source = child.source()
        source.send(b"junk\n")
        child.await_logged("line_rejected")
        source.send(b"junk\n" * 7)
        until(lambda: rejected_lines(child) == 8, "the log to account for all of them")
        assert child.logged("source_disconnected") == []


def test_suppressed_lines_are_reported_when_the_server_stops() -> None:
    with Child().ready() as child:
        source = child.source()
        source.send(b"junk\n")
        child.await_logged("line_rejected")
        source.send(b"junk\n" * 7)
        source.close()
        child.await_logged("source_disconnected")
        child.signal(signal.SIGTERM)
        assert child.status() == 0
        assert rejected_lines(child) == 8


def test_nothing_is_traced_above_debug(watched: Watched) -> None:
    assert not watched.server.router.batches.traces
    assert not watched.server.source.traces


def test_the_sequences_of_a_chunk_are_shortened() -> None:
    with Child("--log-level", "debug").ready() as child:
        child.source().send(b"".join(b"%d|B\n" % (2 * number) for number in range(1, 50)))
        child.await_logged("chunk_received")
        sequences = child.logged("chunk_received")[0]["sequences"]
        assert sequences.startswith("2-2,4-4,")
        assert sequences.endswith("40-40,...")


def test_a_process_opens_its_admin_port_and_logs_the_address() -> None:
    with Child("--admin-port", "free", "--log-level", "debug").ready() as child:
        child.await_logged("admin_ready")
        (opened,) = child.logged("admin_ready")
        address = (opened["admin_host"], opened["admin_port"])
        assert address[0] == "127.0.0.1"
        answer = ask(address, "/readyz")
        assert (answer.status, answer.json()) == (200, {"status": "ready"})
        assert b"maze_log_lines_dropped_total 0.0" in ask(address, "/metrics").body
        child.signal(signal.SIGTERM)
        assert child.status() == 0


def test_a_taken_admin_port_prints_one_line_and_exits_with_1() -> None:
    with Child("--admin-port", "free").ready() as child:
        child.await_logged("admin_ready")
        port = str(child.logged("admin_ready")[0]["admin_port"])
        with Child("--admin-port", port) as second:
            assert second.status() == 1
            (line,) = second.stderr().splitlines()
            assert line.startswith(f"maze: cannot listen on 127.0.0.1 port {port}: Address")


def ask(address: tuple[str, int], path: str) -> Answer:
    sock = create_connection(address)
    sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    return parsed(read_all(sock))
