"""Notice changed TLS files, and warn of certificates that expire."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import gevent
import structlog

from maze.listener.certificates import Certificate
from maze.process.reload import Reloader
from maze.server import Server

log = structlog.get_logger()

LOOK_SECONDS = 30.0
"""Time between two checks of the files. Files are changed one by one, so those that do not fit
together are reported only at the second check."""

DAY = 24 * 3600.0

WARNING_SECONDS = 14 * DAY
"""Time before expiry within which the log warns."""

REPEAT_SECONDS = DAY
"""Time after which the log says so again."""


class CertificateWatch:
    """Watches the certificates of a server. ``clock`` returns the Unix time."""

    def __init__(
        self, server: Server, reloader: Reloader, clock: Callable[[], float] = time.time
    ) -> None:
        self._server = server
        self._reloader = reloader
        self._clock = clock
        self._warned: dict[Certificate, float] = {}
        """Time of the last warning."""
        self._greenlet = gevent.Greenlet(self._run)

    def start(self) -> None:
        """Watch from now on."""
        self._greenlet.start()

    def stop(self) -> None:
        """Watch no longer; a look at the files that is under way has no effect."""
        self._greenlet.kill(block=False)

    def warn(self) -> None:
        """Log which certificates expire soon, each at most once a day."""
        now = self._clock()
        present = set(self._server.contexts.certificates)
        self._warned = {each: at for each, at in self._warned.items() if each in present}
        for certificate in self._server.contexts.certificates:
            seconds = certificate.expires - now
            last = self._warned.get(certificate)
            if seconds < WARNING_SECONDS and (last is None or now - last >= REPEAT_SECONDS):
                self._warned[certificate] = now
                log.warning(
                    "certificate_expires",
                    port=certificate.port,
                    file=certificate.path,
                    expires=_iso(certificate.expires),
                    days_left=round(seconds / DAY, 1),
                )

    def _run(self) -> None:
        while True:
            self.warn()
            gevent.sleep(LOOK_SECONDS)
            self._reloader.reload_changed_files()


def _iso(seconds: float) -> str:
    """Return a Unix time as the log writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
