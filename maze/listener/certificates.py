"""The files of TLS: whether they have changed, and when the certificates in them expire.

Python's ssl does not tell when a certificate in a file expires, and the ``cryptography`` package
takes 11 MB of memory. So the date is read here, from a file that OpenSSL has accepted.

All functions that read files block.
"""

import base64
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from maze.settings.options import Settings

_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.*?)-----END ", re.DOTALL
)
_VERSION, _UTC_TIME = 0xA0, 0x17
"""Tags of ASN.1 in a certificate (RFC 5280, 4.1)."""

_NOT_OF_ROLE = {"ingest": "client", "edge": "source"}
"""The port that a role does not open."""


class TlsFiles(NamedTuple):
    """The files of a port, or of the connections to Redis."""

    port: str
    """``source``, ``client``, ``feed`` or ``journal``."""
    cert: str | None
    key: str | None
    ca: str | None


class Certificate(NamedTuple):
    """A certificate that this process presents."""

    port: str
    path: str
    expires: float
    """Unix time from which the certificate, or another one of its chain, is no longer valid."""


def tls_files(settings: Settings) -> list[TlsFiles]:
    """Return the files that the options name."""
    ports = [settings.source, settings.client]
    if settings.feed:
        ports.append(settings.feed_port)
    files = [TlsFiles(port.name, port.tls_cert, port.tls_key, port.tls_ca) for port in ports]
    if settings.is_in_redis:
        journal = settings.journal_tls_cert, settings.journal_tls_key, settings.journal_tls_ca
        files.append(TlsFiles("journal", *journal))
    return files


def digest_of(files: Iterable[TlsFiles]) -> bytes:
    """Return a digest of what is in the files; of a file that cannot be read, it has the reason.

    A file that is replaced by way of a symlink, as Kubernetes does, has another digest, too.
    """
    digest = hashlib.sha256()
    for each in files:
        for path in filter(None, each[1:]):
            digest.update(hashlib.sha256(_content(path)).digest())
    return digest.digest()


def read_certificates(settings: Settings) -> tuple[Certificate, ...]:
    """Return the certificates that the role presents, except those that cannot be read."""
    unused = _NOT_OF_ROLE.get(settings.role)
    found = []
    for port, path, _, _ in tls_files(settings):
        if path and port != unused and (expires := expiry_of(_content(path))) is not None:
            found.append(Certificate(port, path, expires))
    return tuple(found)


def expiry_of(pem: bytes) -> float | None:
    """Return the Unix time of the earliest expiry among the certificates.

    None if there is no certificate. A peer refuses a chain if any certificate in it has expired.
    """
    found = _CERTIFICATE.findall(pem)
    try:
        return min((_not_after(base64.b64decode(text)) for text in found), default=None)
    except (ValueError, IndexError):
        return None


def _content(path: str) -> bytes:
    """Return what is in a file, or why it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b"not a file"
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return os.strerror(error.errno or 0).encode()


def _not_after(certificate: bytes) -> float:
    """Return the Unix time of ``notAfter`` in a certificate in DER.

    Raise ValueError or IndexError if it is not one.
    """
    _, signed = _elements(certificate)[0]
    _, to_be_signed = _elements(signed)[0]
    fields = [value for tag, value in _elements(to_be_signed) if tag != _VERSION]
    _, _, _, validity, *_ = fields  # after serial number, algorithm and issuer
    _, (tag, value) = _elements(validity)  # after notBefore
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, 1950 to 2049
        text = ("20" if text < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return tag and value of each element of a sequence in DER."""
    found = []
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        found.append((tag, data[at : at + length]))
        at += length
    return found
