"""A server that lets nobody in: the run cannot take place, and one line says what may be why."""

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from running import flags
from servers import PATIENCE, Server

from simulator.cli import main
from simulator.play.connecting import connect_clients, connect_sources

NEAR = ("--total-events", 300, "--concurrency-level", 4, "--number-of-users", 8)
LONG = 60_000  # ms, which no test has the time for

Connecting = Callable[..., AbstractContextManager[list[socket.socket]]]


def line(captured: pytest.CaptureFixture[str]) -> str:
    output = captured.readouterr()
    assert "FAILED" not in output.out
    (line,) = output.err.splitlines()
    return line


def until_closed(connect: Connecting) -> Connecting:
    """Connects as that does, and waits until the server has closed all of the connections."""

    @contextmanager
    def connecting(*arguments: object) -> Iterator[list[socket.socket]]:
        with connect(*arguments) as connections:
            for connection in connections:
                assert select.select([connection], [], [], PATIENCE)[0]
            yield connections

    return connecting


@pytest.mark.parametrize("reset", [False, True])
def test_a_refused_source(
    reset: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simulator.run.connect_sources", until_closed(connect_sources))
    with Server(4, refuse_source=True, reset=reset) as server:
        assert main(flags(server, *NEAR, "--timeout", LONG)) == 2
    text = line(capsys)
    assert text.startswith("simulator: the server closed the source's connection after 0 of ")
    for part in (
        "another source is connected",
        f"127.0.0.1:{server.source_port} is not its source port",
        "TLS",
    ):
        assert part in text


def test_all_clients_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simulator.run.connect_clients", until_closed(connect_clients))
    server = Server(4, close_at_handshake=True)
    with server:
        assert main(flags(server, *NEAR, "--timeout", LONG)) == 2
    text = line(capsys)
    assert text.startswith("simulator: the server closed the connection of every user client ")
    for part in (f"127.0.0.1:{server.client_port} is not its client port", "admits no more", "TLS"):
        assert part in text
