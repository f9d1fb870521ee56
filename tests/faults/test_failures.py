"""Exceptions in the server: which cost one client, and which end the process."""

from __future__ import annotations

import signal
import time

import pytest
from end_to_end.peers import Client, broadcasts, joined
from end_to_end.running import Child
from end_to_end.test_command_line import StoppedReader

from .broken import UNLUCKY

DRAIN_SECONDS = 10.0
"""Maximum time for a failed process to end."""

FATAL = {
    "decoder": "source_failed",
    "router": "router_failed",
    "graph_connect": "graph_failed",
    "graph_disconnect": "graph_failed",
    "port": "port_failed",
}


def broken(fault: str, *arguments: str, stderr: int | None = None) -> Child:
    program = ("-m", "tests.faults.broken", fault)
    first = ("--first-sequence", str(UNLUCKY))
    return Child("--log-level", "debug", *first, *arguments, program=program, stderr=stderr)


def provoke(child: Child, fault: str) -> None:
    """Trigger one of the fatal faults."""
    if fault in {"graph_connect", "port"}:
        child.client(UNLUCKY)
    elif fault == "graph_disconnect":
        child.clients([UNLUCKY])[0].close()
    else:
        child.source().send(b"%d|B\n" % UNLUCKY)


@pytest.mark.parametrize("fault", FATAL)
def test_exception_in_router_decoder_graph_or_port_ends_the_process_with_status_1(
    fault: str,
) -> None:
    with broken(fault).ready() as child:
        clients = child.clients([1, 2])
        begin = time.monotonic()
        provoke(child, fault)
        assert child.status() == 1
        assert time.monotonic() - begin < DRAIN_SECONDS
        for client in clients:
            client.expect_closed()
        (line,) = child.logged(FATAL[fault])
        assert line["level"] == "critical"
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].rstrip().endswith(("Provoked", "Bad file descriptor"))
        assert child.logged("stopped")


def test_failure_during_the_drain_is_status_1_too() -> None:
    with broken("graph_disconnect").ready() as child:
        clients = child.clients([1, UNLUCKY, 2])
        child.signal(signal.SIGTERM)
        assert child.status() == 1
        for client in clients:
            client.expect_closed()
        assert len(child.logged("graph_failed")) == len(child.logged("stopped")) == 1


def test_failed_process_ends_in_time_even_if_its_log_is_not_read() -> None:
    reader = StoppedReader()
    with broken("router", stderr=reader.write_end) as child:
        child.listens(reader.ready())
        while not reader.is_nearly_full():
            child.client(1).close()
        begin = time.monotonic()
        provoke(child, "router")
        status = child.status()
        reader.close()
        assert status == 1
        assert time.monotonic() - begin < DRAIN_SECONDS


def expect_served(clients: list[Client], child: Child) -> None:
    """Send a stream; all remaining clients must receive it."""
    stream = joined(broadcasts(UNLUCKY, UNLUCKY + 1_000))
    child.source().send(stream)
    for client in clients:
        client.expect(stream)


def test_exception_in_a_handshake_costs_that_client_only() -> None:
    with broken("handshake").ready() as child:
        clients = child.clients([1, 2])
        child.client(UNLUCKY).expect_closed()
        expect_served(clients, child)
        child.await_logged("handshake_failed")
        (line,) = child.logged("handshake_failed")
        assert line["exception"].rstrip().endswith("Provoked")
        assert line["client"].startswith("127.0.0.1:")


@pytest.mark.parametrize("fault", ["writer", "discard"])
def test_exception_in_a_session_costs_that_client_only(fault: str) -> None:
    with broken(fault).ready() as child:
        clients = child.clients([1, 2])
        unlucky = child.client(UNLUCKY)
        # More bytes than one read of an id line takes.
        unlucky.send(b"bytes to be read and discarded" * 10)
        assert not unlucky.read_until_closed()
        expect_served(clients, child)
        child.await_logged("session_closed")
        (line,) = child.logged("session_failed")
        assert line["user"] == UNLUCKY
        assert line["exception"].rstrip().endswith("Provoked")
        assert [line["reason"] for line in child.logged("session_closed")] == ["failed"]


def test_uncaught_exceptions_are_logged_and_written_nowhere_else() -> None:
    with broken("elsewhere").ready() as child:
        for event in ("greenlet_failed", "thread_failed", "exception_ignored"):
            child.await_logged(event)
            (line,) = child.logged(event)
            assert line["exception"].rstrip().endswith("Provoked")
        assert "unlucky" in child.logged("thread_failed")[0]["context"]
        expect_served(child.clients([1, 2]), child)
        assert [line for line in child.stderr().splitlines() if not line.startswith("{")] == []


def test_log_that_is_read_again_reports_how_many_lines_were_dropped() -> None:
    reader = StoppedReader()
    with broken("short_log_queue", stderr=reader.write_end) as child:
        child.listens(reader.ready())
        sessions = 0
        while not reader.is_nearly_full() or sessions < 100:
            client = child.client(1)
            client.half_close()
            client.expect_closed()  # so that the lines of each session are logged
            sessions += 1
        child.signal(signal.SIGTERM)
        lines = reader.read_to_the_end()
        assert child.status() == 0
        reports = [line for line in lines if line["event"] == "log_lines_dropped"]
        others = [line for line in lines if line not in reports]
        assert {line["level"] for line in reports} == {"warning"}
        assert reports[0]["count"] > 0
        total = len(others) + sum(line["count"] for line in reports)
        assert total == 2 * sessions + len(["draining", "stopped"])
