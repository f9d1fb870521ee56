"""The server as a process: options, the log, ports, exit statuses."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from .peers import PATIENCE, broadcasts, joined
from .running import ROOT, Child

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize(
    ("module", "name", "missing"),
    [
        ("maze.serve", "maze", "gevent"),
        ("maze.journal", "maze.journal", "sortedcontainers"),
        ("simulator", "simulator", "rich"),
    ],
)
def test_outside_the_environment_one_line_says_what_is_missing(
    module: str, name: str, missing: str
) -> None:
    command = [sys.executable, "-S", "-m", module]  # without site-packages
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"{name}: {missing} is not installed for {sys.executable}: use ")


def test_process_serves_and_logs_its_ports() -> None:
    with Child("--log-level", "debug").ready() as child:
        one, two = child.clients([1, 2])
        source = child.source()
        source.send(b"2|B\n1|F|1|2\r\n")
        two.expect(b"1|F|1|2\r\n2|B\n")
        one.expect(b"2|B\n")
        child.signal(signal.SIGTERM)
        assert child.status() == 0
        assert child.logged("stopped")


def test_debug_level_from_the_environment() -> None:
    with Child(environment={"LOG_LEVEL": "debug"}).ready() as child:
        child.client(7)
        child.await_logged("session_opened")
        assert child.logged("session_opened")[0]["user"] == 7
        child.signal(signal.SIGTERM)
        assert child.status() == 0


def test_info_level_is_the_default() -> None:
    with Child().ready() as child:
        client, source = child.client(7), child.source()
        source.send(b"x\n1|X\n")
        source.close()
        child.await_logged("source_disconnected")
        child.signal(signal.SIGTERM)
        client.expect_closed()
        assert child.status() == 0
        assert {line["reason"] for line in child.logged("line_rejected")} == {
            "bad_sequence",
            "bad_type",
        }
        assert not child.logged("session_opened")


def test_variable_of_no_option_is_logged() -> None:
    environment = {"MAZE_SOURCE_PRT": "7000", "MAZE_PURE": ""}
    with Child(environment=environment).ready() as child:
        (line,) = child.logged("variable_unknown")
        assert (line["level"], line["variable"]) == ("warning", "MAZE_SOURCE_PRT")
        assert line["hint"] == "did you mean MAZE_SOURCE_PORT? see --help"


def test_variables_that_kubernetes_makes_for_a_service_do_not_prevent_a_start() -> None:
    address = "tcp://10.0.0.7:9099"
    environment = {
        **{"MAZE_CLIENT_PORT": address, "MAZE_CLIENT_PORT_9099_TCP": address},
        "MAZE_CLIENT_SERVICE_HOST": "10.0.0.7",
    }
    with Child(environment=environment).ready() as child:
        (line,) = child.logged("variable_ignored")
        assert (line["level"], line["variable"]) == ("warning", "MAZE_CLIENT_PORT")
        assert line["value"] == address
        assert "enableServiceLinks" in line["why"]
        assert not child.logged("variable_unknown")


OF_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""An environment in which Python's default encoding is ASCII."""


def test_the_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    config, rejects = tmp_path / "maze.toml", tmp_path / "zurückgewiesen.jsonl"
    config.write_text(f'# Größe\nrejects = "{rejects}"\n', encoding="utf-8")
    with Child("--config", str(config), environment=OF_ASCII).ready() as child:
        child.source().send(b"x\n")
        child.await_logged("line_rejected")
        child.signal(signal.SIGTERM)
        assert child.status() == 0
    assert rejects.read_bytes()


def checked(
    *arguments: str, redirections: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the server with ``--check-config`` until it ends; a shell may redirect its output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAZE_")}
    program = [sys.executable, "-m", "maze.serve", "--check-config", *arguments]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *program],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_check_prints_the_options_with_their_origin_and_opens_nothing(tmp_path: Path) -> None:
    config, journal = tmp_path / "maze.toml", tmp_path / "journal"
    config.write_text(f'backlog = 7\njournal = "{journal}"\nadmin-token = "{"s" * 16}"\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = checked("--source-port", port, "--config", str(config), MAZE_CLIENT_PORT="7")
        same = checked("--source-port", port, "--config", str(config), MAZE_CLIENT_PORT=port)
    assert (run.returncode, run.stderr) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in run.stdout.splitlines()}
    assert rows["--source-port"] == [port, "command line"]
    assert rows["--client-port"] == ["7", "environment variable MAZE_CLIENT_PORT"]
    assert rows["--backlog"] == ["7", f"file {config}"]
    assert rows["--admin-token"] == ["(set)", f"file {config}"]
    assert rows["--peer-timeout"] == ["45s", "default"]
    assert list(tmp_path.iterdir()) == [config]
    assert same.returncode == 2
    assert same.stdout == ""
    assert "choose different ports" in same.stderr


