"""A journal's file: how it is created, locked and opened, and which files are left alone."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from maze.core import Position
from maze.journal.journal import JournalFileError
from maze.journal.reader import SQLiteReader
from maze.journal.sqlite import SQLiteJournal

from .files import START, change, events, filled

OPEN = """
import sys
from maze.core import Position
from maze.journal.journal import JournalFileError
from maze.journal.sqlite import SQLiteJournal
print("ready", flush=True)
sys.stdin.readline()
try:
    journal = SQLiteJournal(sys.argv[1], Position(1, 1))
except JournalFileError as error:
    print(error, flush=True)
else:
    print("opened", flush=True)
sys.stdin.readline()
"""
"""Opens a journal when it is told to, and keeps it open until it is told again."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@pytest.mark.parametrize("umask", [0, 0o777, 0o022])
def test_the_files_are_readable_by_their_owner_alone(
    path: str, umask: int, request: pytest.FixtureRequest
) -> None:
    old = os.umask(umask)
    request.addfinalizer(lambda: os.umask(old))
    with closing(SQLiteJournal(path, START)) as journal:
        journal.append(events(1, 3), journal.lease())
        for name in Path(path).parent.iterdir():
            assert stat.S_IMODE(name.stat().st_mode) == 0o600
        assert len(os.listdir(Path(path).parent)) == 4


def test_the_mode_of_a_file_that_is_there_stays(path: str) -> None:
    filled(path)
    os.chmod(path, 0o640)
    SQLiteJournal(path, START).close()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_of_two_processes_that_open_a_file_at_once_one_does(path: str) -> None:
    command = [sys.executable, "-c", OPEN, path]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        outputs = []
        for process in processes:
            assert process.stdout is not None
            outputs.append(process.stdout)
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said = sorted(output.readline() for output in outputs)
        assert said == [f"{path}: another process has it open\n", "opened\n"]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    filled(path)


def test_a_process_that_is_killed_leaves_no_lock(path: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "opened\n"]
        with pytest.raises(JournalFileError, match="another process has it open"):
            SQLiteJournal(path, START)
    finally:
        process.kill()
        process.communicate()
    filled(path)


def test_a_database_that_another_program_has_locked_is_told_as_that(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze.journal.file.BUSY_SECONDS", 0)
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalFileError, match="another process has it open"):
            SQLiteJournal(path, START)


@pytest.mark.parametrize("content", [b"1|B\n" * 1_000, b"#", b"SQLite format 3\0" + bytes(200)])
def test_nothing_is_left_beside_a_file_that_is_no_journal(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(JournalFileError, match="not a journal"):
        SQLiteJournal(path, START)
    with pytest.raises(JournalFileError, match="not a journal"):
        SQLiteReader(path)
    assert os.listdir(Path(path).parent) == ["journal"]
    assert Path(path).read_bytes() == content


def test_nothing_is_left_beside_another_database(path: str) -> None:
    change(path, "CREATE TABLE notes (text)")
    with pytest.raises(JournalFileError, match="but not a journal"):
        SQLiteJournal(path, START)
    assert os.listdir(Path(path).parent) == ["journal"]


def test_an_empty_file_becomes_a_journal_but_is_not_read_as_one(path: str) -> None:
    Path(path).touch()
    with pytest.raises(JournalFileError, match="is empty"):
        SQLiteReader(path)
    filled(path)
    with closing(SQLiteReader(path)) as reader:
        assert reader.position() == Position(1, 4)


def test_a_start_that_failed_before_the_tables_were_made_is_made_good(path: str) -> None:
    filled(path)
    tables = ["batch", "snapshot", "chunk", "kept"]
    change(path, "PRAGMA user_version = 0", *[f"DROP TABLE {table}" for table in tables])
    change(path, "PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema")
    filled(path)


def test_a_file_that_is_not_there_is_not_created_by_reading(path: str) -> None:
    with pytest.raises(JournalFileError, match=f"^{path}: No such file"):
        SQLiteReader(path)
    assert not os.path.exists(path)


@pytest.mark.parametrize("name", ["a b", "50%", "what?mode=rw", "über", "#"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    filled(str(tmp_path / name))
    with closing(SQLiteReader(str(tmp_path / name))) as reader:
        assert reader.read(START, 1_000) == events(1, 4)


def test_a_reader_sees_what_is_appended_meanwhile_and_cannot_write(path: str) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        fence = journal.lease()
        with closing(SQLiteReader(path)) as reader:
            for number in range(1, 4):
                journal.append(events(number, number + 1), fence)
                assert reader.read(START, 1_000) == events(1, number + 1)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader._database.execute("DELETE FROM batch")
        journal.append(events(4, 5), fence)
    with closing(SQLiteReader(path)) as reader:
        assert reader.read(START, 1_000) == events(1, 5)


def test_a_journal_is_opened_while_others_read_it(path: str) -> None:
    filled(path)
    with closing(SQLiteReader(path)) as reader:
        assert reader.position() == Position(1, 4)
        with closing(SQLiteJournal(path, START)) as journal:
            journal.append(events(4, 5), journal.lease())
            assert reader.position() == Position(1, 5)
        assert reader.position() == Position(1, 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_locked_its_owner_can_lock(path: str) -> None:
    filled(path)
    os.unlink(f"{path}.lock")
    os.chown(path, 65534, 65533)
    SQLiteJournal(path, START).close()
    with closing(SQLiteReader(path)):
        for name in Path(path).parent.iterdir():
            assert (name.stat().st_uid, name.stat().st_gid) == (65534, 65533)


def test_a_reader_does_not_hold_up_the_log(path: str) -> None:
    """Reading leaves no transaction open, so the log of what was written begins anew."""
    with closing(SQLiteJournal(path, START)) as journal:
        fence = journal.lease()
        with closing(SQLiteReader(path)) as reader:
            for number in range(1, 4):
                journal.append(events(number, number + 1), fence)
                reader.read(START, 1)
                reader.statistics()
                checkpoint = journal._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                assert checkpoint.fetchone() == (0, 0, 0)
