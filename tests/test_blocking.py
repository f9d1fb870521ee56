"""The watch for a blocked hub finds one, whatever blocks it, and leaves the tests' own code out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.realtime

TESTS = Path(__file__).parent

PROGRAM = """
import socket, sys, time
import gevent
import blocking
from maze.net.connection import Connection
from maze.pipeline.outbox import QueuedMemory, Outbox

class Blocker(Outbox):
    def advance(self, sends=1):
        exec(sys.argv[2])
        return True

blocker = Blocker(1, Connection(socket.socket()), None, QueuedMemory())
found = []
watch = blocking.Watch(found.append)

def wait_for_looks(count):
    deadline = time.monotonic() + 10
    while count:
        before = watch._before
        while watch._before is before:
            assert time.monotonic() < deadline, "the monitor does not look"
            gevent.sleep(0.001)
        count -= 1

wait_for_looks(1)
getattr(blocker, sys.argv[1])()
wait_for_looks(2)  # one may have begun while the hub was blocked
print(*found, sep="\\n")
"""

IN_MAZE, IN_TEST = "flush", "advance"
BLOCKING = {
    "sleeping": "time.sleep(0.5)",
    "computing": "end = time.thread_time() + 0.5\nwhile time.thread_time() < end: pass",
    "holding the interpreter's lock": "sum(range(60_000_000))",
}


def watched(method: str, code: str) -> str:
    """What is found when the method runs the code."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, method, code],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent))),
            "GEVENT_MONITOR_THREAD_ENABLE": "1",
            "GEVENT_MAX_BLOCKING_TIME": "0.1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return run.stdout


@pytest.mark.parametrize("code", BLOCKING.values(), ids=BLOCKING.keys())
def test_server_that_blocks_the_hub_is_found(code: str) -> None:
    assert "flush (outbox.py" in watched(IN_MAZE, code)


@pytest.mark.parametrize("code", BLOCKING.values(), ids=BLOCKING.keys())
def test_what_a_test_does_in_the_same_hub_does_not_count(code: str) -> None:
    assert watched(IN_TEST, code).strip() == ""


def test_hub_that_waits_is_not_blocked() -> None:
    assert watched(IN_MAZE, "gevent.sleep(0.5)").strip() == ""


def test_short_step_is_not_too_long() -> None:
    assert watched(IN_MAZE, "time.sleep(0.03)").strip() == ""
