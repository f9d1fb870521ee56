"""Reload by SIGHUP: certificates and log level are replaced under load; errors change nothing.

The reject file is opened again even so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import ssl

from .certificates import Authority, Certificate
from .peers import Client, broadcasts, joined, until
from .running import Child

pytestmark = pytest.mark.realtime


class Reloading:
    """A server whose configuration and certificates a test can change."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.authority = authority
        self.certificate = authority.issue(dns="maze.test")
        self.config = folder / "maze.toml"
        self.write('log-level = "debug"')
        self.child = Child("--config", str(self.config))
        self.context = authority.context()

    def write(self, *lines: str) -> None:
        """Write the configuration."""
        files = (
            f'{port}-tls-{end} = "{getattr(self.certificate, end)}"'
            for port in ("source", "client")
            for end in ("cert", "key")
        )
        self.config.write_text("\n".join([*files, *lines]) + "\n")

    def reload(self, event: str = "reloaded") -> None:
        """Send SIGHUP; wait for the log event that has to follow."""
        before = len(self.child.logged(event))
        self.child.signal(signal.SIGHUP)
        self.child.await_logged(event, before + 1)

    def shown_serial(self) -> int:
        """Return the serial number of the certificate that the server presents."""
        client = Client(self.child.client_address, tls=self.context)
        try:
            sock = client.sock
            assert isinstance(sock, ssl.SSLSocket)
            shown = sock.getpeercert()
            assert shown
            return int(str(shown["serialNumber"]), 16)
        finally:
            client.close()

    def client(self, user: int) -> Client:
        opened = len(self.child.logged("session_opened"))
        client = self.child.client(user, tls=self.context)
        self.child.await_logged("session_opened", opened + 1)
        return client


@pytest.fixture
def reloading(tmp_path: Path, authority: Authority) -> Iterator[Reloading]:
    reloading = Reloading(tmp_path, authority)
    with reloading.child.ready():
        yield reloading
        reloading.child.signal(signal.SIGTERM)
        assert reloading.child.status() == 0


def _renewed(reloading: Reloading) -> Certificate:
    """Replace the certificate's files with a new certificate."""
    new = reloading.authority.issue(dns="maze.test")
    reloading.certificate.write_over(new)
    return new


def test_certificates_are_replaced_under_load(reloading: Reloading) -> None:
    inbox = reloading.client(1).read_in_background()
    stream = joined(broadcasts(1, 400_001))
    sending = reloading.child.source(tls=reloading.context).send_in_background(stream)
    until(lambda: inbox.size > 100_000, "the load to begin")
    for _ in range(3):
        new = _renewed(reloading)
        reloading.reload()
        assert reloading.shown_serial() == new.x509.serial_number
    until(lambda: inbox.size >= len(stream), "everything to arrive")
    sending.join(5)
    assert inbox.so_far() == stream


@pytest.mark.parametrize("spoil", ["cert", "key", "both", "absent", "other's key"])
def test_bad_files_keep_the_old_ones(reloading: Reloading, spoil: str) -> None:
    certificate = reloading.certificate
    inbox = reloading.client(1).read_in_background()
    if spoil == "absent":
        Path(certificate.cert).unlink()
    elif spoil == "other's key":
        Path(certificate.key).write_bytes(Path(reloading.authority.issue().key).read_bytes())
    else:
        for end in ("cert", "key") if spoil == "both" else (spoil,):
            Path(getattr(certificate, end)).write_text("nonsense")
    stream = joined(broadcasts(1, 100_001))
    reloading.child.source(tls=reloading.context).send_in_background(stream)
    reloading.reload("reload_failed")
    (line,) = reloading.child.logged("reload_failed")
    assert "-tls-" in line["error"]
    assert line["level"] == "error"
    assert reloading.shown_serial() == certificate.x509.serial_number
    until(lambda: inbox.size >= len(stream), "everything to arrive")
    new = _renewed(reloading)
    reloading.reload()
    assert reloading.shown_serial() == new.x509.serial_number
    assert "Traceback" not in reloading.child.stderr()


