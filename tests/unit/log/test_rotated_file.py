"""A file of lines that is renamed, removed, cut short, full, or no file at all."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maze.log.rotated_file import Place, RotatedFile

LINE = b"0123456789abcde\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines"


def rotated(path: Path, size: int = 1 << 20, files: int = 3) -> RotatedFile:
    return RotatedFile(str(path), size, files)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let no file of this process become larger, as on a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_blocks_are_appended_to_what_is_there(path: Path) -> None:
    path.write_bytes(b"before\n")
    file = rotated(path)
    file.append(b"1\n2\n")
    file.append(b"")
    file.append(b"3\n")
    assert path.read_bytes() == b"before\n1\n2\n3\n"
    assert file.find() is Place.SAME


def test_others_may_not_read_a_new_file(path: Path) -> None:
    rotated(path)
    assert path.stat().st_mode & 0o007 == 0


def test_a_closed_file_is_opened_again_by_the_next_block(path: Path) -> None:
    file = rotated(path)
    file.close()
    file.close()
    assert file.find() is Place.SAME
    file.append(LINE)
    assert path.read_bytes() == LINE


# Other programs.


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_renamed_file_gets_lines_until_the_path_is_opened(path: Path, is_replaced: bool) -> None:
    file, renamed = rotated(path), path.with_suffix(".1")
    path.rename(renamed)
    if is_replaced:
        path.write_bytes(b"")
    assert file.find() is Place.RENAMED
    file.append(b"1\n")
    file.open()
    file.append(b"2\n")
    assert (renamed.read_bytes(), path.read_bytes()) == (b"1\n", b"2\n")
    assert file.find() is Place.SAME


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_removed_file_gets_no_further_line(path: Path, is_replaced: bool) -> None:
    file = rotated(path)
    path.unlink()
    if is_replaced:
        path.write_bytes(b"")
    assert file.find() is Place.REMOVED
    assert file.find() is Place.SAME
    file.append(LINE)
    assert path.read_bytes() == LINE


def test_a_path_that_cannot_be_opened_leaves_the_file_as_it_is(path: Path) -> None:
    file, renamed = rotated(path), path.with_suffix(".1")
    path.rename(renamed)
    path.mkdir()
    assert file.find() is Place.RENAMED
    with pytest.raises(IsADirectoryError):
        file.open()
    file.append(LINE)
    assert renamed.read_bytes() == LINE


def test_a_file_that_was_cut_short_is_continued_at_its_new_end(path: Path) -> None:
    file = rotated(path, size=4 * len(LINE))
    file.append(3 * LINE)
    os.truncate(path, 0)
    assert not file.has_room(2 * len(LINE))
    assert file.find() is Place.SAME
    assert file.has_room(2 * len(LINE))
    file.append(2 * LINE)
    assert path.read_bytes() == 2 * LINE
    assert not path.with_name("lines.1").exists()


# Full files.


def test_a_full_file_is_renamed_and_the_oldest_is_lost(path: Path) -> None:
    file = rotated(path, size=2 * len(LINE), files=3)
    for number in range(7):
        file.append(b"%15d\n" % number)
    kept = [path.with_name(name) for name in ("lines.2", "lines.1", "lines")]
    assert sorted(path.parent.iterdir()) == sorted(kept)
    assert [list(map(int, each.read_text().split())) for each in kept] == [[2, 3], [4, 5], [6]]


def test_a_block_larger_than_a_file_gets_a_file_of_its_own(path: Path) -> None:
    file = rotated(path, size=10, files=2)
    file.append(LINE)
    assert os.listdir(path.parent) == ["lines"]
    file.append(2 * LINE)
    assert path.read_bytes() == 2 * LINE
    assert path.with_name("lines.1").read_bytes() == LINE


def test_no_file_of_another_program_is_renamed(path: Path) -> None:
    file = rotated(path, size=len(LINE))
    file.append(LINE)
    path.rename(path.with_name("elsewhere"))
    path.write_bytes(b"")
    assert file.find() is Place.RENAMED
    file.append(LINE)
    assert path.read_bytes() == LINE
    assert sorted(os.listdir(path.parent)) == ["elsewhere", "lines"]


def test_a_file_that_cannot_be_renamed_fails_until_it_can(path: Path) -> None:
    file = rotated(path, size=len(LINE), files=2)
    file.append(LINE)
    hindrance = path.with_name("lines.1")
    hindrance.mkdir()
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            file.append(LINE)
    hindrance.rmdir()
    file.append(b"1\n")
    assert (path.read_bytes(), hindrance.read_bytes()) == (b"1\n", LINE)


# Blocks that cannot be written.


def test_a_block_that_does_not_fit_on_the_disk_leaves_nothing(path: Path) -> None:
    file = rotated(path)
    file.append(LINE)
    with files_limited_to(2 * len(LINE) + 5):
        with pytest.raises(OSError, match="File too large"):
            file.append(4 * LINE)
        assert path.read_bytes() == LINE
        file.append(LINE)
    file.append(LINE)
    assert path.read_bytes() == 3 * LINE


def test_nothing_but_the_block_is_taken_back_from_a_file_that_was_cut_short(path: Path) -> None:
    file = rotated(path)
    file.append(10 * LINE)
    os.truncate(path, len(LINE))
    with files_limited_to(2 * len(LINE) + 5), pytest.raises(OSError, match="File too large"):
        file.append(4 * LINE)
    assert path.read_bytes() == LINE


def test_a_pipe_that_was_full_gets_the_rest_of_a_line_first(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file, taken = rotated(path, size=10), b""
    lines = [b"%05d" % number + b"x" * 4_990 + b"\n" for number in range(100)]
    failures = 0
    for line in lines:
        try:
            file.append(line)
        except BlockingIOError:
            failures += 1
            if failures == 1:  # still full: nothing of this line is written
                with pytest.raises(BlockingIOError):
                    file.append(line)
            taken += os.read(reader, 1 << 20)
    taken += os.read(reader, 1 << 20)
    os.close(reader)
    assert failures
    assert set(taken.splitlines(keepends=True)) <= set(lines)
    with pytest.raises(BrokenPipeError):
        file.append(LINE)
    assert os.listdir(path.parent) == ["lines"]  # a pipe is never full


def test_a_pipe_takes_whole_lines_of_a_block_and_no_line_twice(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = rotated(path)
    with pytest.raises(BlockingIOError):
        file.append(10_000 * LINE)
    taken = os.read(reader, 1 << 20)
    file.append(LINE)
    taken += os.read(reader, 1 << 20)
    os.close(reader)
    assert set(taken.splitlines(keepends=True)) == {LINE}


def test_the_next_reader_of_a_pipe_gets_whole_lines_too(path: Path) -> None:
    """A pipe keeps what it holds as long as it is open."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file, line = rotated(path), 100_000 * b"x" + b"\n"
    with pytest.raises(BlockingIOError):
        file.append(line)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        file.append(LINE)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    taken = os.read(reader, 1 << 20)
    file.append(LINE)
    taken += os.read(reader, 1 << 20)
    os.close(reader)
    assert taken == line + LINE


def test_a_full_device_takes_nothing_and_is_never_renamed() -> None:
    file = rotated(Path("/dev/full"), size=1)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            file.append(LINE)
    assert file.find() is Place.SAME
