"""SIGTERM and SIGINT while a program starts: it drains whoever has connected, or just ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .peers import PATIENCE, until
from .running import ROOT, Child

pytestmark = pytest.mark.realtime

STOPPING = [signal.SIGTERM, signal.SIGINT]

OPENING = """
import os, sys
import gevent
from maze import serve
from maze.listener.listener import Listener

original, opened = Listener.open, []

def open_and_wait(self):
    original(self)
    opened.append(self.endpoint[1])
    if len(opened) == 2:
        print(*opened, file=sys.stderr, flush=True)
        while not os.path.exists(sys.argv[1]):
            gevent.sleep(0.002)

Listener.open = open_and_wait
sys.exit(serve.main(sys.argv[2:]))
"""
"""A server that has opened both ports, and goes on with its start once a file exists."""


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_while_the_ports_open_drains_those_who_have_connected(
    number: signal.Signals, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    options = ("--log-level", "debug", "--admin-port", "0")
    with Child(*options, program=("-c", OPENING, str(go_on))) as child:
        until(lambda: "\n" in child.stderr(), "the ports to open")
        ports = [int(port) for port in child.stderr().splitlines()[0].split()]
        child.client_address, child.source_address = (("127.0.0.1", port) for port in ports)
        (client,) = child.clients([7])
        child.source().send(b"1|B\n2|P|1|7\n")
        client.expect(b"1|B\n")
        child.signal(number)
        client.expect(b"2|P|1|7\n")
        assert child.logged("draining") == []
        go_on.touch()
        client.expect_closed()
        assert child.status() == 0
        order = [child.stderr().index(event) for event in ('"ready"', '"draining"', '"stopped"')]
        assert order == sorted(order)
        assert [line["reason"] for line in child.logged("session_closed")] == ["finished"]


def test_a_second_signal_while_the_ports_open_ends_at_once(tmp_path: Path) -> None:
    options = ("--admin-port", "0")
    with Child(*options, program=("-c", OPENING, str(tmp_path / "never"))) as child:
        until(lambda: "\n" in child.stderr(), "the ports to open")
        child.signal(signal.SIGTERM)
        child.signal(signal.SIGINT)
        assert child.status() in (128 + signal.SIGINT, 128 + signal.SIGTERM)


INTERRUPTED_CHILD = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as maze.serve does before its imports
from maze import serve

def read_options(arguments):
    os.kill(os.getpid(), signal.SIGINT)
    sys.exit(9)

serve.read_options = read_options
serve.main([])
"""
"""A process of --edges that Ctrl-C reaches while it reads its options."""


def test_a_child_leaves_ctrl_c_to_its_parent_while_it_starts() -> None:
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_CHILD],
        cwd=ROOT,
        env=os.environ | {"MAZE_CHILD": "{}"},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stderr) == (9, b"")


INTERRUPTING = """
import os, signal, time
os.kill(os.getpid(), signal.{signal})
time.sleep(30)
"""
"""A library whose import is interrupted."""


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize(
    ("program", "library"),
    [
        ("maze.serve", "structlog"),
        ("maze.journal", "sortedcontainers"),
        ("simulator", "rich"),
    ],
)
def test_a_signal_while_a_program_is_imported_prints_no_traceback(
    program: str, library: str, number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / f"{library}.py").write_text(INTERRUPTING.format(signal=number.name))
    run = subprocess.run(
        [sys.executable, "-m", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stderr) == (-number, b"")