@pytest.mark.parametrize("is_valid", [True, False])
def test_the_reject_file_is_opened_again(reloading: Reloading, is_valid: bool) -> None:
    folder = reloading.config.parent
    file = folder / "rejects.jsonl"
    with Child("--config", str(reloading.config), "--rejects", str(file)).ready() as child:
        file.rename(folder / "renamed")
        if not is_valid:
            reloading.write('log-level = "loud"')
        child.signal(signal.SIGHUP)
        child.await_logged("reloaded" if is_valid else "reload_failed")
        child.await_logged("reject_file_reopened")
        assert file.exists()


def test_the_log_level_is_replaced(reloading: Reloading) -> None:
    reloading.client(1)
    reloading.write('log-level = "info"')
    reloading.reload()
    opened = len(reloading.child.logged("session_opened"))
    client = reloading.child.client(2, tls=reloading.context)
    source = reloading.child.source(tls=reloading.context)
    source.send(b"1|P|1|2\n")
    reloading.child.await_logged("source_connected")
    reloading.write('log-level = "debug"')
    reloading.reload()
    reloading.client(3)
    assert len(reloading.child.logged("session_opened")) == opened + 1
    client.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("= 1", "not a TOML file"),
        ('log-level = "loud"', "'loud' is not one of"),
        ('nope = "1"', "there is no option 'nope'"),
        ('client-tls-ca = "/dev/null"', "--client-tls-ca /dev/null holds no certificate"),
    ],
)
def test_bad_settings_keep_the_old_ones(reloading: Reloading, line: str, said: str) -> None:
    new = _renewed(reloading)
    reloading.write(line)
    reloading.reload("reload_failed")
    assert said in reloading.child.logged("reload_failed")[0]["error"]
    assert reloading.shown_serial() != new.x509.serial_number
    reloading.client(1)  # still logged: the level has not changed either


def test_a_reload_does_not_turn_tls_off_or_its_authority_on(reloading: Reloading) -> None:
    reloading.write(f'client-tls-ca = "{reloading.authority.cert}"')
    reloading.reload("reload_failed")
    reloading.config.write_text("")
    reloading.reload("reload_failed")
    errors = [line["error"] for line in reloading.child.logged("reload_failed")]
    assert [error.split()[0] for error in errors] == ["--client-tls-ca", "--source-tls-cert"]
    reloading.client(1)


def test_options_that_need_a_restart_are_logged(reloading: Reloading) -> None:
    lines = ['log-level = "debug"', "backlog = 5", 'client-identity = "certificate"']
    reloading.write(*lines)
    reloading.reload("options_not_reloaded")
    (line,) = reloading.child.logged("options_not_reloaded")
    assert line["options"] == "backlog, client-identity"


def test_a_file_that_blocks_delays_nobody(reloading: Reloading) -> None:
    certificate = reloading.certificate
    inbox = reloading.client(1).read_in_background()
    Path(certificate.cert).unlink()
    os.mkfifo(certificate.cert)
    reloading.child.signal(signal.SIGHUP)
    # Once the server is reading the file, its other end can be opened without waiting.
    until(lambda: _has_reader(certificate.cert), "the server to wait for the file")
    stream = joined(broadcasts(1, 10_001))
    reloading.child.source(tls=reloading.context).send(stream)
    until(lambda: inbox.size >= len(stream), "everything to arrive")
    reloading.child.signal(signal.SIGHUP)
    assert reloading.shown_serial() == certificate.x509.serial_number
    # The file does not delay the stop either, which the fixture asserts.


def _has_reader(fifo: str) -> bool:
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_many_signals_at_once_end_with_the_latest_files(reloading: Reloading) -> None:
    for _ in range(20):
        reloading.child.signal(signal.SIGHUP)
    new = _renewed(reloading)
    reloading.reload()
    until(
        lambda: reloading.shown_serial() == new.x509.serial_number,
        "the latest certificate to be presented",
    )


def test_a_server_without_tls_reloads_its_log_level(tmp_path: Path) -> None:
    config = tmp_path / "maze.toml"
    config.write_text('log-level = "info"\n')
    with Child("--config", str(config)).ready() as child:
        config.write_text('log-level = "debug"\n')
        child.signal(signal.SIGHUP)
        child.await_logged("reloaded")
        child.client(1)
        child.await_logged("session_opened")
        child.source().send(b"1|B\n")
        for traced in ("chunk_received", "batch_routed", "payload_queued"):
            child.await_logged(traced)
        child.signal(signal.SIGTERM)
        assert child.status() == 0
