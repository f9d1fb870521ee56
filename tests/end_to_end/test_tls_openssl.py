"""TLS with OpenSSL's own client, which can do what Python's TLS cannot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maze.listener import tls as maze_tls

from .certificates import Authority, Wire
from .commands import Command
from .peers import joined, messages, until
from .running import Maze

pytestmark = pytest.mark.realtime


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Use TLS on both ports."""
    return Wire(authority)


@pytest.fixture
def s_client(maze: Maze, authority: Authority) -> Iterator[Callable[..., Command]]:
    """Return a function that starts ``openssl s_client`` as user 7."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("there is no openssl command")
    running: list[Command] = []

    def start_one(*arguments: str) -> Command:
        host, port = maze.client_address
        command = [openssl, "s_client", "-connect", f"{host}:{port}", "-CAfile", authority.cert]
        running.append(Command([*command, "-verify_return_error", *arguments]))
        running[-1].say(b"7\n")
        maze.await_sessions(1)
        return running[-1]

    yield start_one
    for command in running:
        command.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-tls1_2"],
        ["-tls1_3"],
        ["-tls1_2", "-maxfraglen", "512"],
        ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
    ],
    ids=" ".join,
)
def test_openssl_is_served(
    maze: Maze, s_client: Callable[..., Command], arguments: list[str]
) -> None:
    client = s_client("-quiet", *arguments)
    stream = joined(messages(1, 20_001, 7))
    maze.source().send_in_background(stream)
    client.expect(stream)


@pytest.mark.parametrize(
    "arguments", [["-tls1_2"], ["-tls1_2", "-no_ticket"], ["-tls1_3"]], ids=" ".join
)
def test_no_session_is_resumed(s_client: Callable[..., Command], arguments: list[str]) -> None:
    client = s_client("-reconnect", *arguments)  # five reconnections before it sends its id
    client.end_input()
    said = client.read_all()
    assert (said.count(b"New, TLSv1."), said.count(b"Reused, ")) == (6, 0)


def test_key_updates_under_load_do_no_harm(
    maze: Maze, s_client: Callable[..., Command], tmp_path: Path
) -> None:
    said = tmp_path / "messages"
    client = s_client("-tls1_3", "-msg", "-msgfile", str(said))
    source = maze.source()
    for turn in range(20):
        client.say(b"K\n")  # s_client's command for a key update on both sides
        stream = joined(messages(1 + turn * 100, 101 + turn * 100, 7))
        source.send(stream)
        client.expect_end_with(stream)
    client.end_input()
    maze.await_sessions(0)
    client.status()
    updates = [line for line in said.read_text().splitlines() if "KeyUpdate" in line]
    assert any(line.startswith("<<<") for line in updates), "the server did not update its keys"


def test_a_reply_of_tls_itself_is_sent(
    maze: Maze, s_client: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[bytes] = []
    writev = os.writev

    def refuse_once(descriptor: int, parts: Any) -> int:
        if not refused:
            refused.append(b"".join(parts))
            raise BlockingIOError
        return writev(descriptor, parts)

    client = s_client("-tls1_2", "-msg")
    session = maze.session(7)
    monkeypatch.setattr("maze.listener.tls.os.writev", refuse_once)
    client.say(b"R\n")  # s_client's command to renegotiate, to which the server replies
    until(lambda: refused, "the reply")
    until(lambda: not maze.sessions or not session.writing, "the writer to have sent it")
    assert session.connection.unsent_bytes == 0


def test_a_peer_that_does_not_read_the_replies_of_tls_is_closed(
    maze: Maze, s_client: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s_client("-tls1_2")
    monkeypatch.setattr(maze_tls, "MAX_UNSENT_BYTES", -1)  # as if the peer did not read
    client.say(b"R\n")
    maze.await_sessions(0)
    assert dict(maze.server.sessions.closed) == {"reset": 1}
