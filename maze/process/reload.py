"""Reload on SIGHUP: certificates and log level, replaced only if all are valid.

The reject file is opened again in any case: a program that has renamed it sends SIGHUP, too.
TLS files that have changed are used without a signal, too.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import NamedTuple

import structlog

from maze.errors import SettingsError
from maze.journal.journal import JournalError
from maze.journal.redis_tls import Contexts as RedisContexts
from maze.journal.redis_tls import RedisTls, tls_in_use
from maze.listener.certificates import digest_of, tls_files
from maze.listener.tls_context import Contexts, load_contexts
from maze.log.configure import set_level
from maze.net.native_thread import run_in_thread
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

ERRORS = (SettingsError, JournalError, OSError, ValueError)
"""What is raised if settings are wrong or files cannot be used."""


class Loaded(NamedTuple):
    """What was read anew."""

    settings: Settings
    """The settings in use from now on: those of the server, with the options of RELOADED."""
    contexts: Contexts
    for_redis: list[tuple[RedisTls, RedisContexts]]


class Reloader:
    """Reload a server's certificates and log level; ``read`` returns the current settings."""

    def __init__(self, server: Server, read: Callable[[], Settings]) -> None:
        self._server = server
        self._read = read
        self._settings = server.settings
        """The settings that name the files in use."""
        self._running = False
        self._requested = False
        self._must_look = False
        self._failed_digest = b""
        """Digest of changed files that could not be used at the last look."""
        self._reported_digest = b""
        """Digest of the changed files for which the log has said so."""

    def reload(self) -> None:
        """Reload now; requests during a reload cause one more reload after it."""
        self._requested = True
        self._run()

    def reload_changed_files(self) -> None:
        """Use the TLS files that have changed, if they can be used.

        Other options stay as they are, even if the command line or the TOML file has changed.
        """
        if any(any(files[1:]) for files in tls_files(self._settings)):
            self._must_look = True
            self._run()

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._requested or self._must_look:
                if self._requested:
                    self._requested = self._must_look = False
                    self._reload()
                else:
                    self._must_look = False
                    self._look()
        finally:
            self._running = False

    def _reload(self) -> None:
        if self._server.rejects.file:
            self._server.rejects.file.reopen()
        # In a thread, because a disk that does not respond would block the event loop.
        try:
            read, loaded = run_in_thread(self._load_all, tls_in_use())
        except ERRORS as error:
            log.error("reload_failed", error=str(error), kept="certificates and log level")
            return
        self._use(loaded)
        settings = loaded.settings
        set_level(settings.log_level)
        self._server.trace(settings.log_level == "debug")
        log.info("reloaded", log_level=settings.log_level)
        if ignored := self._ignored(read):
            log.warning("options_not_reloaded", options=", ".join(ignored), until="a restart")

    def _look(self) -> None:
        digest = run_in_thread(digest_of, tls_files(self._settings))
        if digest == self._server.contexts.digest:
            self._failed_digest = self._reported_digest = b""
            return
        try:
            loaded = run_in_thread(_load, self._settings, tls_in_use())
        except ERRORS as error:
            if digest == self._failed_digest != self._reported_digest:
                self._reported_digest = digest
                log.warning("certificates_not_reloaded", error=str(error), kept="the old ones")
            self._failed_digest = digest
            return
        self._use(loaded)
        log.info("certificates_reloaded")

    def _use(self, loaded: Loaded) -> None:
        self._settings = loaded.settings
        self._failed_digest = self._reported_digest = b""
        self._server.use_contexts(loaded.contexts)
        for tls, contexts in loaded.for_redis:
            tls.use(contexts)

    def _load_all(self, for_redis: list[RedisTls]) -> tuple[Settings, Loaded]:
        """Read the settings and the files that they name; return both. Raise one of ERRORS.

        Which ports there are, and so which contexts, depends on options that stay as they are.
        """
        read = self._read()
        running = self._server.settings
        anew = {name: getattr(read, name) for name in RELOADED}
        loaded = _load(replace(running, **anew), for_redis)
        _check_tls_unchanged(running, loaded.settings)
        return read, loaded

    def _ignored(self, read: Settings) -> list[str]:
        """Return the changed options that only a restart can apply."""
        return [
            key_of(spec.name)
            for spec in fields(Settings)
            if spec.name not in RELOADED
            and getattr(read, spec.name) != getattr(self._server.settings, spec.name)
        ]


def _load(settings: Settings, for_redis: list[RedisTls]) -> Loaded:
    """Read the files that the settings name. Raise one of ERRORS."""
    return Loaded(settings, load_contexts(settings), [(tls, tls.load()) for tls in for_redis])


def _check_tls_unchanged(before: Settings, after: Settings) -> None:
    """Raise SettingsError if TLS or its certificate check was turned on or off."""
    for name in (f"{port}_tls_{end}" for port in PORTS for end in ("cert", "ca")):
        if bool(getattr(before, name)) != bool(getattr(after, name)):
            raise SettingsError(
                f"{flag_of(name)} can be added or removed only by restarting the server"
            )
