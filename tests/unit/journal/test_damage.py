"""A damaged file: what is found, how it is reported, and that a snapshot is passed over."""

from contextlib import closing
from pathlib import Path

import pytest

from maze.core import Position
from maze.journal.journal import Batch, Bounds, JournalFileError, NoSnapshotError, Snapshot
from maze.journal.reader import SQLiteReader
from maze.journal.sqlite import SQLiteJournal

from .files import START, change, events, filled

BOUNDS = Bounds(1, 2, 3)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def test_a_missing_batch_is_found(path: str) -> None:
    filled(path, 5)
    change(path, "DELETE FROM batch WHERE first = 3")
    with closing(SQLiteReader(path)) as reader:
        for after in (START, Position(1, 3)):
            with pytest.raises(JournalFileError, match="no batch after 1-3; the next is 1-4"):
                reader.read(after, 1_000)
        assert reader.read(Position(1, 4), 1_000) == events(4, 6)


def test_the_first_batch_that_is_missing_is_found(path: str) -> None:
    filled(path)
    change(path, "DELETE FROM batch WHERE first = 1")
    with closing(SQLiteReader(path)) as reader, pytest.raises(JournalFileError, match="after 1-1"):
        reader.read(START, 1_000)


@pytest.mark.parametrize("value", ["7", "'text'", "NULL", "X'00'"])
@pytest.mark.parametrize("column", ["first", "committed", "max_users", "unchanged", "crc", "body"])
def test_whatever_changed_in_the_newest_batch_the_file_is_not_opened(
    path: str, column: str, value: str
) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        journal.append([*events(1, 3), Batch(1, 3, 4, b"3|B\n", BOUNDS, b"m")], journal.lease())
    change(path, f"UPDATE batch SET {column} = {value} WHERE last = 3")
    before = Path(path).read_bytes()
    with pytest.raises(JournalFileError, match="checksum of batch 1-4 is wrong"):
        SQLiteJournal(path, START)
    assert Path(path).read_bytes() == before


def test_a_damaged_page_is_told_with_the_name_of_the_file(path: str) -> None:
    filled(path, 3_000)
    page = 4096
    content = bytearray(Path(path).read_bytes())
    for start in range(page * 5, len(content), page):
        content[start : start + page] = b"?" * page
    Path(path).write_bytes(content)
    with (
        pytest.raises(JournalFileError, match=f"^{path} is damaged: .*malformed"),
        closing(SQLiteJournal(path, START)) as journal,
    ):
        journal.read(START, 10**9)
    assert Path(path).read_bytes() == content


def with_snapshots(path: str) -> None:
    """Write a file with two snapshots of two chunks."""
    with closing(SQLiteJournal(path, START)) as journal:
        fence = journal.lease()
        for number in (1, 2):
            journal.append(events(number, number + 1), fence)
            journal.put_snapshot(journal.position(), BOUNDS, [b"a", b"%d" % number], fence)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE chunk SET data = X'00' WHERE snapshot = 2 AND place = 1",
        "UPDATE chunk SET data = 'a' WHERE snapshot = 2 AND place = 0",
        "UPDATE chunk SET crc = NULL WHERE snapshot = 2 AND place = 0",
        "DELETE FROM chunk WHERE snapshot = 2 AND place = 0",
        "DELETE FROM chunk WHERE snapshot = 2 AND place = 1",
        "INSERT INTO chunk VALUES (2, 2, 0, X'00')",
        "UPDATE snapshot SET chunks = 1 WHERE number = 2",
        "UPDATE snapshot SET max_users = 'many' WHERE number = 2",
        "UPDATE snapshot SET max_follows = 9 WHERE number = 2",
        "UPDATE snapshot SET last = 9 WHERE number = 2",
    ],
)
def test_a_damaged_snapshot_is_passed_over_for_the_older_one(path: str, damage: str) -> None:
    with_snapshots(path)
    change(path, damage)
    reports: list[str] = []
    with closing(SQLiteReader(path)) as reader:
        expected = Snapshot(Position(1, 2), BOUNDS, [b"a", b"1"])
        assert reader.get_snapshot(reports.append) == expected
    (report,) = reports
    assert report.startswith(f"{path}: the snapshot 1-")
    assert report.endswith(" is damaged")


@pytest.mark.parametrize("trimmed", [False, True])
def test_without_a_whole_snapshot_all_batches_are_needed(path: str, trimmed: bool) -> None:
    with_snapshots(path)
    if trimmed:
        with closing(SQLiteJournal(path, START)) as journal:
            journal.trim(Position(1, 2), journal.lease())
    change(path, "UPDATE chunk SET data = X'00'")
    reports: list[str] = []
    with closing(SQLiteReader(path)) as reader:
        if trimmed:
            with pytest.raises(NoSnapshotError):
                reader.get_snapshot(reports.append)
        else:
            assert reader.get_snapshot(reports.append) is None
    assert len(reports) == 2


def test_an_imported_graph_that_is_damaged_is_not_taken_for_an_empty_one(path: str) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        journal.put_snapshot(START, BOUNDS, [b"follows"], journal.lease())
    change(path, "UPDATE chunk SET data = X'00'")
    with closing(SQLiteReader(path)) as reader, pytest.raises(NoSnapshotError):
        reader.get_snapshot(lambda report: None)
