"""The files that TLS needs: read, checked, and made into one context for each port.

Reading blocks: when the server runs, it has to happen in a thread.
"""

import ssl
from dataclasses import dataclass
from typing import NoReturn

from maze.errors import SettingsError
from maze.settings.options import Settings
from maze.settings.port import PortSettings

_TOO_WEAK = ("_TOO_SMALL", "_TOO_WEAK")
"""how OpenSSL's names end for what is a certificate and a key, but no longer strong enough"""


class ServerContext:
    """One port's certificate and authority. Connections never resume a TLS session.

    A peer that resumes a session shows no certificate, so it could get in after its certificate
    has expired. ``OP_NO_TICKET`` does not prevent that: OpenSSL also caches TLS 1.2 sessions by
    id, in the context that made the connection, and Python's ssl cannot turn the cache off.
    Each connection is therefore made with a bare context and then given the port's own. Once
    the bare context has cached a session, a new one replaces it (0.2 ms, with TLS 1.2 only).
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._bare = _new_context(context.verify_mode)

    @property
    def remembered_sessions(self) -> int:
        """How many sessions the next connection could resume."""
        return self._bare.session_stats()["number"]

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the server's end of a new connection."""
        if self.remembered_sessions:
            self._bare = _new_context(self._context.verify_mode)
        connection = self._bare.wrap_bio(incoming, outgoing, server_side=True)
        connection.context = self._context
        return connection


Context = ServerContext | None
"""how TLS is spoken on a port; None where it is not"""


@dataclass(frozen=True)
class _File:
    """A file that an option names."""

    flag: str
    path: str

    def __str__(self) -> str:
        return f"{self.flag} {self.path}"

    def check_readable(self) -> None:
        """Raise SettingsError if it is not; OpenSSL does not say which one it could not read."""
        try:
            with open(self.path, "rb") as stream:
                stream.read(1)
        except OSError as error:
            raise SettingsError(f"{self} cannot be read: {error.strerror}") from None


def load_contexts(settings: Settings) -> tuple[Context, Context]:
    """The contexts of source port and client port.

    Raises SettingsError if the options do not fit together, or a file will not do.
    """
    if settings.client_identity == "certificate" and not settings.client_tls_ca:
        raise SettingsError(
            "--client-identity certificate needs --client-tls-ca: "
            "the authority of the certificates that name the users"
        )
    if settings.source_names and not settings.source_tls_ca:
        raise SettingsError(
            "--source-names needs --source-tls-ca: "
            "the authority that signs the sources' certificates"
        )
    return _load(settings.source), _load(settings.client)


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


def _required(port: PortSettings, option: str, path: str | None) -> _File:
    flag = port.flag(option)
    if not path:
        raise SettingsError(f"TLS on the {port.name} port needs {flag}, too")
    return _File(flag, path)


def _new_context(verify_mode: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = verify_mode
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # for TLS 1.3, where OP_NO_TICKET has no effect on them
    return context


def _load_certificate(context: ssl.SSLContext, cert: _File, key: _File) -> None:
    cert.check_readable()
    key.check_readable()

    def refuse_to_ask() -> NoReturn:
        """OpenSSL would ask for the password at the terminal, and wait."""
        raise SettingsError(f"{key} is encrypted, and nobody is there to give the password")

    try:
        context.load_cert_chain(cert.path, key.path, refuse_to_ask)
    except OSError as error:
        raise SettingsError(_why_refused(cert, key, error)) from None


def _why_refused(cert: _File, key: _File, error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the private key of {cert}"
    if reason and reason.endswith(_TOO_WEAK):
        return f"OpenSSL refuses {cert} with {key}: {reason.lower().replace('_', ' ')}"
    return f"{cert} and {key} are not a certificate and its private key, in PEM"


def _load_authority(context: ssl.SSLContext, ca: _File) -> None:
    ca.check_readable()
    try:
        context.load_verify_locations(ca.path)
    except OSError:
        raise SettingsError(f"{ca} holds no certificate in PEM") from None
