"""TLS contexts, made from the certificate and key files that the options name.

Reading files blocks: while the server runs, it must be done in a native thread.
"""

import ssl
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import gevent.socket
import gevent.ssl

from maze.errors import SettingsError
from maze.listener.certificates import Certificate, digest_of, read_certificates, tls_files
from maze.settings.options import Settings
from maze.settings.port import PortSettings

_TOO_WEAK = ("_TOO_SMALL", "_TOO_WEAK")
"""Suffixes of OpenSSL's error names for a valid certificate or key that is too weak."""


class ServerContext:
    """One port's certificate and authority. Connections never resume a TLS session.

    A peer that resumes a session shows no certificate, so it could connect after its certificate
    has expired. ``OP_NO_TICKET`` does not prevent that: OpenSSL also caches TLS 1.2 sessions by
    id, in the context that made the connection, and Python's ssl cannot turn the cache off.
    Each connection is therefore made with a bare context and then given the port's own. When the
    bare context has cached a session, a new one replaces it (0.2 ms, with TLS 1.2 only).
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._bare = _new_context(context.verify_mode)

    @property
    def remembered_sessions(self) -> int:
        """Number of sessions that the next connection could resume."""
        return self._bare.session_stats()["number"]

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the server's end of a new connection."""
        if self.remembered_sessions:
            self._bare = _new_context(self._context.verify_mode)
        connection = self._bare.wrap_bio(incoming, outgoing, server_side=True)
        connection.context = self._context
        return connection


Context = ServerContext | None
"""The TLS context of a port; None if the port is plain."""


class ClientContext:
    """The certificate and authority with which connections are made to another server."""

    def __init__(self, contexts: dict[ModuleType, ssl.SSLContext]) -> None:
        self._contexts = contexts

    def wrap(self, sock: Any, host: str) -> Any:
        """Complete TLS with a server that must prove that it is ``host``; return the connection.

        The socket may be a gevent socket. Raise OSError.
        """
        module = gevent.ssl if isinstance(sock, gevent.socket.socket) else ssl
        return self._contexts[module].wrap_socket(sock, server_hostname=host)


class Contexts(NamedTuple):
    """The TLS contexts of a server; each is None without TLS."""

    source: Context
    client: Context
    feed: Context
    """For the port on which an ingest serves its journal."""
    ingest: ClientContext | None
    """For an edge's connections to its ingest."""
    certificates: tuple[Certificate, ...]
    """The certificates that the server presents, including those for Redis."""
    digest: bytes
    """Digest of all files, from before they were read."""


@dataclass(frozen=True)
class _File:
    """A file named by an option."""

    flag: str
    path: str

    def __str__(self) -> str:
        return f"{self.flag} {self.path}"

    def check_readable(self) -> None:
        """Raise SettingsError if the file cannot be read; OpenSSL would not name the file."""
        try:
            with open(self.path, "rb") as stream:
                stream.read(1)
        except OSError as error:
            raise SettingsError(f"{self} cannot be read: {error.strerror}") from None


def load_contexts(settings: Settings) -> Contexts:
    """Return the contexts that the role needs. Raise SettingsError.

    The error names the options that contradict each other, or the file that cannot be used.
    """
    if settings.client_identity == "certificate" and not settings.client_tls_ca:
        raise SettingsError(
            "--client-identity certificate needs --client-tls-ca: "
            "the authority that signs the clients' certificates"
        )
    if settings.source_names and not settings.source_tls_ca:
        raise SettingsError(
            "--source-names needs --source-tls-ca: "
            "the authority that signs the sources' certificates"
        )
    digest = digest_of(tls_files(settings))
    return Contexts(
        _load(settings.source),
        _load(settings.client),
        _load(settings.feed_port) if settings.feed and settings.role == "ingest" else None,
        _load_client(settings.feed_port) if settings.feed and settings.role == "edge" else None,
        read_certificates(settings),
        digest,
    )


def _load(port: PortSettings) -> Context:
    if not (port.tls_cert or port.tls_key or port.tls_ca):
        return None
    cert = _required(port, "tls-cert", port.tls_cert)
    key = _required(port, "tls-key", port.tls_key)
    context = _new_context(ssl.CERT_REQUIRED if port.tls_ca else ssl.CERT_NONE)
    _load_certificate(context, cert, key)
    if port.tls_ca:
        _load_authority(context, _File(port.flag("tls-ca"), port.tls_ca))
    return ServerContext(context)


def _load_client(port: PortSettings) -> ClientContext | None:
    if not (port.tls_cert or port.tls_key or port.tls_ca):
        return None
    ca = _required(port, "tls-ca", port.tls_ca)
    contexts = {}
    for module in (ssl, gevent.ssl):
        context: ssl.SSLContext = module.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_authority(context, ca)
        if port.tls_cert or port.tls_key:
            cert = _required(port, "tls-cert", port.tls_cert)
            _load_certificate(context, cert, _required(port, "tls-key", port.tls_key))
        contexts[module] = context
    return ClientContext(contexts)


def _required(port: PortSettings, option: str, path: str | None) -> _File:
    flag = port.flag(option)
    if not path:
        where = "the feed" if port.name == "feed" else f"the {port.name} port"
        raise SettingsError(f"TLS on {where} also needs {flag}")
    return _File(flag, path)


def _new_context(verify_mode: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = verify_mode
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # TLS 1.3 sends tickets despite OP_NO_TICKET
    return context


def _load_certificate(context: ssl.SSLContext, cert: _File, key: _File) -> None:
    cert.check_readable()
    key.check_readable()

    def refuse_password() -> NoReturn:
        """Raise SettingsError; OpenSSL would ask for the key's password at the terminal."""
        raise SettingsError(f"{key} is encrypted; the server needs a key without a password")

    try:
        context.load_cert_chain(cert.path, key.path, refuse_password)
    except OSError as error:
        raise SettingsError(_certificate_error(cert, key, error)) from None


def _certificate_error(cert: _File, key: _File, error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the private key of {cert}"
    if reason and reason.endswith(_TOO_WEAK):
        return f"OpenSSL refuses {cert} with {key}: {reason.lower().replace('_', ' ')}"
    return f"{cert} and {key} are not a certificate and its private key in PEM format"


def _load_authority(context: ssl.SSLContext, ca: _File) -> None:
    ca.check_readable()
    try:
        context.load_verify_locations(ca.path)
    except OSError:
        raise SettingsError(f"{ca} holds no certificate in PEM format") from None


def describe_tls_error(error: ssl.SSLError) -> str:
    """Return a short description of an OpenSSL error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
