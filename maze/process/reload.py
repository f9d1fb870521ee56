"""SIGHUP: certificates and log level are read again, and replaced only if all of them will do."""

from collections.abc import Callable
from dataclasses import fields

import gevent
import structlog

from maze.errors import SettingsError
from maze.listener.tls_context import Context, load_contexts
from maze.log.configure import set_level
from maze.server import MazeServer
from maze.settings.options import Settings, flag_of, key_of

log = structlog.get_logger()

RELOADED = {
    "log_level",
    *(f"{port}_tls_{end}" for port in ("source", "client") for end in ("cert", "key", "ca")),
}
"""the options that may change while the server runs"""


class Reloader:
    """Reloads a server's certificates and log level; ``read`` gives the settings anew."""

    def __init__(self, server: MazeServer, read: Callable[[], Settings]) -> None:
        self._server = server
        self._read = read
        self._running = False
        self._again = False

    def reload(self) -> None:
        """Reload now, or once the reload that runs is over, however often it was asked for."""
        self._again = True
        if self._running:
            return
        self._running = True
        try:
            while self._again:
                self._again = False
                self._reload()
        finally:
            self._running = False

    def _reload(self) -> None:
        # A file may be on a disk that does not answer.
        loaded = gevent.get_hub().threadpool.apply(self._load)
        if isinstance(loaded, Exception):
            log.error("reload_failed", error=str(loaded), kept="certificates and log level")
            return
        settings, contexts = loaded
        self._server.use_contexts(contexts)
        set_level(settings.log_level)
        self._server.trace(settings.log_level == "debug")
        log.info("reloaded", log_level=settings.log_level)
        if ignored := self._ignored(settings):
            log.warning("options_not_reloaded", options=", ".join(ignored), until="a restart")

    def _load(self) -> tuple[Settings, tuple[Context, Context]] | Exception:
        """What is to be used from now on, or what is wrong with it; runs in a thread."""
        try:
            settings = self._read()
            contexts = load_contexts(settings)
            _check_same_kind(self._server.settings, settings)
        except (SettingsError, OSError, ValueError) as error:  # in the thread it were a traceback
            return error
        return settings, contexts

    def _ignored(self, settings: Settings) -> list[str]:
        """The options that have another value than the one in use."""
        return [
            key_of(spec.name)
            for spec in fields(Settings)
            if spec.name not in RELOADED
            and getattr(settings, spec.name) != getattr(self._server.settings, spec.name)
        ]


def _check_same_kind(before: Settings, after: Settings) -> None:
    """Raise SettingsError if the settings turn TLS, or who is let in by it, on or off."""
    for name in ("source_tls_cert", "source_tls_ca", "client_tls_cert", "client_tls_ca"):
        if bool(getattr(before, name)) != bool(getattr(after, name)):
            raise SettingsError(f"{flag_of(name)} is given or left out by a restart only")
