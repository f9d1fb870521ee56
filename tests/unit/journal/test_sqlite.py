"""A journal's file: who may open it, what damage is found, and what outlives the process."""

import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maze.core import Position
from maze.journal.file import FORMAT
from maze.journal.journal import Batch, JournalFileError, OtherEpochError, UnavailableError
from maze.journal.reader import SQLiteReader
from maze.journal.rows import Row
from maze.journal.sqlite import SQLiteJournal

from .files import change, events, filled

START = Position(1, 1)
LONG = 20.0
"""Maximum seconds to wait for another thread."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def test_what_was_appended_outlives_the_journal(path: str) -> None:
    filled(path)
    journal = SQLiteJournal(path, Position(9, 9))
    assert journal.position() == Position(1, 4)
    bodies = [batch.body for batch in journal.read(START, 1_000)]
    assert bodies == [b"1|B\n", b"2|B\n", b"3|B\n"]
    journal.close()


def test_a_process_killed_while_it_moves_the_log_into_the_file_loses_nothing(path: str) -> None:
    """Then some pages of the file are new, others old; the log has all that are new."""
    file, log = Path(path), Path(path + "-wal")
    journal = SQLiteJournal(path, START)
    fence = journal.lease()
    body = bytes(3_000)
    for number in range(1, 21):
        journal.append([Batch(1, number, number + 1, body)], fence)
    new_log, old_file = log.read_bytes(), file.read_bytes()
    journal.close()
    first_page = file.read_bytes()[:4096]
    file.write_bytes(first_page + old_file[4096:])
    log.write_bytes(new_log)
    journal = SQLiteJournal(path, START)
    assert journal.position() == Position(1, 21)
    journal.close()


def test_close_waits_for_a_read_in_another_thread(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may be resuming when the server stops: one thread reads while another closes."""
    filled(path)
    reader = SQLiteReader(path)
    reads, may_end = threading.Event(), threading.Event()

    find_row = reader._row

    def pausing(query: str, values: Sequence[object] = ()) -> Row:
        reads.set()
        may_end.wait(LONG)
        return find_row(query, values)

    monkeypatch.setattr(reader, "_row", pausing)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(reader.read, START, 1_000)
        reads.wait(LONG)
        closed = pool.submit(reader.close)
        with pytest.raises(TimeoutError):
            closed.result(0.05)
        may_end.set()
        closed.result(LONG)
        assert len(read.result(LONG)) == 3
    with pytest.raises(UnavailableError, match="its reader is closed"):
        reader.read(START, 1_000)


def test_what_was_fenced_stays_fenced(path: str) -> None:
    journal = SQLiteJournal(path, START)
    first = journal.lease()
    journal.close()
    journal = SQLiteJournal(path, START)
    assert journal.lease() > first
    journal.close()


def test_an_append_that_fails_changes_nothing(path: str) -> None:
    filled(path)
    journal = SQLiteJournal(path, START)
    good, unfit = Batch(1, 4, 5, b"4|B\n"), Batch(1, 5, 2**63 + 7, b"")
    with pytest.raises(struct.error):
        journal.append([good, unfit], journal.lease())
    assert journal.position() == Position(1, 4)
    journal.close()


def test_a_file_is_opened_once(path: str) -> None:
    journal = SQLiteJournal(path, START)
    with pytest.raises(JournalFileError, match="another process has it open"):
        SQLiteJournal(path, START)
    journal.close()


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (("PRAGMA application_id = 1",), "not a journal"),
        ((f"PRAGMA user_version = {FORMAT + 1}",), f"has format {FORMAT + 1}"),
    ],
)
def test_a_file_that_is_no_journal_of_this_format_is_left_alone(
    path: str, statements: tuple[str, ...], message: str
) -> None:
    filled(path)
    change(path, *statements)
    before = Path(path).read_bytes()
    with pytest.raises(JournalFileError, match=message):
        SQLiteJournal(path, START)
    assert Path(path).read_bytes() == before


def test_another_database_is_left_alone(path: str) -> None:
    change(path, "CREATE TABLE notes (text)")
    with pytest.raises(JournalFileError, match="not a journal"):
        SQLiteJournal(path, START)


def test_a_file_that_is_no_database_is_left_alone(path: str) -> None:
    Path(path).write_bytes(b"1|B\n" * 1_000)
    with pytest.raises(JournalFileError, match="not a database"):
        SQLiteJournal(path, START)
    assert Path(path).read_bytes() == b"1|B\n" * 1_000


@pytest.mark.parametrize("body", ["X'327C58'", "'2|B'", "NULL"])
def test_a_damaged_batch_is_never_read(path: str, body: str) -> None:
    filled(path)
    change(path, f"UPDATE batch SET body = {body} WHERE first = 2")
    journal = SQLiteJournal(path, START)
    assert [batch.first for batch in journal.read(Position(1, 3), 1_000)] == [3]
    with pytest.raises(JournalFileError, match="is damaged: the checksum of batch 1-3 is wrong"):
        journal.read(START, 1_000)
    journal.close()


def test_the_largest_numbers_are_kept(path: str) -> None:
    largest = 2**63 - 1
    journal = SQLiteJournal(path, Position(1, largest - 1))
    batch = Batch(1, largest - 1, largest + 1, b"%d|B\n" % largest)
    assert journal.append([batch], journal.lease()) == Position(1, 2**63)
    assert journal.read(Position(1, largest), 1_000) == [batch]
    journal.close()


def test_a_symbolic_link_stands_for_the_file_that_it_names(path: str, tmp_path: Path) -> None:
    filled(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    journal = SQLiteJournal(str(link), START)
    assert journal.position() == Position(1, 4)
    with pytest.raises(JournalFileError, match="another process has it open"):
        SQLiteJournal(path, START)
    journal.append(events(4, 5), journal.lease())
    journal.close()
    assert not (tmp_path / "link.lock").exists()


def test_a_file_with_two_names_is_refused(path: str, tmp_path: Path) -> None:
    """Each name would have a lock and a log of its own."""
    filled(path)
    other = tmp_path / "other"
    other.hardlink_to(path)
    for name in (path, str(other)):
        with pytest.raises(JournalFileError, match="has 2 names"):
            SQLiteJournal(name, START)
    other.unlink()
    SQLiteJournal(path, START).close()


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "No such file or directory"), ("", "is not a file")]
)
def test_a_reader_says_what_is_not_there(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(JournalFileError, match=reason):
        SQLiteReader(str(tmp_path / name))


@pytest.mark.parametrize("number", [2**63, 2**63 + 1, 2**64 - 1])
def test_no_batch_ends_behind_the_largest_number(path: str, number: int) -> None:
    journal = SQLiteJournal(path, Position(1, 1))
    lines = Batch(1, 1, 2, b"1|B\n")
    journal.append([lines, Batch(2, 1, 1, b"")], journal.lease())
    with pytest.raises(OtherEpochError):
        journal.read(Position(1, number), 100)
    journal.close()
