"""Listening on a Unix socket: the file of one that was left is replaced, and nothing else is."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from maze.net.unix_socket import SocketFile, unix_listener


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "feed")


def left_behind(path: str) -> None:
    """Leave the file of a socket on which nobody listens."""
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(path)


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)


def test_only_the_owner_may_connect(path: str) -> None:
    umask = os.umask(0o022)
    try:
        with unix_listener(path, 5):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            connect(path)
        assert os.umask(0o022) == 0o022  # as it was
    finally:
        os.umask(umask)


def test_a_file_that_a_process_left_is_replaced(path: str) -> None:
    left_behind(path)
    with unix_listener(path, 5):
        connect(path)


def test_a_path_on_which_a_process_listens_is_in_use(path: str) -> None:
    with unix_listener(path, 5):
        with pytest.raises(OSError, match="in use") as error:
            unix_listener(path, 5)
        assert error.value.errno == errno.EADDRINUSE
        connect(path)


def test_a_file_that_is_no_socket_is_left_alone(path: str) -> None:
    """Linux answers ECONNREFUSED to a connection to any file, as to a socket that was left."""
    Path(path).write_text("precious")
    with pytest.raises(OSError, match="in use") as error:
        unix_listener(path, 5)
    assert error.value.errno == errno.EADDRINUSE
    assert Path(path).read_text() == "precious"


def test_a_link_to_a_file_is_left_alone(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    os.symlink(tmp_path / "file", path)
    with pytest.raises(OSError, match="in use"):
        unix_listener(path, 5)
    assert Path(path).read_text() == "precious"


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unix_listener(str(tmp_path / "missing" / "feed"), 5)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="path too long"):
        unix_listener(str(tmp_path / ("n" * 108)), 5)


def test_the_file_is_removed_by_whoever_has_made_it(path: str) -> None:
    file = SocketFile(path)
    with file.listen(5):
        SocketFile(path).remove()
        connect(path)
        file.remove()
        assert not os.path.lexists(path)
        file.remove()


def test_a_file_that_another_has_put_there_stays(path: str) -> None:
    file = SocketFile(path)
    with file.listen(5):
        os.rename(path, path + ".old")  # so that its number is not used again
        left_behind(path)
        file.remove()
    assert os.path.lexists(path)
