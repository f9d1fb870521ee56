"""The same over TLS: whole runs, what can go wrong with certificates, and one connection alone."""

import shlex
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from end_to_end.certificates import Authority, Certificate
from position_server import PositionServer
from rich.console import Console
from running import flags, judged, parameters
from servers import PATIENCE, Server

from simulator.cli import main, simulate
from simulator.play.client import Client
from simulator.play.conduct import Conduct, Timing
from simulator.play.connecting import Address
from simulator.play.player import Play
from simulator.play.source import Source
from simulator.play.tls import buffered
from simulator.play.unsteady import STALL, Habit, UnsteadySession
from simulator.report.console import ConsoleReport
from simulator.stream.oracle import Expectation, prepare
from simulator.stream.workload import Chunk, Workload
from simulator.verdict.diagnosis import DISCONNECTED, MISSING
from simulator.verdict.results import Verdict

SMALL = ("--total-events", 300, "--concurrency-level", 4, "--number-of-users", 8)
USERS = Workload(300, 4, 8).connected


class Pki:
    """An authority, and a server's and a peer's certificate of it."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server = self.authority.issue(address="127.0.0.1")
        self.peer = self.authority.issue("peer", "maze:source")
        self.flags = ("--tls-ca", self.authority.cert)
        self.own_flags = (*self.flags, "--tls-cert", self.peer.cert, "--tls-key", self.peer.key)

    def context(self, certificate: Certificate | None = None) -> ssl.SSLContext:
        """What a server needs; nobody else has to show a certificate."""
        certificate = certificate or self.server
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        return context

    def server_options(self, *asking: str) -> list[str]:
        """For a server of the simulator's own; those ports ask for a certificate."""
        options = []
        for port in ("source", "client"):
            options += [
                f"--{port}-tls-cert",
                self.server.cert,
                f"--{port}-tls-key",
                self.server.key,
            ]
            if port in asking:
                options += [f"--{port}-tls-ca", self.authority.cert]
        return ["--server-options", shlex.join(options)]

    def asking(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """The same, for a server that wants all_clients's certificate."""
        context = self.context()
        context.load_verify_locations(self.authority.cert)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = context.maximum_version = version
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def refused(server: Server, capsys: pytest.CaptureFixture[str], *more: object) -> str:
    """The one line for a run that does not take place."""
    with server:
        assert main(flags(server, *SMALL, *more)) == 2
    output = capsys.readouterr()
    assert "FAILED" not in output.out
    (line,) = output.err.splitlines()
    return line


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--rate", 3000, "--latency"),
        ("--cuts", 7),
        ("--total-events", 24_000, "--mix", "1,1,6,1,1", "--crlf"),
    ],
)
def test_a_correct_server_passes(pki: Pki, more: tuple[object, ...]) -> None:
    server = Server(4, tls=pki.context())
    assert judged(server, (*SMALL, *more, *pki.flags))[0] == Verdict()


def test_a_server_that_resumes_passes(pki: Pki) -> None:
    server = PositionServer(USERS, tls=pki.context())
    assert judged(server, (*SMALL, "--resuming", 3, *pki.flags))[0] == Verdict()
    assert server.connections > len(USERS)


def test_a_wrong_server_does_not(pki: Pki) -> None:
    def tamper(user: int, nth: int, line: bytes) -> bytes:
        return b"" if (user, nth) == (USERS[2], 5) else line

    server = Server(4, tamper, last=300, tls=pki.context())
    (fault,) = judged(server, (*SMALL, *pki.flags))[0].faults
    assert (fault.user, fault.kind, fault.position) == (USERS[2], MISSING, 5)


@pytest.mark.parametrize("reset", [False, True])
def test_clients_closed_after_their_last_event(pki: Pki, reset: bool) -> None:
    server = Server(4, last=300, dismiss=True, reset=reset, tls=pki.context())
    verdict, _ = judged(server, (*SMALL, *pki.flags, "--linger", 2000))
    assert verdict.failing == 4
    # A reset may take bytes with it.
    assert {fault.kind for fault in verdict.faults} <= {DISCONNECTED, MISSING}


