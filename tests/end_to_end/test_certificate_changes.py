"""TLS files that change are used without a signal, like those of a Kubernetes secret."""

from __future__ import annotations

import signal
import ssl as native_ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gevent import ssl
from redis_server import free_port, running
from structlog.testing import LogCapture

from maze.journal.redis_tls import tls_in_use
from maze.listener.tls_context import Contexts, load_contexts
from maze.process.reload import Reloader
from maze.server import Server
from maze.settings.feed_address import FeedAddress
from maze.settings.options import Settings

from .certificates import Authority, Certificate
from .peers import Client
from .roles import Roles, logged
from .running import Child, Maze
from .test_feed_tls import HOST, own, trusting

LOOK_OFTEN = """
import sys
from maze.process import certificate_watch
certificate_watch.LOOK_SECONDS = 0.05
from maze.serve import main
sys.exit(main())
"""


class Secret:
    """A folder as Kubernetes mounts a secret: the files are symlinks, and change all at once."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self.authority = authority
        self._count = 0
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self.renew()
        for path in (self.cert, self.key):
            path.symlink_to(f"..data/{path.name}")

    def renew(self) -> Certificate:
        """Replace certificate and key by new ones."""
        new = self.authority.issue(dns="maze.test")
        self.replace(new.cert, new.key)
        self.certificate = new
        return new

    def replace(self, cert: str, key: str) -> None:
        """Replace both files at once by copies of these."""
        self._count += 1
        folder = self._folder / f"..{self._count}"
        folder.mkdir()
        (folder / "tls.crt").write_bytes(Path(cert).read_bytes())
        (folder / "tls.key").write_bytes(Path(key).read_bytes())
        link = self._folder / "..new"
        link.symlink_to(folder.name)
        link.rename(self._folder / "..data")


class Watching:
    """A server, as a process of its own, that looks often at its files."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.secret = Secret(folder, authority)
        self._context = authority.context()
        files = [
            argument
            for port in ("source", "client")
            for end in ("cert", "key")
            for argument in (f"--{port}-tls-{end}", str(getattr(self.secret, end)))
        ]
        self.child = Child(*files, program=("-c", LOOK_OFTEN))

    def presents(self, address: tuple[str, int]) -> int:
        """Return the serial number of the certificate that a port presents."""
        client = Client(address, tls=self._context)
        try:
            assert isinstance(client.sock, ssl.SSLSocket)
            shown = client.sock.getpeercert()
            assert shown
            return int(str(shown["serialNumber"]), 16)
        finally:
            client.close()

    def expect_presented(self, certificate: Certificate) -> None:
        for address in (self.child.client_address, self.child.source_address):
            assert self.presents(address) == certificate.x509.serial_number


@pytest.fixture
def watching(tmp_path: Path, authority: Authority) -> Iterator[Watching]:
    watching = Watching(tmp_path, authority)
    with watching.child.ready():
        yield watching
        watching.child.signal(signal.SIGTERM)
        assert watching.child.status() == 0
        assert "Traceback" not in watching.child.stderr()


@pytest.mark.realtime
def test_a_secret_that_is_swapped_is_used(watching: Watching) -> None:
    watching.expect_presented(watching.secret.certificate)
    (warning, _) = watching.child.logged("certificate_expires")  # the tests' live for a day
    assert (warning["port"], warning["file"]) == ("source", str(watching.secret.cert))
    assert warning["days_left"] == 1.0
    for count in (1, 2):
        new = watching.secret.renew()
        watching.child.await_logged("certificates_reloaded", count)
        watching.expect_presented(new)
    assert not watching.child.logged("certificates_not_reloaded")


@pytest.mark.realtime
def test_a_pair_that_does_not_fit_is_told_once_and_used_once_it_fits(watching: Watching) -> None:
    old, new = watching.secret.certificate, watching.secret.authority.issue(dns="maze.test")
    watching.secret.replace(new.cert, old.key)
    watching.child.await_logged("certificates_not_reloaded")
    watching.expect_presented(old)
    watching.secret.replace(new.cert, new.key)
    watching.child.await_logged("certificates_reloaded")
    watching.expect_presented(new)
    (line,) = watching.child.logged("certificates_not_reloaded")
    assert line["level"] == "warning"
    assert "is not the private key of" in line["error"]


