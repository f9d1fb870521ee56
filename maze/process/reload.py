"""Reload on SIGHUP: certificates and log level, replaced only if all are valid.

The reject file is opened again in any case: a program that has renamed it sends SIGHUP, too.
"""

from collections.abc import Callable
from dataclasses import fields

import gevent
import structlog

from maze.errors import SettingsError
from maze.listener.tls_context import Contexts, load_contexts
from maze.log.configure import set_level
from maze.server import Server
from maze.settings.options import Settings, flag_of, key_of

log = structlog.get_logger()

PORTS = ("source", "client", "feed")
"""The ports that can speak TLS."""

RELOADED = {
    "log_level",
    *(f"{port}_tls_{end}" for port in PORTS for end in ("cert", "key", "ca")),
}
"""Options that may change while the server runs."""


class Reloader:
    """Reload a server's certificates and log level; ``read`` returns the current settings."""

    def __init__(self, server: Server, read: Callable[[], Settings]) -> None:
        self._server = server
        self._read = read
        self._running = False
        self._requested = False

    def reload(self) -> None:
        """Reload now; requests during a reload cause one more reload after it."""
        self._requested = True
        if self._running:
            return
        self._running = True
        try:
            while self._requested:
                self._requested = False
                self._reload()
        finally:
            self._running = False

    def _reload(self) -> None:
        if self._server.rejects.file:
            self._server.rejects.file.reopen()
        # In a thread, because a disk that does not respond would block the event loop.
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

    def _load(self) -> tuple[Settings, Contexts] | Exception:
        """Return the new settings and contexts, or the error; runs in a native thread."""
        try:
            settings = self._read()
            contexts = load_contexts(settings)
            _check_tls_unchanged(self._server.settings, settings)
        except (SettingsError, OSError, ValueError) as error:
            return error  # raised in a thread, it would print a traceback
        return settings, contexts

    def _ignored(self, settings: Settings) -> list[str]:
        """Return the changed options that only a restart can apply."""
        return [
            key_of(spec.name)
            for spec in fields(Settings)
            if spec.name not in RELOADED
            and getattr(settings, spec.name) != getattr(self._server.settings, spec.name)
        ]


def _check_tls_unchanged(before: Settings, after: Settings) -> None:
    """Raise SettingsError if TLS or its certificate check was turned on or off."""
    for name in (f"{port}_tls_{end}" for port in PORTS for end in ("cert", "ca")):
        if bool(getattr(before, name)) != bool(getattr(after, name)):
            raise SettingsError(
                f"{flag_of(name)} can be added or removed only by restarting the server"
            )
