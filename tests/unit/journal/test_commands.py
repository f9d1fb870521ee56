"""The commands of ``python -m maze.journal``, in this process."""

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from maze.core import FollowGraph, Position
from maze.journal import maintaining
from maze.journal.__main__ import main
from maze.journal.journal import Batch, Bounds
from maze.journal.reader import SQLiteReader
from maze.journal.sqlite import SQLiteJournal
from maze.journal.state import UNBOUNDED, GraphState

from .files import START, change, events, filled

BOUNDS = Bounds(1, 2, 3)
Run = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command; return its exit status, its output and what it says on stderr."""

    def run(*arguments: str) -> tuple[int, bytes, str]:
        status = main(arguments)
        captured = capfdbinary.readouterr()
        return status, captured.out, captured.err.decode()

    return run


def figures(out: bytes) -> dict[str, str]:
    rows = [line.split(maxsplit=1) for line in out.decode().splitlines() if line[0] != " "]
    return {row[0]: row[1] for row in rows}


# info


def test_info_of_a_new_journal(path: str, run: Run) -> None:
    SQLiteJournal(path, START).close()
    status, out, _ = run("info", path)
    assert status == 0
    shown = figures(out)
    assert shown["format"] == "1"
    assert shown["epoch"] == "1"
    assert shown["first"] == shown["position"] == "1-1"
    assert shown["batches"] == shown["events"] == shown["snapshots"] == "0"
    assert shown["oldest"] == shown["newest"] == "-"


def test_info_beside_the_process_that_writes(path: str, run: Run) -> None:
    with closing(SQLiteJournal(path, START, clock=lambda: 1_000_000_000)) as journal:
        fence = journal.lease()
        journal.append(events(1, 2001), fence)
        journal.put_snapshot(Position(1, 2001), BOUNDS, [b"abc", b"de"], fence)
        journal.append([Batch(5, 1, 1, b"")], fence)
        status, out, _ = run(path, "info")
    assert status == 0
    shown = figures(out)
    assert shown["position"] == "5-1"
    assert (shown["batches"], shown["events"]) == ("2,001", "2,000")
    assert shown["oldest"] == shown["newest"] == "2001-09-09 01:46:40 UTC"
    assert out.decode().splitlines()[-1].split() == [
        *("1-2001,", "2001-09-09", "01:46:40", "UTC,", "5", "bytes")
    ]


# check


def test_check_of_a_whole_file(path: str, run: Run) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        fence = journal.lease()
        journal.append([*events(1, 251), Batch(5, 1, 1, b""), Batch(5, 1, 9, b"")], fence)
        journal.put_snapshot(Position(5, 9), BOUNDS, [b"abc"], fence)
        journal.trim(Position(1, 9), fence)
        assert run("check", path) == (0, b"no faults (batches: 244, snapshots: 1)\n", "")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("DELETE FROM batch WHERE last = 120", "no batch after 1-120; the next is 1-121"),
        ("DELETE FROM batch WHERE last = 1", "no batch after 1-1; the next is 1-2"),
        ("UPDATE batch SET body = X'00' WHERE last = 7", "the checksum of batch 1-8 is wrong"),
        ("UPDATE chunk SET data = NULL", "the checksum of chunk 0 of snapshot 1-251 is wrong"),
        ("DELETE FROM chunk", "chunk 0 of snapshot 1-251 is missing"),
        ("UPDATE snapshot SET chunks = 3", "the checksum of snapshot 1-251 is wrong"),
        (
            "INSERT INTO chunk VALUES (1, 1, 0, X'00')",
            "chunk 1 of snapshot 1-251 is one too many",
        ),
    ],
)
def test_check_tells_each_fault_in_a_line(path: str, run: Run, damage: str, fault: str) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        fence = journal.lease()
        journal.append(events(1, 251), fence)
        journal.put_snapshot(Position(1, 251), BOUNDS, [b"abc"], fence)
    change(path, damage)
    assert run("check", path) == (1, f"{fault}\n".encode(), "")


def test_check_tells_every_fault(path: str, run: Run) -> None:
    filled(path, 9)
    change(
        path, "DELETE FROM batch WHERE last IN (2, 8)", "UPDATE batch SET crc = 1 WHERE last = 5"
    )
    status, out, _ = run("check", path)
    assert status == 1
    assert out.decode().splitlines() == [
        "no batch after 1-2; the next is 1-3",
        "the checksum of batch 1-6 is wrong",
        "no batch after 1-8; the next is 1-9",
    ]


def test_check_of_a_file_with_damaged_pages(path: str, run: Run) -> None:
    filled(path, 3_000)
    content = bytearray(Path(path).read_bytes())
    content[4096 * 7 :] = b"?" * (len(content) - 4096 * 7)
    Path(path).write_bytes(content)
    status, out, _ = run("check", path)
    assert status == 1
    assert b"is damaged" in out


# dump


def test_dump_writes_the_lines_of_the_present_epoch_byte_for_byte(path: str, run: Run) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        batches = [
            *events(1, 4),
            Batch(5, 7, 7, b""),
            Batch(5, 7, 10, b"7|B\r\n009|S|1\n"),
            Batch(5, 10, 11, b"10|B\n"),
        ]
        journal.append(batches, journal.lease())
        assert run("dump", path) == (0, b"7|B\r\n009|S|1\n10|B\n", "")
        assert run("dump", path, "--from", "7") == (0, b"7|B\r\n009|S|1\n10|B\n", "")
        assert run("dump", path, "--from", "8") == (0, b"009|S|1\n10|B\n", "")
        assert run("dump", path, "--from", "10") == (0, b"10|B\n", "")
        assert run("dump", path, "--from", "11") == (0, b"", "")
        for number, words in [("6", "is kept from number 7 on"), ("12", "ends before number 11")]:
            status, out, error = run("dump", path, "--from", number)
            assert (status, out) == (1, b"")
            assert error == f"maze.journal: the present epoch {words}\n"


def test_dump_of_a_journal_whose_first_batches_were_removed(path: str, run: Run) -> None:
    filled(path, 9)
    with closing(SQLiteJournal(path, START)) as journal:
        journal.trim(Position(1, 8), journal.lease())
    assert run("dump", path) == (0, b"8|B\n9|B\n", "")
    assert run("dump", path, "--from", "7")[2].endswith("is kept from number 8 on\n")


def test_dump_reads_more_than_a_piece(path: str, run: Run) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        batches = [
            Batch(1, number, number + 1, (b"%0*d|B\n" % (400_000, number)))
            for number in range(1, 8)
        ]
        journal.append(batches, journal.lease())
    assert run("dump", path) == (0, b"".join(batch.body for batch in batches), "")


# import-follows


def graph_of(path: str) -> FollowGraph:
    graph = FollowGraph()
    with closing(SQLiteReader(path)) as reader:
        snapshot = reader.get_snapshot(pytest.fail)
        assert snapshot is not None
        assert snapshot.position == reader.position()
        assert snapshot.bounds == UNBOUNDED
        GraphState(graph, snapshot.position).load(snapshot)
    return graph


@pytest.mark.parametrize(
    "csv",
    [
        b"1,2\n1,3\n007,0\n",
        b"follower,followed\n1,2\n1,3\n7,0\n",
        b"\xef\xbb\xbffollower,followed\r\n1,2\r\n1,3\r\n7,0",
        b"\xef\xbb\xbf1,2\n1,2\n1,3\n7,0\n",
    ],
)
def test_follows_are_imported(path: str, tmp_path: Path, run: Run, csv: bytes) -> None:
    (tmp_path / "follows.csv").write_bytes(csv)
    status, out, _ = run("import-follows", path, str(tmp_path / "follows.csv"))
    assert status == 0
    assert out.startswith(b"3 follows of 2 users at ")
    graph = graph_of(path)
    assert (graph.users, graph.follows) == (2, 3)
    assert graph.following(1) == {2, 3}
    assert graph.following(7) == {0}


def test_an_import_may_be_repeated_and_says_where_the_journal_begins(
    path: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintaining, "_milliseconds", lambda: 77)
    csv = tmp_path / "follows.csv"
    for line in ("1,2", "1,3"):
        csv.write_text(f"{line}\n")
        status, out, _ = run("import-follows", path, str(csv), "--first-sequence", "5")
        assert (status, out) == (0, b"1 follows of 1 users at 77-5\n")
    assert graph_of(path).following(1) == {3}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"1", "'1'"),
        (b"1,2,3", "'1,2,3'"),
        (b"1;2", "'1;2'"),
        (b"-1,2", "'-1,2'"),
        (b"1, 2", "'1, 2'"),
        (b"", "''"),
        (b"9223372036854775808,1", "'9223372036854775808,1'"),
        (b"follower,followed", "'follower,followed'"),
        (b"\xff" * 90, "'" + "\\\\xff" * 60 + "'"),
    ],
)
def test_a_wrong_line_is_told_and_nothing_is_created(
    path: str, tmp_path: Path, run: Run, line: bytes, shown: str
) -> None:
    csv = tmp_path / "follows.csv"
    csv.write_bytes(b"follower,followed\n1,2\n" + line + b"\n3,4\n")
    status, out, error = run("import-follows", path, str(csv))
    expected = f'{csv}, line 3: expected "follower,followed", two user ids, not {shown}'
    assert (status, out, error) == (1, b"", f"maze.journal: {expected}\n")
    assert os.listdir(tmp_path) == ["follows.csv"]


def test_a_file_of_follows_that_is_not_there_is_one_line(path: str, run: Run) -> None:
    error = run("import-follows", path, "/no/such/file")[2]
    assert error == "maze.journal: /no/such/file: No such file or directory\n"
    assert not os.path.exists(path)


def test_nothing_is_imported_into_a_journal_with_batches(
    path: str, tmp_path: Path, run: Run
) -> None:
    filled(path)
    (tmp_path / "follows.csv").write_text("1,2\n")
    status, _, error = run("import-follows", path, str(tmp_path / "follows.csv"))
    assert status == 1
    assert error == f"maze.journal: {path} has batches already: import into a new journal\n"
    with closing(SQLiteReader(path)) as reader:
        assert reader.get_snapshot(pytest.fail) is None


# compact and reset


def test_compact_makes_the_file_smaller(path: str, run: Run) -> None:
    with closing(SQLiteJournal(path, START)) as journal:
        fence = journal.lease()
        batches = [Batch(1, number, number + 1, bytes(50_000)) for number in range(1, 40)]
        journal.append(batches, fence)
        for _ in range(3):
            journal.put_snapshot(Position(1, 40), BOUNDS, [bytes(90_000)], fence)
        journal.begin_snapshot(Position(1, 40), BOUNDS, fence).add(bytes(90_000))
        journal.trim(Position(1, 39), fence)
        kept = journal.read(Position(1, 39), 10**9)
    before = os.path.getsize(path)
    status, out, _ = run("compact", path)
    after = os.path.getsize(path)
    assert (status, out.decode()) == (0, f"{before:,} bytes before, {after:,} bytes now\n")
    assert after < 300_000 < before
    with closing(SQLiteReader(path)) as reader:
        assert reader.read(Position(1, 39), 10**9) == kept
        assert reader.get_snapshot(pytest.fail) is not None
    assert run("check", path)[0] == 0


def test_reset_begins_an_epoch(path: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    monkeypatch.setattr(maintaining, "_milliseconds", lambda: 77)
    assert run("reset", path) == (0, b"a new epoch begins at 77-1\n", "")
    assert run("reset", path, "--first-sequence", "0")[1] == b"a new epoch begins at 78-0\n"
    with closing(SQLiteReader(path)) as reader:
        assert reader.position() == Position(78, 0)
        assert reader.read(Position(1, 4), 1_000) == [Batch(77, 1, 1, b""), Batch(78, 0, 0, b"")]
    assert run("dump", path) == (0, b"", "")


# Files and usage


@pytest.mark.parametrize("command", ["info", "check", "dump", "compact", "reset"])
@pytest.mark.parametrize("kind", ["none", "text", "database", "newer", "folder"])
def test_a_wrong_file_is_one_line(path: str, run: Run, command: str, kind: str) -> None:
    if kind == "text":
        Path(path).write_bytes(b"1|B\n")
    elif kind == "database":
        change(path, "CREATE TABLE notes (text)")
    elif kind == "newer":
        filled(path)
        change(path, "PRAGMA user_version = 99")
    elif kind == "folder":
        os.mkdir(path)
    status, out, error = run(command, path)
    assert (status, out) == (1, b"")
    assert error.startswith(f"maze.journal: {path}")
    assert error.count("\n") == 1
    assert os.path.exists(path) == (kind != "none")


@pytest.mark.parametrize("command", [["compact"], ["reset"], ["import-follows"]])
def test_commands_that_write_are_refused_while_the_file_is_open(
    path: str, tmp_path: Path, run: Run, command: list[str]
) -> None:
    csv = tmp_path / "follows.csv"
    csv.write_text("1,2\n")
    arguments = [*command, path, *([str(csv)] if command == ["import-follows"] else [])]
    with closing(SQLiteJournal(path, START)) as journal:
        expected = (1, b"", f"maze.journal: {path}: another process has it open\n")
        assert run(*arguments) == expected
        journal.append(events(1, 2), journal.lease())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["info"],
        ["FILE"],
        ["inspect", "FILE"],
        ["dump", "FILE", "--from", "-1"],
        ["dump", "FILE", "--from", "9223372036854775808"],
        ["dump", "FILE", "--fr", "1"],
        ["import-follows", "FILE"],
        ["reset", "FILE", "--first-sequence", "x"],
    ],
)
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: python -m maze.journal" in capsys.readouterr().err


def test_the_help_shows_every_command_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    for command in ("info", "check", "dump", "import-follows", "compact", "reset"):
        assert re.search(rf"^    {command}\s", text, re.MULTILINE)
    assert "python -m maze.journal JOURNAL info" in text


def test_sqlite_s_own_check_finds_nothing_in_what_the_commands_wrote(path: str, run: Run) -> None:
    filled(path)
    for command in ("reset", "compact"):
        assert run(command, path)[0] == 0
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("url", ["redis:/u:secret@h", "//u:secret@h", "u:secret@h"])
def test_a_mistyped_url_is_not_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["check", url], ["compact", url], ["copy", "file", url]):
        if url.startswith("u:") and arguments[0] != "copy":
            continue  # it may be a file
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert "(not shown)" in error
        assert "secret" not in error