@pytest.mark.realtime
def test_a_signal_and_a_look_go_together(watching: Watching) -> None:
    new = watching.secret.renew()
    watching.child.signal(signal.SIGHUP)
    watching.child.await_logged("reloaded")
    watching.expect_presented(new)


# The other certificates of a server, in this process.


def reloader_of(server: Server, **changed: Any) -> Reloader:
    """Return a reloader that reads the server's settings, of which some have changed."""
    return Reloader(server, lambda: replace(server.settings, **changed))


def test_a_pair_is_told_at_the_second_look_at_the_same_files(
    log: LogCapture, tmp_path: Path, authority: Authority
) -> None:
    certificate = authority.issue()
    maze = Maze(client_tls_cert=certificate.cert, client_tls_key=certificate.key)
    reloader = reloader_of(maze.server)
    reloader.reload_changed_files()
    assert not logged(log, "certificates_reloaded")
    for count, name in ((1, "one"), (2, "another")):
        Path(certificate.key).write_text(name)
        for looks, told in ((1, count - 1), (2, count), (3, count)):
            reloader.reload_changed_files()
            assert len(logged(log, "certificates_not_reloaded")) == told, looks
    certificate.write_over(certificate)  # what was in use all the time
    reloader.reload_changed_files()
    assert not logged(log, "certificates_reloaded")
    certificate.write_over(authority.issue())
    reloader.reload_changed_files()
    assert logged(log, "certificates_reloaded")
    maze.close()


def test_a_pair_that_does_not_fit_again_is_told_again(
    log: LogCapture, authority: Authority
) -> None:
    certificate, other = authority.issue(), authority.issue()
    maze = Maze(client_tls_cert=certificate.cert, client_tls_key=certificate.key)
    reloader = reloader_of(maze.server)
    key = Path(certificate.key).read_bytes()

    def expect_told(count: int) -> None:
        for looks, told in ((1, count - 1), (2, count), (3, count)):
            reloader.reload_changed_files()
            assert len(logged(log, "certificates_not_reloaded")) == told, looks

    for count in (1, 2):
        Path(certificate.key).unlink()
        expect_told(count)
        Path(certificate.key).write_bytes(key)
        reloader.reload_changed_files()  # what is in use
    for count in (3, 4):
        Path(certificate.cert).write_text("nonsense")
        Path(certificate.key).write_text("nonsense")
        expect_told(count)
        certificate.write_over(authority.issue())
        if count == 3:
            reloader.reload_changed_files()
        else:
            reloader.reload()
    certificate.write_over(other)
    reloader.reload_changed_files()
    assert len(logged(log, "certificates_reloaded")) == 2
    maze.close()


def test_a_look_does_not_read_other_options(
    log: LogCapture, tmp_path: Path, authority: Authority
) -> None:
    certificate = authority.issue()
    maze = Maze(client_tls_cert=certificate.cert, client_tls_key=certificate.key)

    def read() -> Any:
        raise AssertionError("a look reads the settings")

    reloader = Reloader(maze.server, read)
    certificate.write_over(authority.issue())
    reloader.reload_changed_files()
    assert logged(log, "certificates_reloaded")
    maze.close()


def test_both_ends_of_a_feed_use_changed_files(
    log: LogCapture, roles: Roles, authority: Authority
) -> None:
    roles.feed = FeedAddress(HOST, 0)
    at_ingest, at_edge = authority.issue(address=HOST), authority.issue()
    ingest = roles.ingest(**own(at_ingest), **trusting(authority))
    edge = roles.edge(**own(at_edge), **trusting(authority))
    ingest.await_edges(1)
    for server, certificate in ((ingest.server, at_ingest), (edge.server, at_edge)):
        before = server.contexts
        new = authority.issue(address=HOST)
        certificate.write_over(new)
        reloader_of(server).reload_changed_files()
        (known,) = server.contexts.certificates
        assert (known.port, known.path) == ("feed", certificate.cert)
        assert known.expires == new.x509.not_valid_after_utc.timestamp()
        assert server.contexts.feed is not before.feed or server is edge.server
        assert server.contexts.ingest is not before.ingest or server is ingest.server
    roles.edge(**own(at_edge), **trusting(authority))
    ingest.await_edges(2)


