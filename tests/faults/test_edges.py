"""A parent with an ingest and two edges, whose processes end at any time."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from admin.watching import openmetrics
from end_to_end.peers import PATIENCE, Client, broadcasts, joined, until
from end_to_end.running import Child

EDGES = 2
CLIENTS = 24
"""So many that each edge has some."""


def serve(*arguments: str, **how: Any) -> Child:
    options = ("--edges", str(EDGES), "--log-level", "debug", "--drain-timeout", "8s")
    return Child(*options, *arguments, program=("-m", "maze.serve"), **how)


@pytest.fixture
def house() -> Iterator[Child]:
    """A parent, an ingest and edges."""
    with serve() as child:
        yield child.ready()


def pid_of(child: Child, name: str) -> int:
    """Return the id of the process with a name, the newest."""
    for pid in reversed(children(child)):
        with suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if f'"{name}"'.encode() in environment:
                return pid
    raise AssertionError(f"no process is called {name}")


def children(child: Child) -> list[int]:
    pid = child.process.pid
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def clients(child: Child) -> list[Client]:
    """Connect clients that ask for positions; wait until every edge has sessions."""
    connected = [Client(child.client_address) for _ in range(CLIENTS)]
    for user, client in enumerate(connected):
        client.send(b"%d|\n" % user)
    child.await_logged("session_opened", CLIENTS)
    assert len({line["process"] for line in child.logged("session_opened")}) == EDGES
    return connected


def edge_of(child: Child, client: Client) -> str:
    """Return the name of the edge that serves a client."""
    peer = "{}:{}".format(*client.sock.getsockname())
    lines = child.logged("session_opened")
    return next(str(line["process"]) for line in lines if line["client"] == peer)


def position_of(client: Client) -> bytes:
    """Read a position line; return the position."""
    return client.read_line().removeprefix(b"=|").strip()


def test_every_client_of_every_edge_gets_its_events(house: Child) -> None:
    connected = clients(house)
    positions = {position_of(client) for client in connected}
    assert len(positions) == 1
    house.source().send(b"2|B\n1|F|7|8\n4|P|1|3\n3|S|8\n")
    for user, client in enumerate(connected):
        more = {8: b"1|F|7|8\n2|B\n", 7: b"2|B\n3|S|8\n", 3: b"2|B\n4|P|1|3\n"}
        client.expect(more.get(user, b"2|B\n"))


def test_the_log_does_not_advise_to_reset_the_temporary_journal() -> None:
    with serve("--gap-warning", "100ms") as child:
        source = child.ready().source()
        source.send(b"0|B\n5|B\n")
        child.await_logged("below_first_sequence")
        child.await_logged("gap")
        (below,), (gap,) = child.logged("below_first_sequence"), child.logged("gap")
    advice = "begins {0}, start the server with --first-sequence {1}"
    assert below["hint"].endswith(advice.format("there", 0))
    assert gap["hint"].endswith(advice.format("at 5", 5))


def test_the_clients_of_an_edge_that_is_killed_miss_nothing(house: Child) -> None:
    connected = clients(house)
    epoch = int(position_of(connected[0]).split(b"-")[0])
    for client in connected[1:]:
        position_of(client)
    source = house.source()
    source.send(joined(broadcasts(1, 11)))
    for client in connected:
        client.expect(joined(broadcasts(1, 11)))
    os.kill(pid_of(house, "edge-1"), signal.SIGKILL)
    lost = [client for client in connected if edge_of(house, client) == "edge-1"]
    for client in lost:
        client.expect_closed()
    source.send(joined(broadcasts(11, 21)))
    for _ in lost:
        again = Client(house.client_address)
        again.send(b"99|%d-11\n" % epoch)
        again.expect(b"=|%d-11\n" % epoch + joined(broadcasts(11, 21)))
    for client in set(connected) - set(lost):
        client.expect(joined(broadcasts(11, 21)))
    house.await_logged("process_ended")
    until(lambda: len(house.logged("ready")) == 2 + EDGES + 1, "the edge to be ready again")
    assert [line["status"] for line in house.logged("process_ended")] == [-signal.SIGKILL]


def test_clients_stay_connected_while_the_ingest_is_started_again(house: Child) -> None:
    connected = clients(house)
    for client in connected:
        position_of(client)
    house.source().send(joined(broadcasts(1, 11)))
    for client in connected:
        client.expect(joined(broadcasts(1, 11)))
    os.kill(pid_of(house, "ingest"), signal.SIGKILL)
    house.await_logged("process_ended")
    source = house.source()  # it waits in the queue of the parent's socket
    source.send(joined(broadcasts(11, 21)))
    for client in connected:
        client.expect(joined(broadcasts(11, 21)))


def test_no_process_and_no_file_outlives_the_parent(tmp_path: Path) -> None:
    with serve(environment={"TMPDIR": str(tmp_path)}) as child:
        pids = children(child.ready())
        assert len(pids) == 1 + EDGES
        assert list(tmp_path.iterdir())
        child.signal(signal.SIGKILL)
        until(lambda: not any(map(is_running, pids)), "all processes to end")
    assert not list(tmp_path.iterdir())


def test_all_edges_drain_to_one_position(house: Child) -> None:
    connected = clients(house)
    for client in connected:
        position_of(client)
    sending = house.source().send_in_background(joined(broadcasts(1, 300_001)))
    connected[0].read_line()
    house.signal(signal.SIGTERM)
    got = {client.read_until_closed()[-20:] for client in connected[1:]}
    assert len(got) == 1
    assert house.status() == 0
    sending.kill()
    assert {line["process"] for line in house.logged("stopped") if "process" in line} == {
        "ingest",
        "edge-1",
        "edge-2",
    }


def test_ctrl_c_drains_as_well(house: Child) -> None:
    connected = clients(house)
    for client in connected:
        position_of(client)
    pids = children(house)
    sending = house.source().send_in_background(joined(broadcasts(1, 300_001)))
    connected[0].read_line()
    for pid in (*pids, house.process.pid):  # the terminal sends it to all
        os.kill(pid, signal.SIGINT)
    assert len({client.read_until_closed()[-20:] for client in connected[1:]}) == 1
    assert house.status() == 0
    sending.kill()
    assert len(house.logged("stopped")) == 2 + EDGES
    assert not any(map(is_running, pids))


def test_a_second_signal_ends_all_at_once(house: Child) -> None:
    stopped = Client(house.client_address, small_buffers=True)
    stopped.send(b"1\n")
    house.await_logged("session_opened")
    sending = house.source().send_in_background(joined(broadcasts(1, 300_001)))
    stopped.read_line()
    pids = children(house)
    house.signal(signal.SIGTERM)
    house.await_logged("draining", 2 + EDGES)
    house.signal(signal.SIGTERM)
    assert house.status() == 128 + signal.SIGTERM
    until(lambda: not any(map(is_running, pids)), "all processes to end")
    sending.kill()


def test_sighup_is_passed_on(house: Child) -> None:
    house.signal(signal.SIGHUP)
    house.await_logged("reloaded", 1 + EDGES)


def test_sighup_waits_until_a_process_is_ready() -> None:
    with serve() as child:
        child.await_logged("ready")  # of the ingest; no edge is ready
        child.signal(signal.SIGHUP)
        child.ready()
        child.await_logged("reloaded", 1 + EDGES)
        assert not child.logged("process_ended")


@pytest.mark.parametrize("port", ["--source-port", "--client-port"])
def test_a_port_that_is_taken_is_one_clear_line(port: str) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        number = str(taken.getsockname()[1])
        with serve(port, number) as child:
            assert child.status() == 1
            (line,) = child.stderr().splitlines()
    assert line.startswith(f"maze: cannot listen on 127.0.0.1 port {number}: Address already in")


def test_what_the_ingest_refuses_is_one_clear_line(tmp_path: Path) -> None:
    with serve("--journal", str(tmp_path), environment={"TMPDIR": str(tmp_path)}) as child:
        assert child.status() == 1
        (line,) = child.stderr().splitlines()
    assert line == f"maze: {tmp_path} is not a file"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["x", "[]", '{"a": 1}'])
def test_a_variable_that_only_the_parent_sets_is_one_clear_line(text: str) -> None:
    with Child(environment={"MAZE_CHILD": text}) as child:
        assert child.status() == 2
        (line,) = child.stderr().splitlines()
    assert line == "maze: MAZE_CHILD is only for the processes that --edges starts: unset it"


@pytest.mark.parametrize(
    "options",
    [
        ("--role", "edge"),
        ("--feed", "127.0.0.1:1"),
        ("--source-acks", "on"),
        ("--rejects-undelivered", "on", "--rejects", "/no/such/folder/file"),
    ],
)
def test_options_that_contradict_edges_are_one_clear_line(options: tuple[str, ...]) -> None:
    with serve(*options) as child:
        assert child.status() == 2
        (line,) = child.stderr().splitlines()
    acks, undelivered = "--source-acks on needs --journal", "--rejects-undelivered on takes"
    begins = ("--edges starts", acks, undelivered)
    assert line.startswith(tuple(f"maze: {begin}" for begin in begins))


# The admin port.


class Operator:
    """Asks the admin port."""

    def __init__(self, child: Child) -> None:
        child.await_logged("admin_ready")
        (opened,) = child.logged("admin_ready")
        self._url = f"http://{opened['admin_host']}:{opened['admin_port']}"

    def ask(self, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, str]:
        request = urllib.request.Request(self._url + path, method=method)
        request.add_header("Accept", accept)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self) -> Any:
        return json.loads(self.ask("/api/status")[1])

    def await_ready(self, expected: str) -> None:
        until(lambda: expected in self.ask("/readyz")[1], f"/readyz to answer {expected}")


@pytest.fixture
def watched() -> Iterator[Child]:
    with serve("--admin-port", "free") as child:
        yield child.ready()


def test_one_admin_port_answers_for_all(watched: Child) -> None:
    operator = Operator(watched)
    connected = clients(watched)
    watched.source().send(joined(broadcasts(1, 11)))
    for client in connected:
        position_of(client)
        client.expect(joined(broadcasts(1, 11)))
    operator.await_ready('"ready"')
    until(lambda: operator.status()["sessions"]["connected"] == CLIENTS, "the next status")
    status = operator.status()
    assert status["events"]["by_type"]["broadcast"]["deliveries"] == 10 * CLIENTS
    assert [process["name"] for process in status["processes"]] == ["ingest", "edge-1", "edge-2"]
    assert sum(process["sessions"] for process in status["processes"]) == CLIENTS
    metrics = operator.ask("/metrics")[1]
    found = re.findall(r'^maze_sessions{process="(\S+)"} (\d+)\.0$', metrics, re.MULTILINE)
    assert [name for name, _ in found] == ["ingest", "edge-1", "edge-2"]
    assert sum(int(count) for _, count in found) == CLIENTS
    assert metrics.count("# HELP maze_sessions ") == 1
    assert 'process_cpu_seconds_total{process="parent"}' in metrics
    metrics = operator.ask("/metrics", accept="application/openmetrics-text")[1]
    (sessions,) = (family for family in openmetrics(metrics) if family.name == "maze_sessions")
    assert sum(sample.value for sample in sessions.samples) == CLIENTS


def test_a_client_of_any_edge_can_be_disconnected(watched: Child) -> None:
    operator = Operator(watched)
    connected = clients(watched)
    listed = json.loads(operator.ask("/api/clients?sort=newest")[1])
    assert listed["connected"] == len(listed["clients"]) == CLIENTS
    assert {client["edge"] for client in listed["clients"]} == {1, 2}
    for client in connected:
        position_of(client)
    for number in (listed["clients"][0]["session"], 10**12):
        status, _ = operator.ask(f"/api/clients/{number}/disconnect", "POST")
        assert status == (404 if number == 10**12 else 200)
    user = listed["clients"][0]["user"]
    connected[user].expect_closed()


def sessions_of(child: Child, user: int, count: int) -> list[Client]:
    """Connect clients of one user; wait until every edge has sessions of the user."""
    opened = len(child.logged("session_opened"))
    connected = [child.client(user) for _ in range(count)]
    child.await_logged("session_opened", opened + count)
    lines = child.logged("session_opened")[opened:]
    assert len({line["process"] for line in lines}) == EDGES
    return connected


def test_a_user_is_listed_and_disconnected_at_all_edges(watched: Child) -> None:
    operator = Operator(watched)
    others = clients(watched)
    connected = sessions_of(watched, 1000, CLIENTS)
    listed = json.loads(operator.ask("/api/clients?user=1000&limit=7")[1])
    assert listed["connected"] == CLIENTS
    assert [client["user"] for client in listed["clients"]] == [1000] * 7
    status, answer = operator.ask("/api/users/1000/disconnect", "POST")
    assert (status, json.loads(answer)) == (200, {"user": 1000, "disconnected": CLIENTS})
    for client in connected:
        client.expect_closed()
    lines = watched.logged("user_disconnected")
    assert {line["process"] for line in lines} == {"edge-1", "edge-2"}
    assert sum(line["sessions"] for line in lines) == CLIENTS
    assert json.loads(operator.ask("/api/users/1000/disconnect", "POST")[1])["disconnected"] == 0
    watched.source().send(b"1|B\n")
    for client in others:
        position_of(client)
        client.expect(b"1|B\n")


def test_an_edge_that_cannot_disconnect_a_user_is_told(watched: Child) -> None:
    operator = Operator(watched)
    connected = sessions_of(watched, 7, CLIENTS)
    stopped = pid_of(watched, "edge-2")
    os.kill(stopped, signal.SIGSTOP)
    status, answer = operator.ask("/api/users/7/disconnect", "POST")
    os.kill(stopped, signal.SIGCONT)  # one that is stopped would outlive its parent
    here = [client for client in connected if edge_of(watched, client) == "edge-1"]
    for client in here:
        client.expect_closed()
    assert (status, json.loads(answer)["error"]) == (
        503,
        f"edge-2 does not answer; of the others, {len(here)} sessions of user 7 were "
        "disconnected; try again",
    )


def test_a_process_that_does_not_answer_is_told(watched: Child) -> None:
    operator = Operator(watched)
    operator.await_ready('"ready"')
    stopped = pid_of(watched, "edge-2")
    os.kill(stopped, signal.SIGSTOP)
    operator.await_ready("edge-2 does not answer")
    assert operator.ask("/healthz")[0] == 200
    os.kill(stopped, signal.SIGCONT)
    operator.await_ready('"ready"')
