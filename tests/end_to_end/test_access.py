"""Address ranges, and the messages at start about files and options of TLS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from gevent.socket import socket
from structlog.testing import LogCapture

from maze.listener.access import Access
from maze.listener.handshake_rejects import HandshakeError
from maze.settings.option_types import ranges as parse_ranges
from maze.settings.options import Settings

from .certificates import Authority
from .peers import Client, Peer, until
from .running import Child, Maze

pytestmark = pytest.mark.realtime

ELSEWHERE = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
HERE = (*ELSEWHERE, ip_network("127.0.0.0/8"))


@pytest.mark.parametrize("port", ["client", "source"])
def test_an_address_outside_the_ranges_is_closed_at_once(
    start: Callable[..., Maze], log: LogCapture, port: str
) -> None:
    maze = start(**{f"allow_{port}": ELSEWHERE}, handshake_timeout=3600)
    part = maze.server.clients if port == "client" else maze.server.source
    connect = maze.stranger if port == "client" else maze.source
    for _ in range(5):
        connect().expect_closed()
    assert dict(part.access.rejects.counts) == {"address": 5}
    (line,) = (entry for entry in log.entries if entry["event"] == "handshake_rejected")
    assert (line["reason"], line["log_level"]) == ("address", "warning")
    assert line[port].startswith("127.0.0.1:")


def test_addresses_within_the_ranges_are_admitted(start: Callable[..., Maze]) -> None:
    maze = start(allow_client=HERE, allow_source=HERE)
    client = maze.client(1)
    maze.source().send(b"1|B\n")
    client.expect(b"1|B\n")


def test_an_address_outside_the_ranges_gets_no_tls_handshake(
    start: Callable[..., Maze], authority: Authority
) -> None:
    maze = start(
        allow_client=ELSEWHERE,
        client_tls_cert=authority.server.cert,
        client_tls_key=authority.server.key,
    )
    with pytest.raises(OSError):  # noqa: PT011 (an end or a reset, as the system likes)
        Client(maze.client_address, tls=authority.context())
    until(lambda: dict(maze.server.clients.access.rejects.counts) == {"address": 1}, "the reject")


@pytest.mark.parametrize(
    ("ranges", "address", "allowed"),
    [
        ("any", "203.0.113.9", True),
        ("any", "fe80::1%eth0", True),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:192.0.3.7", False),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("2001:db8::/32,192.0.2.1", "2001:db8::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_addresses_are_matched_to_ranges(ranges: str, address: str, allowed: bool) -> None:
    settings = Settings(allow_client=parse_ranges(ranges))
    access = Access(settings.client, settings, None)
    refused = nullcontext() if allowed else pytest.raises(HandshakeError, match="address")
    with socket() as sock, refused:
        connection, _ = access.authorize(sock, (address, 1), access.deadline())
        assert connection.sock == sock


# Errors are reported before anything listens.


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> dict[str, str]:
    """Valid and invalid files, by the names that the tests below use."""
    good, other, encrypted = authority.server, authority.issue(), authority.issue()
    weak = authority.issue(key=rsa.generate_private_key(65537, 1024))
    encrypted.encrypt_key(b"secret")
    (tmp_path / "nonsense").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    (tmp_path / "empty").touch()
    return {
        "CA": authority.cert,
        "CERT": good.cert,
        "KEY": good.key,
        "OTHER_KEY": other.key,
        "ENCRYPTED_CERT": encrypted.cert,
        "ENCRYPTED_KEY": encrypted.key,
        "WEAK_CERT": weak.cert,
        "WEAK_KEY": weak.key,
        "NONSENSE": str(tmp_path / "nonsense"),
        "EMPTY": str(tmp_path / "empty"),
        "ABSENT": str(tmp_path / "absent"),
        "FOLDER": str(tmp_path),
    }


FEED_CA, FEED_CERT, FEED_KEY = (
    f"TLS on the feed also needs --feed-tls-{end}" for end in ("ca", "cert", "key")
)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--client-tls-cert CERT", "also needs --client-tls-key"),
        ("--source-tls-key KEY", "also needs --source-tls-cert"),
        ("--source-tls-ca CA", "also needs --source-tls-cert"),
        ("--role edge --feed h:1 --feed-token 0123456789abcdef --feed-tls-cert CERT", FEED_CA),
        ("--role edge --feed 127.0.0.1:1 --feed-tls-ca CA --feed-tls-key KEY", FEED_CERT),
        ("--role ingest --journal x --feed 127.0.0.1:0 --feed-tls-ca CA", FEED_CERT),
        ("--role ingest --journal x --feed 127.0.0.1:0 --feed-tls-cert CERT", FEED_KEY),
        (
            "--role edge --feed 127.0.0.1:1 --feed-tls-ca ABSENT",
            "--feed-tls-ca ABSENT cannot be read: No such file",
        ),
        ("--client-identity certificate", "needs --client-tls-ca"),
        (
            "--client-identity certificate --client-tls-cert CERT --client-tls-key KEY",
            "needs --client-tls-ca",
        ),
        ("--source-names feed", "needs --source-tls-ca"),
        ("--source-names any --source-tls-cert CERT --source-tls-key KEY", "needs --source-tls-ca"),
        ("--source-names feed,,other", "--source-names: 'feed,,other' is not none, any, or a list"),
        (
            "--client-tls-cert ABSENT --client-tls-key KEY",
            "--client-tls-cert ABSENT cannot be read: No such file",
        ),
        (
            "--client-tls-cert CERT --client-tls-key ABSENT",
            "--client-tls-key ABSENT cannot be read: No such file",
        ),
        (
            "--source-tls-cert CERT --source-tls-key KEY --source-tls-ca ABSENT",
            "--source-tls-ca ABSENT cannot be read: No such file",
        ),
        ("--source-tls-cert FOLDER --source-tls-key KEY", "FOLDER cannot be read: Is a directory"),
        (
            "--source-tls-cert CERT --source-tls-key OTHER_KEY",
            "--source-tls-key OTHER_KEY is not the private key of --source-tls-cert CERT",
        ),
        ("--source-tls-cert NONSENSE --source-tls-key KEY", "are not a certificate and its"),
        ("--source-tls-cert EMPTY --source-tls-key KEY", "are not a certificate and its"),
        ("--source-tls-cert CERT --source-tls-key NONSENSE", "are not a certificate and its"),
        (
            "--source-tls-cert CERT --source-tls-key KEY --source-tls-ca NONSENSE",
            "--source-tls-ca NONSENSE holds no certificate in PEM",
        ),
        (
            "--source-tls-cert ENCRYPTED_CERT --source-tls-key ENCRYPTED_KEY",
            "--source-tls-key ENCRYPTED_KEY is encrypted",
        ),
        (
            "--client-tls-cert WEAK_CERT --client-tls-key WEAK_KEY",
            "OpenSSL refuses --client-tls-cert WEAK_CERT with --client-tls-key WEAK_KEY: "
            "ee key too small",
        ),
        ("--allow-source 10.0.0.1/8", "--allow-source: '10.0.0.1/8' is neither any nor a list"),
    ],
)
def test_options_that_conflict_or_fail_to_load_are_one_line_and_status_2(
    files: dict[str, str], arguments: str, said: str
) -> None:
    with Child(*(files.get(word, word) for word in arguments.split())) as child:
        assert child.status() == 2
        (line,) = child.stderr().splitlines()
    for name in sorted(files, key=len, reverse=True):
        line = line.replace(files[name], name)
    assert line.startswith("maze: ")
    assert said in line


def test_ranges_from_the_command_line_are_used() -> None:
    with Child(
        "--allow-client", "192.0.2.0/24,::1", "--allow-source", "127.0.0.1"
    ).ready() as child:
        child.client(1).expect_closed()
        source: Peer = child.source()
        source.send(b"1|B\n")
        child.await_logged("source_connected")
        (line,) = child.logged("handshake_rejected")
        assert line["reason"] == "address"