def test_a_server_that_writes_to_the_source(pki: Pki) -> None:
    server = Server(4, answer=b"ok\n", tls=pki.context())
    (fault,) = judged(server, (*SMALL, *pki.flags))[0].server_faults
    assert fault.startswith("the server wrote 3 bytes to the source")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_our_own_certificate_is_shown_to_who_wants_it(pki: Pki, version: ssl.TLSVersion) -> None:
    server = Server(4, tls=pki.asking(version))
    assert judged(server, (*SMALL, *pki.own_flags))[0] == Verdict()


def test_a_server_that_wants_certificates(pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(Server(4, tls=pki.asking(ssl.TLSVersion.TLSv1_2)), capsys, *pki.flags)
    assert "handshake failure" in line


@pytest.mark.parametrize("ports", [("source", "client"), ("client",)])
def test_the_real_server_wants_certificates(
    pki: Pki, ports: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    # With TLS 1.3 it says so when our side of the handshake is done.
    options = pki.server_options(*ports)
    assert main(["--serve", *map(str, SMALL), *pki.flags, *options]) == 2
    assert (
        "the server refused the certificate, or none was given (tlsv13 alert certificate req"
        in (capsys.readouterr().err)
    )


def test_the_wrong_authority(pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(4, tls=pki.context())
    line = refused(server, capsys, "--tls-ca", Authority(tmp_path).cert)
    where = f"127.0.0.1:{server.source_port}"
    assert line.startswith(f"simulator: the certificate of the server at {where} is not valid: ")
    assert line.endswith("signed by the authority in --tls-ca)")


def test_a_certificate_that_has_expired(pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    expired = pki.authority.issue(address="127.0.0.1", lifetime=-timedelta(days=1))
    line = refused(Server(4, tls=pki.context(expired)), capsys, *pki.flags)
    assert "is not valid: certificate has expired" in line


def test_a_certificate_of_another_host(pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    other = pki.authority.issue(dns="else.example")
    line = refused(Server(4, tls=pki.context(other)), capsys, *pki.flags)
    assert "not valid for '127.0.0.1'" in line


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_that_closes_because_it_speaks_no_tls(
    pki: Pki, reset: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(Server(4, refuse_source=True, reset=reset), capsys, *pki.flags)
    assert "closed the connection in the TLS handshake" in line
    assert line.endswith("perhaps it does not speak TLS")


def test_a_server_that_answers_something_else(pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1)
                connection.recv(65536)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert main(["--event-listener-port", str(port), *pki.flags]) == 2
        thread.join(PATIENCE)
    line = capsys.readouterr().err
    where = f"127.0.0.1:{port}"
    assert line == f"simulator: TLS with the server at {where} failed: wrong version number\n"


def test_a_server_that_does_not_answer(
    pki: Pki, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simulator.play.connecting.CONNECT_TIMEOUT", 0.1)
    line = refused(Server(4), capsys, *pki.flags)
    assert line.endswith("within 0.1 s: perhaps it does not speak TLS")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--tls-cert", "PEER", "--tls-key", "KEY"], "need --tls-ca, which enables TLS"),
        (["--tls-ca", "CA", "--tls-cert", "PEER"], "need each other: give both or neither"),
        (["--tls-ca", "nowhere"], "--tls-ca nowhere cannot be read: No such file or directory"),
        (["--tls-ca", "KEY"], "holds no certificate in PEM"),
        (["--tls-ca", "CA", "--tls-cert", "PEER", "--tls-key", "SERVERKEY"], "(key values mism"),
        (["--tls-ca", "CA", "--tls-cert", "PEER", "--tls-key", "ENCRYPTED"], "is encrypted"),
    ],
)
def test_files_that_will_not_do(
    pki: Pki, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encrypted = pki.authority.issue()
    encrypted.write_over(pki.peer)
    encrypted.encrypt_key(b"secret")
    paths = {
        "CA": pki.authority.cert,
        "PEER": pki.peer.cert,
        "KEY": pki.peer.key,
        "SERVERKEY": pki.server.key,
        "ENCRYPTED": encrypted.key,
    }
    assert main([paths.get(argument, argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


@pytest.mark.parametrize("sources", [1, 2])
def test_every_fault_at_once_against_the_real_server(pki: Pki, sources: int) -> None:
    arguments = (
        *("--serve", *pki.server_options("source", "client"), *pki.own_flags, "--linger", 50),
        *("--total-events", 20_000, "--concurrency-level", 12, "--number-of-users", 40),
        *("--mix", "1,1,1,1,1", "--duplicates", 5, "--malformed", 5, "--gaps", 9, "--cuts", 3000),
        *("--sources", sources, "--leaving", 3, "--returning", 3),
        *("--stalling", 2, "--stall-time", 200),
    )
    with ConsoleReport("error", 1.0, Console(file=StringIO())) as report:
        assert simulate(parameters(*arguments), report) == Verdict()


class Ends:
    """Both ends of one TLS connection; ours does not block."""

    def __init__(self, pki: Pki) -> None:
        raw = socket.socketpair()
        for end in raw:
            end.settimeout(PATIENCE)
        ours = ssl.create_default_context(cafile=pki.authority.cert)
        thread = threading.Thread(target=self._accept, args=(raw[1], pki.context()))
        thread.start()
        self.ours: Any = ours.wrap_socket(raw[0], server_hostname="127.0.0.1")
        thread.join(PATIENCE)
        self.ours.setblocking(False)

    def _accept(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self.theirs: Any = context.wrap_socket(connection, server_side=True)


@pytest.fixture
def ends(pki: Pki) -> Iterator[Ends]:
    ends = Ends(pki)
    with ends.ours, ends.theirs:
        yield ends


def expectation(stream: bytes, block: int) -> Expectation:
    expected = Expectation(block)
    expected.add(stream, stream.count(b"\n"))
    expected.last_line = stream.splitlines(keepends=True)[-1]
    expected.finish()
    return expected


STREAM = b"".join(b"%d|B\n" % number for number in range(1, 1001))


def test_what_tls_has_buffered_is_known(ends: Ends) -> None:
    client = Client(1, ends.ours, expectation(STREAM, 1000))
    assert client.read() == 0
    assert not buffered(ends.ours)
    ends.theirs.sendall(STREAM)
    sizes = [client.read()]
    while buffered(ends.ours):
        sizes.append(client.read())
    assert len(sizes) == len(client.expected.digests)
    assert client.complete


@pytest.mark.parametrize("habits", [{}, {1: Habit(STALL, 0.3, abortive=False)}])
def test_what_tls_has_buffered_is_read_though_nothing_more_comes(
    ends: Ends, habits: dict[int, Habit]
) -> None:
    workload = Workload(events=1000, clients=1, users=1, batch=1, mix=(0, 0, 1, 0, 0))
    prepared = prepare(workload, 4096, lambda _done: None)
    left = [STREAM]  # one record, more than one block

    def serve(*_: object) -> None:
        if left:
            ends.theirs.sendall(left.pop())

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        timing = Timing(timeout=1.0, stall=0.05)
        conduct = Conduct(habits=habits)
        play = Play(Address("127.0.0.1", 1, 1), workload.connected, timing, conduct)
        play.run([ours], [ends.ours], prepared, serve)
    (client,) = play.all_clients
    assert client.received == len(STREAM)
    assert client.closed_by is None


def test_a_session_stalls_on_what_is_buffered(ends: Ends) -> None:
    session = UnsteadySession(
        1, ends.ours, expectation(STREAM, 1000), Habit(STALL, 0.3, abortive=False)
    )
    ends.theirs.sendall(STREAM)
    session.read()
    assert session.acts_now
    assert buffered(ends.ours)
    session.act()
    session.read()
    assert session.finished
    session.spool.close()


def test_the_source_waits_for_room(ends: Ends) -> None:
    data = STREAM * 500
    source = Source(ends.ours, [Chunk(data, 1)], None, cut=len(data))
    received = bytearray()
    full = 0
    while not source.done:
        if not source.write():
            full += 1
            received += ends.theirs.recv(65536)
    assert full
    # There is no room for the last word either, at first.
    source.leave()
    while piece := ends.theirs.recv(65536):
        received += piece
        source.leave()
    assert received == data


def test_the_source_leaves_when_there_is_room_for_the_last_word(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(ends.ours, [Chunk(b"1|B\n", 1)], None)
    source.write()
    with monkeypatch.context() as full:
        full.setattr(ssl.SSLSocket, "unwrap", _no_room)
        source.leave()
    assert ends.theirs.recv(100) == b"1|B\n"
    source.leave()
    assert ends.theirs.recv(100) == b""
    # What the server says is still decrypted.
    ends.theirs.sendall(b"late")
    assert source.read()
    assert source.answered is not None
    assert "4 bytes" in source.answered


def _no_room(_connection: ssl.SSLSocket) -> None:
    raise ssl.SSLWantWriteError
