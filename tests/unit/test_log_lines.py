"""What happens to every log line on its way out."""

from typing import Any

import pytest
import structlog

from maze.log_lines import RateLimit, Recent, number_connection
from maze.peer import Peer


def test_a_line_that_names_a_peer_gets_the_number_of_its_connection() -> None:
    peer = Peer(("127.0.0.1", 5))
    line = number_connection(None, "info", {"event": "x", "user": 1, "client": peer, "a": 2})
    assert list(line.items()) == [
        ("event", "x"),
        ("user", 1),
        ("connection", peer.connection),
        ("client", "127.0.0.1:5"),
        ("a", 2),
    ]


def test_one_that_names_none_stays_as_it_is() -> None:
    line = {"event": "x", "source": "127.0.0.1:5"}
    assert number_connection(None, "info", line) == {"event": "x", "source": "127.0.0.1:5"}


def test_every_connection_has_a_number_of_its_own() -> None:
    one, two = Peer(("::1", 5, 0, 0)), Peer(("::1", 5, 0, 0))
    assert one == two == "[::1]:5"
    assert two.connection > one.connection > 0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def passed(limit: RateLimit, name: str, level: str = "info") -> dict[str, Any] | None:
    try:
        return dict(limit(None, level, {"event": name}))
    except structlog.DropEvent:
        return None


def test_of_one_name_so_many_a_second_and_then_it_is_said_how_many_more() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    assert [passed(limit, "a") for _ in range(5)] == [{"event": "a"}] * 2 + [None] * 3
    assert passed(limit, "b") == {"event": "b"}
    assert limit.suppressed == 3
    clock.now += 1
    assert passed(limit, "a") == {"event": "a", "suppressed": 3}
    assert passed(limit, "a") == {"event": "a"}


def test_what_was_held_back_before_adds_to_it() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    passed(limit, "a")
    passed(limit, "a")
    clock.now += 1
    assert limit(None, "info", {"event": "a", "suppressed": 4})["suppressed"] == 5


def test_at_debug_nothing_is_held_back() -> None:
    limit = RateLimit(1, Clock())
    assert all(passed(limit, "a", "debug") for _ in range(5))


def test_the_last_warnings_are_kept_and_counted() -> None:
    recent = Recent(kept=2)
    for level in ("debug", "info", "warning", "error", "critical"):
        line = {"event": level, "client": Peer(("127.0.0.1", 5)), "exc_info": True, "list": [1]}
        assert recent(None, level, line) is line
    assert [line["event"] for line in recent.lines] == ["error", "critical"]
    assert recent.lines[0] == {"event": "error", "client": "127.0.0.1:5", "list": "[1]"}
    assert type(recent.lines[0]["client"]) is str
    assert recent.counts == {"warning": 1, "error": 1, "critical": 1}


@pytest.mark.parametrize("level", ["info", "debug"])
def test_what_is_no_warning_is_not_kept(level: str) -> None:
    recent = Recent()
    recent(None, level, {"event": "a"})
    assert not recent.lines
