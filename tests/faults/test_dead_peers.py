"""Peers that vanish without a FIN, and peers that reset at any time."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.peers import Client, Source, joined, until
from end_to_end.running import Child

from .cable import FAR, Cable, can_be_laid
from .wrapped import wrap_servers

Serve = Callable[..., Child]

PEER_SECONDS = 3
STALL_SECONDS = 1
CLIENT_SECONDS = STALL_SECONDS + 5
"""Peer timeout of clients: the stall timeout and ``STALL_MARGIN`` of ``maze.server``."""


@pytest.fixture
def cable() -> Iterator[Cable]:
    if not can_be_laid():
        pytest.skip("this system does not allow network namespaces")
    with Cable() as cable:
        yield cable


def _lines(child: Child, event: str, **wanted: object) -> list[dict[str, Any]]:
    lines = child.logged(event)
    return [line for line in lines if all(line[key] == value for key, value in wanted.items())]


def test_peers_behind_a_cable_that_was_pulled_are_gone_in_time_and_others_served(
    serve: Serve, cable: Cable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = sys.executable
    wrap_servers(monkeypatch, tmp_path, f"exec {shlex.join(cable.near())}")
    child = serve(
        *("--source-host", "0.0.0.0", "--client-host", "0.0.0.0", "--max-sources", "2"),
        *("--peer-timeout", f"{PEER_SECONDS}s", "--stall-timeout", f"{STALL_SECONDS}s"),
    )
    monkeypatch.setattr(sys, "executable", python)
    client_port, source_port = child.client_address[1], child.source_address[1]
    for user, end in ((1, cable.far()), (2, cable.far()), (3, cable.near())):
        cable.talker(end, client_port)(b"%d\n" % user)
    cable.talker(cable.far(), source_port)(b"1|B\n")
    source = cable.talker(cable.near(), source_port)
    child.await_logged("session_opened", 3)
    child.await_logged("source_connected", 2)

    cable.pull()
    source(b"2|P|9|1\n3|P|9|3\n")  # user 1 has bytes to acknowledge, user 2 has none
    until(
        lambda: len(_lines(child, "session_closed")) == 2,
        "both sessions to end",
        2 * CLIENT_SECONDS + 10,  # allows for a busy machine; without probes it takes hours
    )
    assert {line["user"] for line in _lines(child, "session_closed", reason="vanished")} == {1, 2}
    (line,) = child.logged("source_cut_off")
    assert line["source"].startswith(FAR)
    assert (line["level"], line["error"]) == ("warning", "Connection timed out")
    source(b"4|B\n")
    (line,) = child.logged("source_disconnected")
    assert line["reason"] == "vanished"


@pytest.mark.parametrize("said", [b"", b"12", b"12\n", b"12\nmore"])
def test_resets_of_clients_at_any_time_are_a_line_at_debug_each(serve: Serve, said: bytes) -> None:
    child = serve()
    (client,) = child.clients([1])
    inbox = client.read_in_background()
    lines = joined(b"%d|B\n" % number for number in range(1, 50_001))
    sending = child.source().send_in_background(lines)
    for _ in range(100):
        peer = Client(child.client_address)
        peer.send(said)
        peer.reset()
    child.client(2)  # accepted after all the others
    until(lambda: _lines(child, "session_opened", user=2), "the last client's session to begin")
    sending.join()
    until(lambda: inbox.size == len(lines), "the stream to arrive")
    assert inbox.so_far() == lines

    def ends() -> list[dict[str, Any]]:
        return child.logged("session_closed") + child.logged("handshake_rejected")

    opened = len(child.logged("session_opened")) - 2
    until(lambda: len(child.logged("session_closed")) == opened, "all sessions to end")
    # A reset before the id was read is a rejected handshake, logged at most once a second.
    assert ends()
    assert {line["level"] for line in ends()} == {"debug"}


def test_reset_of_a_source_is_a_line_at_debug_and_its_end(serve: Serve) -> None:
    child = serve("--on-source-disconnect", "keep")
    (client,) = child.clients([1])
    for number in range(1, 21):
        source = Source(child.source_address)
        source.send(b"%d|B\n%d|B" % (number, number + 1))
        client.expect(b"%d|B\n" % number)
        source.reset()
        child.await_logged("source_disconnected", number)
    lines = child.logged("source_cut_off")
    assert len(lines) == 20
    assert {(line["level"], line["error"]) for line in lines} == {
        ("debug", "Connection reset by peer")
    }