def test_a_check_says_what_is_wrong() -> None:
    for wrong in (["--backlog", "0"], ["--role", "edge"], ["--rejects", "/nope/file"]):
        run = checked(*wrong)
        assert (run.returncode, run.stdout) == (2, "")
        (line,) = run.stderr.splitlines()
        assert line.startswith("maze: ")
        assert wrong[0] in line


def test_a_check_names_the_variables_that_are_not_read() -> None:
    run = checked(MAZE_SOURCE_PRT="1", MAZE_CLIENT_PORT="tcp://10.0.0.7:9090")
    assert run.returncode == 0
    unknown, ignored = run.stderr.splitlines()
    assert "MAZE_SOURCE_PRT; did you mean MAZE_SOURCE_PORT?" in unknown
    assert "MAZE_CLIENT_PORT=tcp://10.0.0.7:9090 is ignored" in ignored


def test_a_check_prints_what_the_locale_lacks() -> None:
    run = checked("--rejects", "/tmp/größe", **OF_ASCII)
    assert (run.returncode, run.stderr) == (0, "")
    assert "/tmp/gr" in run.stdout


@pytest.mark.parametrize("redirections", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 0), (["--backlog", "0"], 2), (["--role", "edge"], 2)],
)
def test_a_check_has_its_status_even_if_it_cannot_be_told(
    arguments: list[str], status: int, redirections: str
) -> None:
    run = checked(*arguments, redirections=redirections, MAZE_SOURCE_PRT="1")
    assert run.returncode == status
    assert "Traceback" not in run.stderr
    assert (run.stdout == "") == (status != 0 or ">&-" in redirections.split())


def test_a_check_whose_output_cannot_be_written_fails() -> None:
    run = checked(redirections=">/dev/full")
    assert (run.returncode, run.stderr) == (1, "maze: cannot write: No space left on device\n")


INTERRUPTED = """
import os, signal
from maze import serve
serve.read_options = lambda _: os.kill(os.getpid(), signal.SIGINT)
serve.main()
"""


def test_interrupt_before_the_server_listens_prints_no_traceback() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert (run.returncode, run.stderr) == (-signal.SIGINT, b"")


def test_option_from_the_environment_is_used() -> None:
    environment = {"MAZE_FIRST_SEQUENCE": "5", "MAZE_LOG_LEVEL": "debug"}
    with Child(environment=environment).ready() as child:
        (client,) = child.clients([1])
        child.source().send(b"4|B\n6|B\n5|B\n")
        client.expect(b"5|B\n6|B\n")


@pytest.mark.parametrize("port", ["source", "client"])
@pytest.mark.parametrize("admin", ["0", "free"])
def test_address_in_use_is_one_clear_line_and_status_1(port: str, admin: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ports = (number, 0) if port == "source" else (0, number)
        with Child("--admin-port", admin, ports=ports) as child:
            assert child.status() == 1
            (line,) = child.stderr().splitlines()
            assert f"port {number}" in line
            assert "in use" in line
            assert f"--{port}-port" in line


def test_host_that_cannot_be_resolved_is_one_clear_line_and_status_1() -> None:
    with Child("--client-host", "no-such-host.invalid") as child:
        assert child.status() == 1
        (line,) = child.stderr().splitlines()
        assert "no-such-host.invalid" in line
        assert "--client-host" in line


@pytest.mark.parametrize("role", [["--role", "edge"], ["--role", "ingest"], ["--edges", "1"]])
def test_journal_certificate_that_cannot_be_read_is_one_clear_line_and_status_1(
    role: list[str],
) -> None:
    journal = ["--journal", "rediss://127.0.0.1:1", "--journal-tls-ca", "/no/such.pem"]
    with Child(*role, *journal) as child:
        assert child.status() == 1
        (line,) = child.stderr().splitlines()
        assert line.startswith("maze: rediss://127.0.0.1:1: cannot use /no/such.pem: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["--gap-policy", "guess"],
        ["--client-buffer", "1"],
        ["--stall-timeout", "10"],
        ["--source-port", "65536"],
        ["--reorder-limit", "0"],
        ["--client-host", "two words"],
        ["stray"],
    ],
    ids=" ".join,
)
def test_wrong_option_is_one_clear_line_and_status_2(arguments: list[str]) -> None:
    with Child(*arguments) as child:
        assert child.status() == 2
        (line,) = child.stderr().splitlines()
        assert line.startswith("maze: ")
        assert arguments[0].lstrip("-") in line


