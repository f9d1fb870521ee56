"""The Redis servers of tests leave nothing behind."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.peers import PATIENCE, until
from redis_server import RedisServer, free_port, program, running

pytestmark = pytest.mark.realtime

TESTS = Path(__file__).parent


def is_serving(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


def test_a_server_keeps_its_data_when_it_is_killed() -> None:
    with running() as server:
        server.command("SET", "key", "value")
        server.kill()
        server.start()
        assert server.command("GET", "key") == b"$5\r\nvalue\r\n"
        folder = server.folder
    assert not is_serving(server.path)
    assert not folder.exists()


def test_a_server_ends_with_the_tests_even_if_they_are_killed() -> None:
    program()  # skips the test without one
    code = "from redis_server import *; s = RedisServer(); print(s.path, flush=True); input()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as tests:
        assert tests.stdout
        path = tests.stdout.readline().decode().strip()
        assert is_serving(path)
        tests.kill()
        tests.wait(PATIENCE)
    until(lambda: not is_serving(path), "the server to end")
    for file in sorted(Path(path).parent.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    Path(path).parent.rmdir()


def test_without_the_program_tests_are_skipped_but_not_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="redis-server is not installed"):
        RedisServer()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="redis-server is not installed"):
        RedisServer()


def test_no_port_is_returned_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    drawn = iter([first, first, *range(20_000, 21_000)])
    monkeypatch.setattr(random, "randrange", lambda *_: next(drawn))
    assert free_port() != first
