"""A check of the settings finds what a start would, and changes nothing."""

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from end_to_end.certificates import Authority

from maze.core import Position
from maze.errors import MazeError, RejectFileError
from maze.journal.sqlite import SQLiteJournal
from maze.log.reject_file import RejectFileWriter
from maze.process.check_config import check_settings

from ..reading import read

NOBODY = 65534


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def fault(*arguments: str) -> str:
    with pytest.raises(MazeError) as error:
        check_settings(read(*arguments))
    return str(error.value)


def test_defaults_are_right() -> None:
    check_settings(read())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source-acks", "on"], "--source-acks on needs --journal"),
        (["--role", "edge"], "--role edge needs --feed"),
        (["--feed", "127.0.0.1:1"], "--feed needs --role ingest or --role edge"),
        (["--edges", "2", "--role", "edge"], "--edges starts an ingest and edges itself"),
        (["--client-identity", "certificate"], "needs --client-tls-ca"),
        (["--source-names", "any"], "--source-names needs --source-tls-ca"),
        (["--client-tls-cert", "x"], "TLS on the client port also needs --client-tls-key"),
        (["--journal", "redis://h:x"], "--journal: the host or port of the Redis URL is not valid"),
        (["--journal", "redis://h", "--journal-tls-ca", "x"], "need a rediss:// URL"),
        (["--journal", "rediss://h", "--journal-tls-ca", "/nope"], "cannot use /nope: No such"),
    ],
)
def test_a_fault_of_the_options_is_found(arguments: list[str], said: str) -> None:
    assert said in fault(*arguments)


def test_certificates_are_loaded(authority: Authority) -> None:
    server, other = authority.server, authority.issue()
    files = ["--client-tls-cert", server.cert, "--client-tls-key"]
    check_settings(read(*files, server.key))
    assert "is not the private key of" in fault(*files, other.key)
    assert "cannot be read: No such file" in fault(*files, "/nope")
    redis = ["--journal", "rediss://h", "--journal-tls-ca", authority.cert]
    check_settings(read(*redis, "--journal-tls-cert", server.cert, "--journal-tls-key", server.key))
    assert "cannot use" in fault(
        *redis, "--journal-tls-cert", server.cert, "--journal-tls-key", other.key
    )


@pytest.mark.parametrize(
    "arguments", [[], ["--role", "ingest", "--feed", "127.0.0.1:0"], ["--edges", "1"]]
)
def test_a_journal_is_checked_and_not_touched(arguments: list[str], tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    given = [*arguments, "--journal", str(journal)]
    check_settings(read(*given))
    assert not list(tmp_path.iterdir())
    with closing(SQLiteJournal(str(journal), Position(1, 1))):  # a server holds its lock
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        check_settings(read(*given))
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def _make_folder(path: Path) -> None:
    path.mkdir()


def _make_text(path: Path) -> None:
    path.write_text("no journal" * 100)


def _make_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE batch (id)")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_make_folder, "is not a file"),
        (_make_text, "is not a journal: file is not a database"),
        (_make_database, "is a SQLite database, but not a journal"),
    ],
)
def test_what_is_no_journal_is_found(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "journal")
    assert said in fault("--journal", str(tmp_path / "journal"))


@pytest.mark.parametrize("option", ["--journal", "--rejects"])
def test_a_folder_that_is_absent_or_no_folder_is_found(option: str, tmp_path: Path) -> None:
    assert "No such file or directory" in fault(option, str(tmp_path / "absent" / "file"))
    file = tmp_path / "file"
    file.write_text("")
    assert "Not a directory" in fault(option, str(file / "file"))


@pytest.mark.parametrize("option", ["--journal", "--rejects"])
def test_a_symlink_that_leads_nowhere_is_found(option: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "absent" / "file")
    assert "No such file or directory" in fault(option, str(link))


def test_a_symlink_to_a_file_that_can_be_created_is_right(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("rejects.jsonl")
    check_settings(read("--rejects", str(link)))
    assert list(tmp_path.iterdir()) == [link]


def _make_loop(path: Path) -> None:
    path.symlink_to(path.name)


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [_make_loop, _make_socket, _make_folder])
def test_what_is_no_reject_file_is_refused_as_at_a_start(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "rejects"
    make(path)
    with pytest.raises(RejectFileError) as error:
        RejectFileWriter(str(path), 1, 2)
    assert fault("--rejects", str(path)) == str(error.value)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Take from root the right to write everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)


@pytest.mark.parametrize("option", ["--journal", "--rejects"])
def test_a_folder_that_cannot_be_written_is_found(option: str) -> None:
    with TemporaryDirectory() as folder:  # pytest's own cannot be searched by others
        path = Path(folder, "file")
        check_settings(read(option, str(path)))  # imports what nobody may not read
        Path(folder).chmod(0o555)
        with as_nobody():
            assert "Permission denied" in fault(option, str(path))
        Path(folder).chmod(0o700)


def test_a_reject_file_is_checked_and_not_touched(tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    check_settings(read("--rejects", str(rejects)))
    assert not rejects.exists()
    rejects.write_text("precious")
    check_settings(read("--rejects", str(rejects)))
    assert rejects.read_text() == "precious"
    said = fault("--rejects", str(tmp_path))
    assert said == f"cannot open {tmp_path}: Is a directory; choose another with --rejects"
