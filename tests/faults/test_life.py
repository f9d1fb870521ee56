"""Draining, dumps and failures under load, and a log that cannot be written."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from end_to_end.peers import broadcasts, joined, messages, until
from end_to_end.running import Child
from end_to_end.supervisor import Supervisor

from .broken import UNLUCKY

CLIENTS = 20


def test_drain_under_load_ends_with_the_same_event_for_all_who_stay(tmp_path: Path) -> None:
    """Some clients reset, some have just connected, one is slow, and a supervisor is notified."""
    arguments = ["--log-level", "debug", "--client-buffer", "256KiB"]
    with (
        Supervisor(tmp_path) as supervisor,
        Child(*arguments, environment=supervisor.environment()).ready() as child,
    ):
        clients = child.clients(range(1, CLIENTS + 1))
        leaving = child.clients(range(101, 111))
        slow = child.client(200, small_buffers=True)
        child.await_logged("session_opened", CLIENTS + 11)
        inboxes = [client.read_in_background() for client in clients]
        stream = joined(broadcasts(1, 2_000_001))
        child.source().send_in_background(stream)
        until(lambda: inboxes[0].size > 200_000, "the load to begin")
        late = [child.client(300).read_in_background() for _ in range(10)]
        child.signal(signal.SIGTERM)
        for client in leaving:
            client.reset()
        child.await_logged("draining")
        inboxes.append(slow.read_in_background())
        received = {inbox.all() for inbox in inboxes}
        assert child.status() == 0
        (same,) = received
        assert stream.startswith(same)
        assert same.endswith(b"\n")
        assert len(same) < len(stream)
        for inbox in late:  # whole lines up to the end, for those whose session began in time
            assert same.endswith(inbox.all())
        supervisor.expect("READY=1")
        supervisor.expect("STOPPING=1")


def idle_writers(child: Child) -> list[int]:
    """Return, for each dump, how many sessions had the same stack in ``Session._write``."""
    return [
        line["count"]
        for line in child.logged("dump_stack")
        if re.search(r"session\.py:\d+ Session\._write$", line["stack"])
    ]


def test_dumps_under_load_are_complete_and_lose_no_byte() -> None:
    with Child("--log-level", "debug").ready() as child:
        inboxes = [client.read_in_background() for client in child.clients(range(CLIENTS))]
        stream = joined(broadcasts(1, 100_001))
        source = child.source()
        sending = source.send_in_background(b"junk\n" + stream)
        until(lambda: inboxes[0].size, "the load to begin")
        for _ in range(20):
            child.signal(signal.SIGUSR2)
        child.await_logged("dump_stack")
        sending.join(10)
        until(lambda: all(inbox.size == len(stream) for inbox in inboxes), "all to be delivered")
        dumps = len(child.logged("dump_counters"))
        child.signal(signal.SIGUSR2)
        child.await_logged("dump_counters", dumps + 1)
        counters = child.logged("dump_counters")[-1]
        assert counters["sessions"] == CLIENTS
        assert counters["sources"] == 1
        assert counters["routed_events"] == 100_000
        assert counters["rejects_bad_sequence"] == 1
        assert counters["queued_bytes"] == counters["log_lines_dropped"] == 0
        until(lambda: idle_writers(child)[-1:] == [CLIENTS], "all sessions to be idle")
        for inbox in inboxes:
            assert inbox.so_far() == stream
        child.signal(signal.SIGTERM)
        assert child.status() == 0


def test_failed_process_notifies_its_supervisor(tmp_path: Path) -> None:
    program = ("-m", "tests.faults.broken", "router")
    with Supervisor(tmp_path) as supervisor:
        environment = supervisor.environment()
        first = ("--first-sequence", str(UNLUCKY))
        with Child(*first, program=program, environment=environment).ready() as child:
            supervisor.expect("READY=1")
            child.source().send(b"%d|B\n" % UNLUCKY)
            supervisor.expect("STOPPING=1")
            assert child.status() == 1


WITHOUT_STDERR = (
    "-c",
    "import os, sys; os.close(2); "
    "os.execv(sys.executable, [sys.executable, '-m', 'maze.serve', *sys.argv[1:]])",
)


@pytest.mark.parametrize("stderr", ["full", "closed", "a pipe without a reader"])
def test_log_that_cannot_be_written_stops_nothing(tmp_path: Path, stderr: str) -> None:
    if stderr == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        read_end, descriptor = os.pipe()
        os.close(read_end)
    program = WITHOUT_STDERR if stderr == "closed" else ("-m", "maze.serve")
    with Supervisor(tmp_path) as supervisor:
        environment = supervisor.environment()
        arguments = ["--log-level", "debug", "--first-sequence", "1"]
        with Child(
            *arguments, program=program, stderr=descriptor, environment=environment
        ) as child:
            os.close(descriptor)
            supervisor.expect("READY=1")
            ports = [int(port) for port in re.findall(r"port (\d+)", supervisor.status)]
            child.source_address, child.client_address = [("127.0.0.1", port) for port in ports]
            client, source = child.client(1), child.source()
            source.send(b"junk\n" + joined(messages(1, 1_001, 2)))
            child.await_first_broadcast(client, source, 1_001)
            child.signal(signal.SIGTERM)
            assert child.status() == 0
