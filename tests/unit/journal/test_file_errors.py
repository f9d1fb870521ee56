"""A journal's file that cannot be written, or is no longer the one that is open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from maze.core import Position
from maze.journal.file_errors import as_unavailable
from maze.journal.journal import Batch, GoneError, JournalFileError, UnavailableError
from maze.journal.sqlite import SQLiteJournal

START = Position(1, 1)


def batch(number: int, body: bytes = b"1|B\n") -> Batch:
    return Batch(1, number, number + 1, body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path) -> Iterator[SQLiteJournal]:
    with closing(SQLiteJournal(str(path), START)) as opened:
        yield opened


# Errors of SQLite.


def database_error(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    "name",
    [
        "SQLITE_FULL",
        "SQLITE_IOERR_FSYNC",
        "SQLITE_IOERR_WRITE",
        "SQLITE_CANTOPEN",
        "SQLITE_READONLY",
        "SQLITE_READONLY_DIRECTORY",
        "SQLITE_BUSY",
    ],
)
def test_a_failure_that_may_pass_makes_the_journal_unavailable(name: str) -> None:
    error = database_error(getattr(sqlite3, name), name)
    with pytest.raises(UnavailableError) as caught, as_unavailable("/var/maze/journal"):
        raise error
    assert str(caught.value) == f"cannot write /var/maze/journal: it failed ({name})"


@pytest.mark.parametrize(
    "error",
    [
        database_error(sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"),
        sqlite3.ProgrammingError("Cannot operate on a closed database."),
    ],
)
def test_a_failure_that_does_not_pass_is_not_hidden(error: sqlite3.Error) -> None:
    with pytest.raises(type(error)) as caught, as_unavailable("/var/maze/journal"):
        raise error
    assert caught.value is error


def test_a_full_database_keeps_nothing_of_the_append_and_goes_on(journal: SQLiteJournal) -> None:
    database = journal._database
    fence = journal.lease()
    journal.append([batch(1)], fence)
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    batches = [batch(2), batch(3, b"x" * 100_000)]
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"database or disk is full \(SQLITE_FULL\)"):
            journal.append(batches, fence)
        assert journal.read(START, 1_000) == [batch(1)]
    database.execute("PRAGMA max_page_count = 1000000")
    assert journal.append(batches, fence) == Position(1, 4)
    assert journal.read(START, 1_000_000) == [batch(1), *batches]


# The file.


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name(f"{path.parent.name}-renamed"))


def folder_becomes_a_file(path: Path) -> None:
    rename_folder(path)
    path.parent.touch()


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove, "was removed"),
        (rename, "was removed"),
        (rename_folder, "was removed"),
        (folder_becomes_a_file, "was removed"),
        (replace, "was replaced"),
    ],
)
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_nothing_is_written_to_a_file_that_is_gone(
    journal: SQLiteJournal, path: Path, change: Callable[[Path], None], words: str, suffix: str
) -> None:
    fence = journal.lease()
    journal.append([batch(1)], fence)
    file = path.with_name(path.name + suffix)
    change(file)
    for _ in range(2):
        with pytest.raises(GoneError) as caught:
            journal.append([batch(2)], fence)
        assert str(caught.value).startswith(f"{path}")
        assert f"{words} while the journal was open" in str(caught.value)
        assert journal.position() == Position(1, 2)
    assert file.exists() == (change is replace)


def test_a_new_journal_at_the_path_is_left_alone(journal: SQLiteJournal, path: Path) -> None:
    """SQLite's files are found by name, so closing the old journal could remove the new log."""
    fence = journal.lease()
    journal.append([batch(1)], fence)
    for name in list(path.parent.iterdir()):
        name.unlink()
    with closing(SQLiteJournal(str(path), Position(7, 1))) as new:
        new.append([Batch(7, 1, 2, b"new")], new.lease())
        before = {name: (path.parent / name).read_bytes() for name in os.listdir(path.parent)}
        assert sorted(before) == ["journal", "journal-shm", "journal-wal", "journal.lock"]
        with pytest.raises(GoneError):
            journal.append([batch(2)], fence)
        journal.close()
        after = {name: (path.parent / name).read_bytes() for name in os.listdir(path.parent)}
        assert after == before
        new.append([Batch(7, 2, 3, b"new")], new.lease())


def test_a_path_that_cannot_be_looked_at_makes_the_journal_unavailable(
    journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = journal.lease()

    def fail(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", fail)
        with pytest.raises(UnavailableError, match=r"cannot write .*: Permission denied"):
            journal.append([batch(1)], fence)
    assert journal.append([batch(1)], fence) == Position(1, 2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such/folder/journal", "/no/such/folder/journal: No such file or directory"),
        ("/proc/journal", "/proc/journal: No such file or directory"),
        ("/", "/ is not a file"),
    ],
)
def test_a_file_that_cannot_be_opened_is_one_clear_error(path: str, message: str) -> None:
    with pytest.raises(JournalFileError, match=f"^{message}$"):
        SQLiteJournal(path, START)
