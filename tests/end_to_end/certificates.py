"""Certificates for tests, valid and invalid, and the TLS contexts of peers that use them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from gevent import ssl

from .peers import SERVER_NAME

DAY = timedelta(days=1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


_USAGE = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
"""What an authority's key is for."""


class Certificate:
    """A certificate and its key, in the two files that the server's options name."""

    def __init__(self, folder: Path, name: str, x509_: x509.Certificate, key: PrivateKey) -> None:
        self.cert = str(folder / f"{name}.pem")
        self.key = str(folder / f"{name}.key")
        self.x509 = x509_
        self._private_key = key
        self.write_over(self)

    def write_over(self, other: Certificate) -> None:
        """Write another certificate and its key to the files of this one."""
        Path(self.cert).write_bytes(other.x509.public_bytes(Encoding.PEM))
        Path(self.key).write_bytes(other._key_pem())

    def encrypt_key(self, password: bytes) -> None:
        Path(self.key).write_bytes(self._key_pem(password))

    def _key_pem(self, password: bytes = b"") -> bytes:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


class Authority:
    """A certificate authority, and the folder for the certificates that it issues."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("an authority made for a test")
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        own = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_USAGE, critical=True)  # Python 3.13 wants it, and the identifiers
            .add_extension(identifier, critical=False)
        )
        self._issued_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        self.cert = str(folder / "authority.pem")
        signed = own.sign(self._key, hashes.SHA256())
        Path(self.cert).write_bytes(signed.public_bytes(Encoding.PEM))
        self.server = self.issue(dns=SERVER_NAME)

    def issue(
        self,
        name: str = "",
        *uris: str,
        dns: str = "client.test",
        address: str | None = None,
        lifetime: timedelta = DAY,
        key: PrivateKey | None = None,
    ) -> Certificate:
        """Issue a certificate with the common name ``name``, if any, and the given URIs."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        others: list[x509.GeneralName] = [
            x509.DNSName(dns),
            *map(x509.UniformResourceIdentifier, uris),
        ]
        if address is not None:
            others.append(x509.IPAddress(ip_address(address)))
        builder = (
            _builder(_name(name), self._name, key, lifetime)
            .add_extension(x509.SubjectAlternativeName(others), critical=not name)
            .add_extension(self._issued_by, critical=False)
        )
        self._count += 1
        signed = builder.sign(self._key, hashes.SHA256())
        return Certificate(self._folder, str(self._count), signed, key)

    def context(
        self, certificate: Certificate | None = None, version: ssl.TLSVersion | None = None
    ) -> ssl.SSLContext:
        """Return a TLS context for a peer that trusts this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cert)
        if certificate:
            context.load_cert_chain(certificate.cert, certificate.key)
        if version:
            context.minimum_version = context.maximum_version = version
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else OpenSSL does not offer old versions
        return context


class Wire:
    """TLS on both ports: the server's settings, and the contexts of its peers."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._context = authority.context()

    def settings(self) -> dict[str, Any]:
        """Return the options of a server that speaks TLS on both ports."""
        server = self._authority.server
        return {
            f"{port}_tls_{end}": getattr(server, end)
            for port in ("source", "client")
            for end in ("cert", "key")
        }

    def source(self) -> ssl.SSLContext:
        return self._context

    def client(self) -> ssl.SSLContext:
        return self._context


def _name(common_name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    return x509.Name(attributes)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    lifetime: timedelta = DAY,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + lifetime)
    )
