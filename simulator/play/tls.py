"""Speak TLS: the context, the handshake, and how a connection is read and closed.

A connection is a socket or an ``ssl.SSLSocket``. Sources and clients need not know which.
"""

import errno
import socket
import ssl
import struct
from contextlib import suppress
from typing import NoReturn

from simulator.errors import ConnectError, ParameterError, RefusedError

NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""Errors of a non-blocking connection that has nothing to read or no room to write."""

_ABORT = struct.pack("ii", 1, 0)
"""Value of SO_LINGER that makes close() reset the connection."""

_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""Parts of OpenSSL's names of the alerts that refuse a peer's certificate."""


def context(ca: str, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Return a TLS context that trusts the authority in ``ca``.

    ``cert`` and ``key`` are the certificate and private key that sources and clients present.
    Raise ParameterError for a file that cannot be used.
    """
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _check_readable("--tls-ca", ca)
    try:
        result.load_verify_locations(ca)
    except OSError:
        raise ParameterError(f"--tls-ca {ca} holds no certificate in PEM") from None
    if cert is not None and key is not None:
        _load_own(result, cert, key)
    return result


def _load_own(result: ssl.SSLContext, cert: str, key: str) -> None:
    _check_readable("--tls-cert", cert)
    _check_readable("--tls-key", key)

    def refuse_to_ask() -> NoReturn:
        raise ParameterError(f"--tls-key {key} is encrypted: use a key without a password")

    try:
        result.load_cert_chain(cert, key, refuse_to_ask)
    except OSError as error:
        raise ParameterError(
            f"--tls-cert {cert} and --tls-key {key} are not a certificate and its private key, "
            f"in PEM ({reason(error)})"
        ) from None


def _check_readable(flag: str, path: str) -> None:
    """Raise ParameterError for an unreadable file, which OpenSSL's errors do not name."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ParameterError(f"{flag} {path} cannot be read: {error.strerror}") from None


def secure(
    connection: socket.socket, tls: ssl.SSLContext, host: str, port: int, seconds: float
) -> ssl.SSLSocket:
    """Do the TLS handshake within ``seconds``, and return the connection.

    Close the connection and raise ConnectError if the handshake fails.
    """
    connection.settimeout(seconds)
    secured = None
    try:
        secured = tls.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
        # wrap_socket would skip the handshake of a connection that is already reset.
        secured.do_handshake()
    except OSError as error:
        (secured or connection).close()
        raise ConnectError(_why_not(error, host, port, seconds)) from None
    return secured


def _why_not(error: OSError, host: str, port: int, seconds: float) -> str:
    server = f"the server at {host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {server} is not valid: {error.verify_message.rstrip('.')} "
            f"(it must be for {host}, and signed by the authority in --tls-ca)"
        )
    if isinstance(error, TimeoutError):
        return f"no TLS handshake with {server} within {seconds:g} s: perhaps it does not speak TLS"
    if isinstance(error, ssl.SSLEOFError | ConnectionError) or error.errno == errno.ENOTCONN:
        return (
            f"{server} closed the connection in the TLS handshake ({reason(error)}): "
            "perhaps it does not speak TLS"
        )
    return f"TLS with {server} failed: {reason(error)}"


def buffered(connection: socket.socket) -> bool:
    """Return whether TLS has buffered bytes, which a selector does not report."""
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0


def raise_if_refused(error: OSError) -> None:
    """Raise RefusedError if the error is an alert that refuses our certificate or the lack of one.

    In TLS 1.3 this alert arrives after the client has completed the handshake.
    """
    name = (error.reason if isinstance(error, ssl.SSLError) else None) or ""
    if "ALERT" in name and any(part in name for part in _OUR_CERTIFICATE):
        raise RefusedError(
            f"the server refused the certificate, or none was given ({reason(error)}): "
            "see --tls-cert"
        )


def reason(error: OSError) -> str:
    """Return a short description of the error."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error)


def end_writing(connection: socket.socket) -> None:
    """Close this half of the connection; the other half can still be read.

    Raise OSError; SSLWantWriteError means that there is no room yet for the TLS close_notify.
    """
    if isinstance(connection, ssl.SSLSocket):
        # Do not wait for the server's close_notify.
        with suppress(ssl.SSLWantReadError):
            connection.unwrap()
    # SSLSocket.shutdown would end the decryption of what is still to be read.
    socket.socket.shutdown(connection, socket.SHUT_WR)


def hang_up(connection: socket.socket) -> None:
    """Close the connection, after a TLS close_notify if there is room for it."""
    if isinstance(connection, ssl.SSLSocket):
        with suppress(OSError, ValueError):
            connection.unwrap()
    connection.close()


def abort(connection: socket.socket) -> None:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    connection.close()
