"""The TLS contexts of connections to Redis, which all clients of a server share.

They can be replaced while the server runs; new connections use the new ones.
"""

import errno
import ssl
from threading import Lock
from types import ModuleType
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import gevent.ssl

from maze.journal.journal import JournalServerError
from maze.journal.redis_address import RedisAddress

Contexts = dict[ModuleType, ssl.SSLContext]
"""For gevent's sockets, and for those of native threads."""


class RedisTls:
    """The contexts for an address. Raise JournalServerError if its files cannot be used."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._contexts = self.load()

    def context(self, module: ModuleType) -> ssl.SSLContext:
        """Return the context for sockets of ``ssl`` or ``gevent.ssl``."""
        return self._contexts[module]

    def load(self) -> Contexts:
        """Read the files again. Raise JournalServerError. Blocks."""
        address = self._address
        try:
            return {module: _context(module, address) for module in (ssl, gevent.ssl)}
        except OSError as error:
            files = ", ".join(filter(None, (address.ca, address.certificate, address.key)))
            reason = error.strerror or error
            raise JournalServerError(f"{address}: cannot use {files}: {reason}") from None

    def use(self, contexts: Contexts) -> None:
        """Use these contexts for new connections."""
        self._contexts = contexts


_shared: WeakValueDictionary[RedisAddress, RedisTls] = WeakValueDictionary()
_lock = Lock()


def tls_of(address: RedisAddress) -> RedisTls | None:
    """Return the contexts for an address; None without TLS. Raise JournalServerError.

    Reading the files blocks, which happens at the first call with an address.
    """
    if not address.tls:
        return None
    with _lock:
        found = _shared.get(address)
    if found is None:
        new = RedisTls(address)
        with _lock:
            found = _shared.setdefault(address, new)
    return found


def tls_in_use() -> list[RedisTls]:
    """Return the contexts of all addresses that clients use."""
    with _lock:
        return list(_shared.values())


def _context(module: Any, address: RedisAddress) -> ssl.SSLContext:
    context: ssl.SSLContext = module.create_default_context(cafile=address.ca)
    if address.certificate:
        context.load_cert_chain(address.certificate, address.key, _refuse_password)
    return context


def _refuse_password() -> NoReturn:
    """Raise OSError; OpenSSL would ask for the key's password at the terminal."""
    raise OSError(errno.EINVAL, "the key is encrypted; use a key without a password")
