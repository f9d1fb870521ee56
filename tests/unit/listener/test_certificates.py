"""When certificates expire, and whether their files have changed; held against ``cryptography``."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from end_to_end.certificates import DAY, Authority

from maze.listener.certificates import (
    Certificate,
    TlsFiles,
    digest_of,
    expiry_of,
    read_certificates,
    tls_files,
)

from ..reading import read


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    "lifetime",
    [
        -DAY,
        90 * DAY,
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC) - datetime.now(UTC),  # two digits
        datetime(2050, 1, 2, tzinfo=UTC) - datetime.now(UTC),  # four
        datetime(9999, 12, 31, tzinfo=UTC) - datetime.now(UTC),
    ],
    ids=["expired", "90 days", "2049", "2050", "9999"],
)
def test_the_expiry_is_the_certificate_s(authority: Authority, lifetime: timedelta) -> None:
    certificate = authority.issue("a long name " * 5, "maze:source", lifetime=lifetime)
    pem = Path(certificate.cert).read_bytes()
    assert expiry_of(pem) == certificate.x509.not_valid_after_utc.timestamp()


def test_an_rsa_certificate_has_longer_elements(authority: Authority) -> None:
    key = rsa.generate_private_key(65537, 2048)
    certificate = authority.issue(key=key)
    expiry = certificate.x509.not_valid_after_utc.timestamp()
    assert expiry_of(Path(certificate.cert).read_bytes()) == expiry


def test_of_a_chain_the_first_to_expire_counts(authority: Authority) -> None:
    days = [authority.issue(lifetime=days * DAY) for days in (30, 10, 20)]
    pem = b"# a comment\n".join(each.x509.public_bytes(Encoding.PEM) for each in days)
    assert expiry_of(pem) == days[1].x509.not_valid_after_utc.timestamp()
    assert expiry_of(pem.replace(b"\n", b"\r\n")) == expiry_of(pem)


@pytest.mark.parametrize("inside", [b"", b"!", b"MA==", b"MIIB", b"MAMCAQE="])
def test_what_is_no_certificate_has_no_expiry(inside: bytes) -> None:
    assert expiry_of(inside) is None
    pem = b"-----BEGIN CERTIFICATE-----\n" + inside + b"\n-----END CERTIFICATE-----\n"
    assert expiry_of(pem) is None


def test_the_digest_tells_changed_files(authority: Authority, tmp_path: Path) -> None:
    """Those of a Kubernetes secret are symlinks, by way of a folder that is a symlink, too."""
    first, second, data = tmp_path / "1", tmp_path / "2", tmp_path / "data"
    for folder, text in ((first, "a"), (second, "b")):
        folder.mkdir()
        (folder / "cert").write_text(text)
    data.symlink_to(first)
    (tmp_path / "cert").symlink_to("data/cert")
    files = [TlsFiles("client", str(tmp_path / "cert"), None, None)]
    before = digest_of(files)
    assert digest_of(files) == before
    swapped = tmp_path / "swapped"
    swapped.symlink_to(second)
    swapped.rename(data)
    after = digest_of(files)
    assert after != before
    (second / "cert").unlink()
    assert digest_of(files) not in {before, after}
    (second / "cert").mkdir()
    assert digest_of(files) not in {before, after}


def test_every_file_counts(tmp_path: Path) -> None:
    paths = [tmp_path / end for end in ("cert", "key", "ca")]
    for path in paths:
        path.write_text("x")
    files = [TlsFiles("client", *map(str, paths))]
    seen = {digest_of(files)}
    for path in paths:
        path.write_text("y")
        seen.add(digest_of(files))
    assert len(seen) == 4


REDIS = [
    *("--journal", "rediss://h", "--journal-tls-cert", "journal.pem"),
    *("--journal-tls-key", "journal.key", "--journal-tls-ca", "journal.ca"),
]


def test_the_files_are_those_of_all_options() -> None:
    arguments = ["--role", "ingest", "--feed", "127.0.0.1:1"]
    for port in ("source", "client", "feed"):
        for end in ("cert", "key", "ca"):
            arguments += [f"--{port}-tls-{end}", f"{port}.{end}"]
    ports = [
        TlsFiles(port, f"{port}.cert", f"{port}.key", f"{port}.ca")
        for port in ("source", "client", "feed")
    ]
    assert tls_files(read(*arguments)) == ports
    assert tls_files(read(*REDIS))[-1] == TlsFiles(
        "journal", "journal.pem", "journal.key", "journal.ca"
    )


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        ([], ["source", "client"]),
        (["--role", "ingest", "--feed", "127.0.0.1:1"], ["source", "feed"]),
        (["--role", "edge", "--feed", "127.0.0.1:1"], ["client", "feed"]),
        ([*REDIS, "--role", "edge"], ["client", "journal"]),
    ],
)
def test_certificates_are_those_that_the_role_presents(
    arguments: list[str], ports: list[str], authority: Authority
) -> None:
    cert = authority.server.cert
    given = [*arguments, "--source-tls-cert", cert, "--client-tls-cert", cert]
    given += ["--feed-tls-cert", cert] if "--feed" in given else []
    given = [cert if each == "journal.pem" else each for each in given]
    expires = authority.server.x509.not_valid_after_utc.timestamp()
    expected = tuple(Certificate(port, cert, expires) for port in ports)
    assert read_certificates(read(*given)) == expected