def test_a_reload_without_feed_and_role_keeps_the_tls_of_both_ends(
    log: LogCapture, roles: Roles, authority: Authority
) -> None:
    roles.feed = FeedAddress(HOST, 0)
    certificate = authority.issue(address=HOST)
    ingest = roles.ingest(**own(certificate), **trusting(authority))
    edge = roles.edge(**own(certificate), **trusting(authority))
    ingest.await_edges(1)
    certificate.write_over(authority.issue(address=HOST))
    for server in (ingest.server, edge.server):
        before = server.contexts
        reloader_of(server, feed=None, role="all", journal=None).reload()
        assert logged(log, "reloaded")
        for old, new in (
            (before.feed, server.contexts.feed),
            (before.ingest, server.contexts.ingest),
        ):
            assert (new is None) == (old is None)
            assert new is None or new is not old
        (known,) = server.contexts.certificates
        assert known.port == "feed"
        assert server.contexts.digest != before.digest
    assert "feed" in logged(log, "options_not_reloaded")[-1]["options"].split(", ")
    roles.edge(**own(certificate), **trusting(authority))
    ingest.await_edges(2)


class Unconnected:
    """A server whose journal is in Redis, as far as a reload sees it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rejects = SimpleNamespace(file=None)
        self.use_contexts(load_contexts(settings))

    def use_contexts(self, contexts: Contexts) -> None:
        self.contexts = contexts

    def trace(self, traces: bool) -> None:
        pass


def test_files_that_a_reload_does_not_use_are_not_watched(
    log: LogCapture, tmp_path: Path, authority: Authority
) -> None:
    used, unused = tmp_path / "used.pem", tmp_path / "unused.pem"
    for path in (used, unused):
        path.write_bytes(Path(authority.cert).read_bytes())
    server: Any = Unconnected(Settings(journal="rediss://h", journal_tls_ca=str(used)))
    reloader = reloader_of(server, journal_tls_ca=str(unused))
    reloader.reload()
    assert logged(log, "options_not_reloaded")[0]["options"] == "journal-tls-ca"
    unused.write_text("nonsense")
    reloader.reload_changed_files()
    assert not logged(log, "certificates_reloaded")
    used.write_text(used.read_text() * 2)
    reloader.reload_changed_files()
    assert logged(log, "certificates_reloaded")


def test_connections_to_redis_use_changed_files(log: LogCapture, authority: Authority) -> None:
    at_redis, at_maze = authority.issue(address="127.0.0.1"), authority.issue("maze")
    port = free_port()
    of_others = tls_in_use()
    files = ("--tls-cert-file", at_redis.cert, "--tls-key-file", at_redis.key)
    with running("--tls-port", str(port), *files, "--tls-ca-cert-file", authority.cert):
        maze = Maze(
            journal=f"rediss://127.0.0.1:{port}",
            journal_tls_ca=authority.cert,
            journal_tls_cert=at_maze.cert,
            journal_tls_key=at_maze.key,
        )
        (tls,) = (tls for tls in tls_in_use() if tls not in of_others)  # one for all connections
        before = [tls.context(module) for module in (ssl, native_ssl)]
        new = authority.issue("maze")
        at_maze.write_over(new)
        reloader_of(maze.server).reload_changed_files()
        for module, context in zip((ssl, native_ssl), before, strict=True):
            assert tls.context(module) is not context
        (known,) = maze.server.contexts.certificates
        assert (known.port, known.path) == ("journal", at_maze.cert)
        assert maze.server.journaling
        reader = maze.server.journaling.reader
        reader.close()  # the idle connections: the next ones are new
        assert reader.position() == maze.server.journaling.position
        maze.close()
