"""Warnings of certificates that expire; what else the watch does is in ``end_to_end``."""

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from maze.listener.certificates import Certificate
from maze.process.certificate_watch import DAY, CertificateWatch

EXPIRES = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""


class Watched:
    """A watch with a clock of its own."""

    def __init__(self, *ports: str) -> None:
        certificates = tuple(Certificate(port, f"{port}.pem", EXPIRES) for port in ports)
        self.contexts = SimpleNamespace(certificates=certificates)
        self.now = EXPIRES - 30 * DAY
        server: Any = self
        reloader: Any = None
        self._watch = CertificateWatch(server, reloader, lambda: self.now)

    def warned(self, days_before: float) -> list[Any]:
        """Return what is logged at that time."""
        self.now = EXPIRES - days_before * DAY
        with capture_logs() as lines:
            self._watch.warn()
        return lines


def test_a_certificate_that_expires_soon_is_told() -> None:
    assert Watched("client").warned(14.001) == []
    assert Watched("client").warned(13.96) == [
        {
            "event": "certificate_expires",
            "log_level": "warning",
            "port": "client",
            "file": "client.pem",
            "expires": "2027-01-15T08:00:00Z",
            "days_left": 14.0,
        }
    ]


def test_it_is_told_at_most_once_a_day() -> None:
    watched = Watched("client")
    days = [day / 10 for day in range(150, 0, -1)]
    assert sum(len(watched.warned(day)) for day in days) == pytest.approx(14, abs=1)


def test_one_that_has_expired_is_told_too() -> None:
    (line,) = Watched("client").warned(-2)
    assert line["days_left"] == -2.0


def test_each_port_is_told() -> None:
    assert [line["port"] for line in Watched("source", "client").warned(1)] == ["source", "client"]


def test_a_new_certificate_that_expires_soon_is_told_at_once() -> None:
    watched = Watched("client")
    assert watched.warned(2)
    watched.contexts.certificates = (Certificate("client", "client.pem", EXPIRES + DAY),)
    assert watched.warned(2)
    watched.contexts.certificates = ()
    assert watched.warned(2) == []
