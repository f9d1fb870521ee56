"""A feed over TLS: both ends verify each other, and each says in one line what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent.socket
import pytest
from structlog.testing import LogCapture

from maze.listener.tls_context import load_contexts
from maze.settings.feed_address import FeedAddress

from .certificates import DAY, Authority, Certificate
from .peers import broadcasts, joined, until
from .roles import Edge, Roles, logged

HOST = "127.0.0.1"


@pytest.fixture
def roles(roles: Roles) -> Roles:
    """Roles with a feed over TCP."""
    roles.feed = FeedAddress(HOST, 0)
    return roles


def own(certificate: Certificate) -> dict[str, str]:
    """Return the options of an end that presents a certificate."""
    return {"feed_tls_cert": certificate.cert, "feed_tls_key": certificate.key}


def trusting(authority: Authority) -> dict[str, str]:
    """Return the option of an end that verifies the other one."""
    return {"feed_tls_ca": authority.cert}


@pytest.fixture
def at_ingest(authority: Authority) -> dict[str, str]:
    """Options of an ingest that edges can verify."""
    return own(authority.issue(address=HOST))


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that nobody trusts."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    return Authority(folder)


def trouble_of(edge: Edge) -> str:
    """Return why an edge cannot follow, without the address."""
    until(lambda: edge.server.trouble, "the edge to say why it cannot follow")
    _, _, reason = str(edge.server.trouble).partition(": ")
    return reason


def rejected(log: LogCapture) -> tuple[str, str]:
    """Return reason and detail of a rejected handshake."""
    until(lambda: logged(log, "handshake_rejected"), "the ingest to reject the edge")
    line = logged(log, "handshake_rejected")[0]
    assert "feed" in line
    return line["reason"], line["detail"]


def test_edges_follow_over_tls(
    roles: Roles, authority: Authority, at_ingest: dict[str, str]
) -> None:
    ingest = roles.ingest(**at_ingest, feed_token="the-token-of-all")
    settings: dict[str, Any] = trusting(authority) | {"feed_token": "the-token-of-all"}
    edges = [roles.edge(**settings, resume_events=0), roles.edge(**settings)]
    clients = [edge.client(7) for edge in edges]
    lines = joined(broadcasts(1, 50_001))
    ingest.source().send_in_background(lines)
    for client in clients:
        client.expect(lines)
    ingest.await_edges(2)
    start = ingest.position._replace(next=49_000)
    edges[0].resumed(8, start).expect(joined(broadcasts(49_000, 50_001)))


def test_an_edge_that_starts_later_is_caught_up_over_tls(
    roles: Roles, authority: Authority, at_ingest: dict[str, str]
) -> None:
    """A megabyte of batches is more than one send takes."""
    ingest = roles.ingest(**at_ingest)
    ingest.source().send(joined(b"%04000d|B\n" % number for number in range(1, 1_001)))
    ingest.await_routed(1_000)
    assert roles.edge(**trusting(authority)).position == ingest.position


def test_both_ends_present_a_certificate(
    roles: Roles, authority: Authority, at_ingest: dict[str, str]
) -> None:
    ingest = roles.ingest(**at_ingest, **trusting(authority))
    edge = roles.edge(**trusting(authority), **own(authority.issue("an edge")))
    client = edge.client(7)
    ingest.source().send(b"1|B\n")
    client.expect(b"1|B\n")


# What is wrong.


def test_an_ingest_of_another_authority(
    roles: Roles,
    authority: Authority,
    at_ingest: dict[str, str],
    stranger: Authority,
    log: LogCapture,
) -> None:
    roles.ingest(**at_ingest)
    edge = roles.edge_that_waits(**trusting(stranger))
    reason = trouble_of(edge)
    assert reason.startswith("its certificate is not valid: ")
    assert "issuer" in reason or "signature" in reason
    assert rejected(log)[0] == "tls_failed"
    assert logged(log, "feed_unavailable")[0]["error"] == edge.server.trouble


def test_an_ingest_with_another_name(roles: Roles, authority: Authority) -> None:
    roles.ingest(**own(authority.issue(dns="another.test")))
    edge = roles.edge_that_waits(**trusting(authority))
    assert trouble_of(edge) == (
        "its certificate is not valid: IP address mismatch, certificate is not valid for "
        "'127.0.0.1'"
    )


def test_an_ingest_whose_certificate_has_expired(roles: Roles, authority: Authority) -> None:
    roles.ingest(**own(authority.issue(address=HOST, lifetime=-DAY)))
    edge = roles.edge_that_waits(**trusting(authority))
    assert trouble_of(edge) == "its certificate is not valid: certificate has expired"


def test_an_edge_without_the_certificate_that_the_ingest_requires(
    roles: Roles, authority: Authority, at_ingest: dict[str, str], log: LogCapture
) -> None:
    roles.ingest(**at_ingest, **trusting(authority))
    edge = roles.edge_that_waits(**trusting(authority))
    assert trouble_of(edge) == (
        "it requires a certificate from this edge: set feed-tls-cert and feed-tls-key"
    )
    assert rejected(log) == ("tls_failed", "peer did not return a certificate")


@pytest.mark.parametrize("fault", ["expired", "of a stranger"])
def test_an_edge_whose_certificate_does_not_fit(
    roles: Roles,
    authority: Authority,
    at_ingest: dict[str, str],
    stranger: Authority,
    log: LogCapture,
    fault: str,
) -> None:
    roles.ingest(**at_ingest, **trusting(authority))
    expired = authority.issue("an edge", lifetime=-DAY)
    presented = expired if fault == "expired" else stranger.issue("an edge")
    edge = roles.edge_that_waits(**trusting(authority), **own(presented))
    reason = trouble_of(edge)
    assert reason.startswith("it refuses TLS with this edge: ")
    assert ("certificate expired" in reason) == (fault == "expired")
    because, detail = rejected(log)
    assert because == "tls_failed"
    assert detail.startswith("the certificate is not valid: ")
    assert ("has expired" in detail) == (fault == "expired")


def test_a_plain_edge_at_an_ingest_with_tls(
    roles: Roles, at_ingest: dict[str, str], log: LogCapture
) -> None:
    """The token, which the edge has sent in plain text, is not in the log."""
    token = "a-secret-that-nobody-may-see"
    roles.ingest(**at_ingest, feed_token=token)
    edge = roles.edge_that_waits(feed_token=token)
    until(lambda: edge.server.trouble, "the edge to say why it cannot follow")
    assert edge.server.trouble == "the ingest serves its feed over TLS: set --feed-tls-ca"
    assert rejected(log) == ("plain_text", "the feed is over TLS, and the edge has no feed-tls-ca")
    assert token not in str(log.entries)


def test_an_edge_with_tls_at_a_plain_ingest(
    roles: Roles, authority: Authority, log: LogCapture
) -> None:
    roles.ingest()
    edge = roles.edge_that_waits(**trusting(authority))
    assert trouble_of(edge) == "no TLS: wrong version number; does the ingest have --feed-tls-cert?"
    assert logged(log, "edge_refused")[0]["reason"] == (
        "it speaks TLS, and this feed is plain: set feed-tls-cert and feed-tls-key"
    )


def test_a_peer_that_leaves_in_the_handshake_is_no_edge_that_is_refused(
    roles: Roles, at_ingest: dict[str, str], log: LogCapture
) -> None:
    ingest = roles.ingest(**at_ingest)
    with gevent.socket.create_connection(roles.feed):
        until(lambda: ingest.server.feed.serving.greenlets, "the connection")
    until(lambda: not ingest.server.feed.serving.greenlets, "the ingest to notice the end")
    assert {line["log_level"] for line in logged(log, "handshake_rejected")} == {"debug"}


# Replacing certificates.


def test_both_ends_use_new_certificates_for_new_connections(
    roles: Roles, authority: Authority
) -> None:
    """As after SIGHUP; whoever is connected stays connected."""
    served, presented = authority.issue(address=HOST), authority.issue("an edge")
    ingest = roles.ingest(**own(served), **trusting(authority))
    edge = roles.edge(**trusting(authority), **own(presented))
    ingest.await_edges(1)
    (before,) = ingest.server.feed.edges
    new = authority.issue(address=HOST), authority.issue("an edge")
    served.write_over(new[0])
    presented.write_over(new[1])
    for server in (ingest.server, edge.server):
        server.use_contexts(load_contexts(server.settings))
    assert ingest.server.feed.edges == [before]
    edge.following._follower.close()
    until(lambda: ingest.server.feed.edges not in ([], [before]), "the edge to connect again")
    shown = [peer_certificate(edge), peer_certificate(ingest)]
    assert shown == [each.x509.serial_number for each in new]


def peer_certificate(end: Any) -> int:
    """Return the serial number of the certificate that the other end presents."""
    if isinstance(end, Edge):
        follower: Any = end.following._follower
        certificate = follower._socket.getpeercert()
    else:
        certificate = end.server.feed.edges[0].connection._tls.getpeercert()
    return int(str(certificate["serialNumber"]), 16)