def test_wrong_log_level_from_the_environment_is_status_2() -> None:
    with Child(environment={"LOG_LEVEL": "chatty"}) as child:
        assert child.status() == 2
        (line,) = child.stderr().splitlines()
        assert "chatty" in line


def test_restart_at_once_on_the_same_ports_with_open_connections() -> None:
    with Child("--log-level", "debug").ready() as child:
        clients = child.clients(range(5))
        source = child.source()
        source.send(b"1|B\n")
        for client in clients:
            client.expect(b"1|B\n")
        ports = (child.source_address[1], child.client_address[1])
        child.signal(signal.SIGTERM)
        assert child.status() == 0
        with Child("--log-level", "debug", ports=ports).ready() as again:
            assert (again.source_address[1], again.client_address[1]) == ports
            (client,) = again.clients([1])
            again.source().send(b"1|B\n")
            client.expect(b"1|B\n")
        for client in clients:
            client.expect_closed()


def test_restart_at_once_on_the_same_ports_after_a_kill() -> None:
    with Child("--log-level", "debug").ready() as child:
        (client,) = child.clients([1])
        child.source().send(b"1|B\n")
        client.expect(b"1|B\n")
        ports = (child.source_address[1], child.client_address[1])
        child.signal(signal.SIGKILL)
        assert child.status() == -signal.SIGKILL
        with Child(ports=ports).ready() as again:
            assert again.client_address[1] == ports[1]


class StoppedReader:
    """A pipe for stderr that is read up to the ``ready`` line and no further."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)

    def ready(self) -> dict[str, object]:
        received = b""
        while not received.endswith(b"\n"):
            readable, _, _ = select.select([self._read_end], [], [], PATIENCE)
            assert readable, f"no complete log line, only {received!r}"
            received += os.read(self._read_end, 1)
        ready: dict[str, object] = json.loads(received)
        assert ready["event"] == "ready"
        return ready

    def read_to_the_end(self) -> list[dict[str, Any]]:
        """Read on until the process ends; return the log lines."""
        os.close(self.write_end)
        received = b""
        while True:
            readable, _, _ = select.select([self._read_end], [], [], PATIENCE)
            assert readable, f"the log did not end: {received[-1000:]!r}"
            piece = os.read(self._read_end, 4096)
            if not piece:
                os.close(self._read_end)
                return [json.loads(line) for line in received.splitlines()]
            received += piece

    def is_nearly_full(self) -> bool:
        """Return whether a few more log lines would not fit into the pipe."""
        held = struct.unpack("i", fcntl.ioctl(self._read_end, termios.FIONREAD, b"\0" * 4))[0]
        return bool(held > 4096 - 300)

    def close(self) -> None:
        os.close(self._read_end)
        os.close(self.write_end)


def _fill_the_log(child: Child, reader: StoppedReader) -> None:
    (witness,) = [child.client(1)]
    source = child.source()
    sequence = 0
    while not reader.is_nearly_full():
        child.client(100).close()
        sequence += 1
        source.send(b"%d|P|9|1\n" % sequence)
        assert sequence < 900
    for user in range(50):  # more log lines, which do not fit into the pipe
        child.client(200 + user).close()
    source.send(joined(broadcasts(sequence + 1, sequence + 1_001)))
    # The client may have connected after some messages, but it gets all the broadcasts.
    received = b""
    end = b"%d|B\n" % (sequence + 1_000)
    while not received.endswith(end):
        piece = witness.read(1)
        assert piece, f"the client received only {len(received)} bytes"
        received += piece
    assert received.endswith(joined(broadcasts(sequence + 1, sequence + 1_001)))


def test_stopped_reader_of_stderr_does_not_stop_delivery() -> None:
    reader = StoppedReader()
    with Child("--log-level", "debug", stderr=reader.write_end) as child:
        child.listens(reader.ready())
        _fill_the_log(child, reader)
        reader.close()


def test_stopped_reader_of_stderr_does_not_affect_the_exit_status() -> None:
    reader = StoppedReader()
    with Child("--log-level", "debug", stderr=reader.write_end) as child:
        child.listens(reader.ready())
        _fill_the_log(child, reader)
        child.signal(signal.SIGTERM)
        status = child.status()
        reader.close()
        assert status == 0


def test_closed_stderr_does_not_stop_delivery() -> None:
    reader = StoppedReader()
    with Child("--log-level", "debug", stderr=reader.write_end) as child:
        child.listens(reader.ready())
        reader.close()
        source = child.source()
        source.send(b"nonsense\n")
        child.await_first_broadcast(child.client(1), source)
        child.signal(signal.SIGTERM)
        assert child.status() == 0
