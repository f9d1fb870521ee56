"""Servers in a container that allows them next to nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from end_to_end.peers import until
from end_to_end.running import ROOT, Child
from redis_server import free_port

from .container import NOBODY, contain_servers, processes

FORMS = {
    "one process": (),
    "journal": ("--journal", "/data/journal", "--rejects", "/data/rejects"),
    "edges": ("--edges", "2"),
}


def status_of(pid: int, field: str) -> list[str]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.split()
    raise LookupError(field)


@pytest.mark.parametrize("form", FORMS)
def test_process_1_serves_and_drains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    contain_servers(monkeypatch, tmp_path, "TMPDIR=/data")
    with Child("--log-level", "debug", *FORMS[form]) as server:
        server.ready()
        first = next(processes(server))
        assert status_of(first, "NSpid")[1] == "1"
        assert status_of(first, "Uid") == [str(NOBODY)] * 4
        (client,) = server.clients([7])
        server.source().send(b"2|B\n1|P|3|7\n")
        client.expect(b"1|P|3|7\n2|B\n")
        os.kill(first, signal.SIGTERM)
        client.expect_closed()
        assert server.status() == 0, server.stderr()
        assert server.logged("stopped")


def test_process_1_collects_the_processes_of_an_edge_that_was_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contain_servers(monkeypatch, tmp_path, "TMPDIR=/data")
    with Child("--edges", "2", "--log-level", "debug") as server:
        server.ready()
        first, *children = processes(server)
        os.kill(children[-1], signal.SIGKILL)
        server.await_logged("process_ended")
        until(lambda: len(list(processes(server))) == 4, "the edge to run again")
        states = [status_of(pid, "State")[0] for pid in processes(server)]
        assert "Z" not in states
        os.kill(first, signal.SIGTERM)
        assert server.status() == 0, server.stderr()


def test_process_1_ends_while_it_waits_for_its_ingest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contain_servers(monkeypatch, tmp_path)
    with Child("--role", "edge", "--feed", f"127.0.0.1:{free_port()}") as server:
        server.await_logged("feed_unavailable")
        os.kill(next(processes(server)), signal.SIGTERM)
        assert server.status() == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--edges", "1"),
            "maze: --edges cannot make a temporary folder: No usable temporary directory "
            f"found in ['/tmp', '/var/tmp', '/usr/tmp', '{ROOT}']; set TMPDIR to another folder",
        ),
        (("--journal", "/tmp/journal"), "maze: /tmp/journal: Read-only file system"),
        (
            ("--rejects", "/tmp/rejects"),
            "maze: cannot open /tmp/rejects: Read-only file system; choose another with --rejects",
        ),
    ],
    ids=["edges", "journal", "rejects"],
)
def test_what_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], line: str
) -> None:
    contain_servers(monkeypatch, tmp_path)
    with Child(*options) as server:
        assert server.status() == 1
        assert server.stderr().splitlines()[-1] == line
        assert "Traceback" not in server.stderr()
