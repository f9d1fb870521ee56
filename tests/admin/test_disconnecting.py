"""Disconnecting one session, or all sessions of a user, and listing those of a user."""

from __future__ import annotations

import pytest
from end_to_end.peers import Client
from structlog.testing import LogCapture

from maze.pipeline.registry import CLOSED_AT_ONCE

from .watching import Watched

LAST = 2**63 - 1
"""The largest user id."""


@pytest.mark.parametrize("path", ["/api/clients/1/disconnect", "/api/users/1/disconnect"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_disconnect_accepts_post_only(watched: Watched, path: str, method: str) -> None:
    watched.clients(1)
    answer = watched.ask(path, method)
    assert (answer.status, answer.headers["allow"]) == (405, "post")
    assert watched.sessions


# One session.


def test_a_session_has_exactly_one_path(watched: Watched) -> None:
    client = watched.client(1)
    number = watched.session(1).peer.connection
    for other in (f"0{number}", f"+{number}", f"{number}.0", "0", "-1", "", "1" * 19, "\xb2"):
        answer = watched.ask(f"/api/clients/{other}/disconnect", "POST")
        assert (answer.status, answer.error) == (404, "no such path")
    assert watched.sessions
    assert watched.ask(f"/api/clients/{number}/disconnect", "POST").status == 200
    client.expect_closed()


def test_a_client_is_disconnected_logged_and_counted(watched: Watched, log: LogCapture) -> None:
    client, other = watched.clients(1, 2)
    session = watched.session(1)
    number = session.peer.connection
    assert watched.ask(f"/api/clients/{number}/disconnect", "POST").status == 200
    client.expect_closed()
    assert [session.user for session in watched.sessions] == [2]
    closed = next(entry for entry in log.entries if entry["event"] == "session_closed")
    assert (closed["reason"], closed["client"].connection) == ("operator", number)
    assert watched.status()["sessions"]["closed"]["operator"] == 1
    again = watched.ask(f"/api/clients/{number}/disconnect", "POST")
    assert again.status == 404
    assert f"no session {number}" in again.error
    other.close()


# All sessions of a user.


def disconnected(watched: Watched, user: int) -> int:
    """Disconnect a user; return the number of sessions that the answer tells."""
    answer = watched.ask(f"/api/users/{user}/disconnect", "POST")
    assert answer.status == 200, answer
    assert answer.json().keys() == {"user", "disconnected"}
    assert answer.json()["user"] == user
    return int(answer.json()["disconnected"])


@pytest.mark.parametrize("user", [0, 7, LAST])
def test_all_sessions_of_a_user_are_disconnected(
    watched: Watched, log: LogCapture, user: int
) -> None:
    clients = [watched.client(user) for _ in range(3)]
    other = watched.client(8)
    watched.await_sessions(4)
    assert disconnected(watched, user) == 3
    for client in clients:
        client.expect_closed()
    assert [session.user for session in watched.sessions] == [8]
    closed = [entry for entry in log.entries if entry["event"] == "session_closed"]
    assert [(entry["reason"], entry["user"]) for entry in closed] == [("operator", user)] * 3
    (line,) = [entry for entry in log.entries if entry["event"] == "user_disconnected"]
    assert (line["user"], line["sessions"], line["log_level"]) == (user, 3, "info")
    assert watched.status()["sessions"]["closed"]["operator"] == 3
    assert b'maze_sessions_closed_total{reason="operator"} 3.0' in watched.ask("/metrics").body
    watched.source().send(b"1|B\n")
    other.expect(b"1|B\n")


def test_disconnecting_a_user_without_a_session_changes_nothing(watched: Watched) -> None:
    watched.clients(1)
    assert disconnected(watched, 2) == 0
    assert len(watched.sessions) == 1


def test_a_user_with_many_sessions_is_disconnected_in_steps(watched: Watched) -> None:
    number = 2 * CLOSED_AT_ONCE + 1
    clients: list[Client] = [watched.client(7) for _ in range(number)]
    watched.await_sessions(number)
    assert disconnected(watched, 7) == number
    assert disconnected(watched, 7) == 0
    for client in clients:
        client.expect_closed()


def test_a_session_that_does_not_get_events_yet_is_disconnected_too(watched: Watched) -> None:
    client = watched.client(7)
    watched.await_sessions(1)
    watched.server.sessions.disconnect(watched.session(7))
    assert disconnected(watched, 7) == 1
    client.expect_closed()


@pytest.mark.parametrize(
    "user",
    ["", "bob", "-1", "+1", "1.0", " ", "%20", "1%0A", "\xb2", "%D9%A3", str(LAST + 1), "1,2"],
)
def test_a_bad_user_id_is_400_in_one_line(watched: Watched, user: str) -> None:
    watched.clients(1)
    answer = watched.ask(f"/api/users/{user}/disconnect".replace(" ", "%20"), "POST")
    assert answer.status == 400
    assert answer.error == f"the user id must be a whole number from 0 to {LAST}"
    assert watched.sessions


@pytest.mark.parametrize("path", ["/api/users/7", "/api/users/7/8/disconnect", "/api/users"])
def test_other_paths_of_users_are_404(watched: Watched, path: str) -> None:
    assert watched.ask(path, "POST").status == 404


def test_the_clients_of_one_user_are_listed(watched: Watched) -> None:
    for _ in range(3):
        watched.client(7)
    watched.client(8)
    watched.await_sessions(4)
    listed = watched.get("/api/clients?user=7&sort=age&limit=2")
    assert listed["connected"] == 3
    assert [client["user"] for client in listed["clients"]] == [7, 7]
    assert watched.get("/api/clients?user=007")["connected"] == 3
    assert watched.get("/api/clients?user=9") == {"connected": 0, "clients": []}
    assert watched.get("/api/clients")["connected"] == 4
