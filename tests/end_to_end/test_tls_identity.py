"""Mutual TLS: which certificates are admitted, and as whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gevent import ssl
from structlog.testing import LogCapture

from maze.settings.option_types import names as parse_names

from .certificates import DAY, Authority, Certificate, Wire
from .running import Maze
from .tls_ports import VERSIONS, await_rejected, connect, rejected


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Use TLS on both ports."""
    return Wire(authority)


@pytest.fixture
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other authority"))


# Mutual TLS.


@pytest.fixture
def mutual(start: Callable[..., Maze], authority: Authority) -> Callable[..., Maze]:
    """Return a function that starts a server that requires certificates on both ports."""

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
def test_an_invalid_certificate_is_refused(
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
    except OSError:  # over TLS 1.2 the handshake fails at once
        assert version is ssl.TLSVersion.TLSv1_2
    await_rejected(maze, port, "tls_failed")
    (line,) = rejected(log)
    assert any(text in line["detail"] for text in detail.split("|")), line["detail"]
    assert not maze.sessions


def test_a_certificate_of_the_authority_is_admitted(
    mutual: Callable[..., Maze], authority: Authority
) -> None:
    maze = mutual()
    client = maze.client(1, tls=authority.context(authority.issue()))
    source = connect(maze, "source", authority.context(authority.issue("", SOURCE)))
    source.send(b"1|B\n")
    client.expect(b"1|B\n")


# Identity.

SOURCE = "maze:source"

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
def test_a_client_may_be_any_user_named_in_its_certificate(
    mutual: Callable[..., Maze], authority: Authority, names: list[str], says: bytes
) -> None:
    maze = mutual(client_identity="certificate")
    client = maze.client(says + b"\n", tls=authority.context(authority.issue(*names)))
    source = connect(maze, "source", authority.context(authority.issue("", SOURCE)))
    source.send(b"1|P|1|%d\n" % int(says))
    client.expect(b"1|P|1|%d\n" % int(says))


@pytest.mark.parametrize(("names", "says"), OTHERS, ids=repr)
def test_a_client_may_be_no_other_user(
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
    assert line["detail"].startswith(f"sent user id {says.decode()}, its certificate names ")
    assert not maze.server.sessions.closed


# The role.

SOURCES = [
    ("none", ["", SOURCE]),
    ("none", ["7", "maze:user:7", SOURCE]),
    ("feed", ["", SOURCE]),
    ("feed", ["feed"]),
    ("other,feed", ["feed", "maze:user:7"]),
    ("any", ["7"]),
    ("any", [""]),
]
NO_SOURCES = [
    ("none", ["7"], "7"),
    ("none", [""], "nothing"),
    ("none", ["feed", "maze:user:7"], "feed, maze:user:7"),
    ("none", [SOURCE], SOURCE),
    ("none", ["none"], "none"),
    ("none", ["7", "maze:source:7", "maze:sources", "MAZE:SOURCE"], "7, maze:source:7, maze:sour"),
    ("feed", ["Feed"], "Feed"),
    ("feed", ["feed2"], "feed2"),
    ("feed", ["", "feed:feed"], "feed:feed"),
]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(("source_names", "names"), SOURCES, ids=repr)
def test_a_certificate_with_the_role_may_be_a_source(
    mutual: Callable[..., Maze],
    authority: Authority,
    source_names: str,
    names: list[str],
    version: ssl.TLSVersion,
) -> None:
    maze = mutual(source_names=parse_names(source_names))
    client = maze.client(1, tls=authority.context(authority.issue("1")))
    connect(maze, "source", authority.context(authority.issue(*names), version)).send(b"1|B\n")
    client.expect(b"1|B\n")


@pytest.mark.parametrize(("source_names", "names", "detail"), NO_SOURCES, ids=repr)
def test_a_certificate_without_the_role_is_no_source(
    mutual: Callable[..., Maze],
    log: LogCapture,
    authority: Authority,
    source_names: str,
    names: list[str],
    detail: str,
) -> None:
    maze = mutual(source_names=parse_names(source_names))
    client = maze.client(8, tls=authority.context(authority.issue("8")))
    stranger = connect(maze, "source", authority.context(authority.issue(*names)))
    stranger.send(b"1|P|1|8\n")
    stranger.expect_closed()
    await_rejected(maze, "source", "not_a_source")
    (line,) = rejected(log)
    assert line["detail"].startswith(f"its certificate names {detail}")
    connect(maze, "source", authority.context(authority.issue("", SOURCE))).send(b"1|B\n")
    client.expect_nothing_before(b"1|B\n")


@pytest.mark.parametrize(("source_names", "warnings"), [("none", 0), ("feed", 0), ("any", 1)])
def test_the_start_warns_if_any_certificate_is_a_source(
    mutual: Callable[..., Maze],
    log: LogCapture,
    authority: Authority,
    source_names: str,
    warnings: int,
) -> None:
    mutual(source_names=parse_names(source_names))
    lines = [entry for entry in log.entries if entry["event"] == "any_certificate_is_a_source"]
    assert [line["authority"] for line in lines] == [authority.cert] * warnings
