"""A server that lets nobody in: the run cannot take place, and one line says what may be why."""

import time
from typing import Any

import pytest
from running import flags
from servers import PATIENCE, Server

import simulator
from simulator.player import LOST_SOURCE_PATIENCE

NEAR = ("--total-events", 300, "--concurrency-level", 4, "--number-of-users", 8)
LONG = 60_000  # ms, which no test has the time for


def line(captured: pytest.CaptureFixture[str]) -> str:
    output = captured.readouterr()
    assert "FAILED" not in output.out
    (line,) = output.err.splitlines()
    return line


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("pace", [(), ("--rate", 100)])
def test_a_refused_source(
    reset: bool, pace: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    # Not paced, all is in the kernel's buffers before the connection is closed.
    with Server(4, source_bytes=0, reset=reset) as server:
        began = time.monotonic()
        assert simulator.main(flags(server, *NEAR, *pace, "--timeout", LONG)) == 2
        assert time.monotonic() - began < LOST_SOURCE_PATIENCE + PATIENCE / 2
    text = line(capsys)
    assert text.startswith("simulator: the server closed the source's connection after ")
    for part in (
        " bytes",
        "no user client got a byte",
        "another source is connected",
        f"127.0.0.1:{server.source_port} is not its port",
        "TLS",
    ):
        assert part in text


def test_all_clients_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(4, close_at_handshake=True)

    def wait(*_: Any) -> bool:
        return server.handshakes_done.wait(PATIENCE)

    monkeypatch.setattr("simulator.player.wait_until_taken", wait)
    with server:
        assert simulator.main(flags(server, *NEAR, "--timeout", LONG)) == 2
    text = line(capsys)
    assert text.startswith("simulator: the server closed the connection of every user client ")
    for part in (f"127.0.0.1:{server.client_port} is not its port", "no more of them in", "TLS"):
        assert part in text
