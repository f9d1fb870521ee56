"""Mutual TLS: whom a certificate lets in, and as whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gevent import ssl
from structlog.testing import LogCapture

from .certificates import DAY, Authority, Certificate, Wire
from .running import Maze
from .tls_ports import VERSIONS, await_rejected, connect, rejected


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Both ports speak TLS."""
    return Wire(authority)


@pytest.fixture
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other authority"))


# Mutual TLS.


@pytest.fixture
def mutual(start: Callable[..., Maze], authority: Authority) -> Callable[..., Maze]:
    """Start a server that wants certificates on both ports."""

    def start_one(**settings: Any) -> Maze:
        return start(source_tls_ca=authority.cert, client_tls_ca=authority.cert, **settings)

    return start_one


@pytest.fixture
def bad_certificates(
    authority: Authority, other_authority: Authority
) -> dict[str, Certificate | None]:
    return {
        "none": None,
        "another authority's": other_authority.issue("7"),
        "expired": authority.issue("7", lifetime=-DAY),
    }


@pytest.mark.parametrize("port", ["client", "source"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(
    ("which", "detail"),
    [
        ("none", "peer did not return a certificate"),
        ("another authority's", "certificate signature failure|unable to get local issuer"),
        ("expired", "certificate has expired"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused(
    mutual: Callable[..., Maze],
    log: LogCapture,
    authority: Authority,
    bad_certificates: dict[str, Certificate | None],
    port: str,
    version: ssl.TLSVersion,
    which: str,
    detail: str,
) -> None:
    maze = mutual()
    context = authority.context(bad_certificates[which], version)
    try:
        connect(maze, port, context).expect_closed()
    except OSError:  # TLS 1.2 says so at once
        assert version is ssl.TLSVersion.TLSv1_2
    await_rejected(maze, port, "tls_failed")
    (line,) = rejected(log)
    assert any(each in line["detail"] for each in detail.split("|")), line["detail"]
    assert not maze.sessions


def test_a_certificate_of_the_authority_is_let_in(
    mutual: Callable[..., Maze], authority: Authority
) -> None:
    maze = mutual()
    context = authority.context(authority.issue())
    client = maze.client(1, tls=context)
    source = connect(maze, "source", context)
    source.send(b"1|B\n")
    client.expect(b"1|B\n")


# Identity.

NAMED = [
    (["7"], b"7"),
    (["007"], b"7"),
    (["7"], b"0007"),
    (["", "maze:user:7"], b"7"),
    (["somebody", "https://example.test/", "maze:user:007"], b"7"),
    (["8", "maze:user:7"], b"8"),
    (["8", "maze:user:7", "maze:user:9"], b"9"),
]
OTHERS = [
    (["8"], b"7"),
    ([""], b"7"),
    (["", "maze:user:8"], b"7"),
    (["", "maze:users:7"], b"7"),
    (["", "maze:user:7/admin"], b"7"),
    (["somebody"], b"0"),
    (["-7"], b"7"),
    (["\u0667"], b"7"),
    (["17"], b"7"),
]


@pytest.mark.parametrize(("names", "says"), NAMED, ids=repr)
def test_a_client_may_be_whom_its_certificate_names(
    mutual: Callable[..., Maze], authority: Authority, names: list[str], says: bytes
) -> None:
    maze = mutual(client_identity="certificate")
    client = maze.client(says + b"\n", tls=authority.context(authority.issue(*names)))
    source = connect(maze, "source", authority.context(authority.issue()))
    source.send(b"1|P|1|%d\n" % int(says))
    client.expect(b"1|P|1|%d\n" % int(says))


@pytest.mark.parametrize(("names", "says"), OTHERS, ids=repr)
def test_a_client_may_be_nobody_else(
    mutual: Callable[..., Maze],
    log: LogCapture,
    authority: Authority,
    names: list[str],
    says: bytes,
) -> None:
    maze = mutual(client_identity="certificate")
    client = connect(maze, "client", authority.context(authority.issue(*names)))
    client.send(says + b"\n")
    client.expect_closed()
    await_rejected(maze, "client", "other_user")
    (line,) = rejected(log)
    assert line["detail"].startswith(f"says {says.decode()}, its certificate ")
    assert not maze.server.clients.sessions_closed
