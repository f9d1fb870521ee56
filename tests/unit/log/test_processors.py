"""The processors of log lines: connection numbers, the rate limit, recent warnings."""

from collections.abc import Mapping
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from maze.log.processors import RateLimit, Recent, number_connection
from maze.net.peer import Peer

log = structlog.get_logger()


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


def test_a_line_that_names_no_peer_stays_as_it_is() -> None:
    line = {"event": "x", "source": "127.0.0.1:5"}
    assert number_connection(None, "info", line) == {"event": "x", "source": "127.0.0.1:5"}


def test_each_connection_has_its_own_number() -> None:
    one, two = Peer(("::1", 5, 0, 0)), Peer(("::1", 5, 0, 0))
    assert one == two == "[::1]:5"
    assert two.connection > one.connection > 0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def passed(
    limit: RateLimit, name: str, level: str = "info", **values: Any
) -> dict[str, Any] | None:
    try:
        return dict(limit(None, level, {"event": name, **values}))
    except structlog.DropEvent:
        return None


def suppressed(line: Mapping[str, Any] | None) -> int | None:
    """Return how many suppressed lines a line reports; None if it was suppressed itself."""
    return line if line is None else line.get("suppressed", 0)


def test_lines_over_the_limit_are_suppressed_and_reported_by_the_next() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    assert [passed(limit, "a") for _ in range(5)] == [{"event": "a"}] * 2 + [None] * 3
    assert passed(limit, "b") == {"event": "b"}
    assert limit.suppressed == 3
    clock.now += 1
    assert passed(limit, "a") == {"event": "a", "suppressed": 3}
    assert passed(limit, "a") == {"event": "a"}


@pytest.mark.parametrize("level", ["debug", "warning"])
def test_some_events_are_logged_once_a_second(level: str) -> None:
    clock = Clock()
    limit = RateLimit(100, clock)
    event = "line_rejected"
    assert [suppressed(passed(limit, event, level)) for _ in range(3)] == [0, None, None]
    clock.now += 0.999
    assert passed(limit, event, level) is None
    clock.now += 0.001
    assert suppressed(passed(limit, event, level)) == 3
    clock.now += 1
    assert suppressed(passed(limit, event, level)) == 0


def test_the_second_begins_with_the_first_line() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    passed(limit, "a")
    clock.now += 1.5
    assert suppressed(passed(limit, "a")) == 0
    clock.now += 0.9
    assert passed(limit, "a") is None
    clock.now += 0.1
    assert suppressed(passed(limit, "a")) == 1


def test_a_line_that_stands_for_several_reports_the_others() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    assert suppressed(passed(limit, "a", suppressed=4)) == 4
    assert passed(limit, "a", suppressed=1) is None
    assert passed(limit, "a", suppressed=0) is None
    clock.now += 1
    assert suppressed(passed(limit, "a", suppressed=2)) == 5
    assert limit.suppressed == 9
    clock.now += 1
    assert passed(limit, "a", suppressed=0) == {"event": "a"}


def test_each_kind_has_its_own_limit() -> None:
    limit = RateLimit(1, Clock())
    kinds: list[dict[str, Any]] = [
        {"name": "accepting_paused", "port": "client"},
        {"name": "accepting_paused", "port": "source"},
        {"name": "handshake_rejected", "reason": "timeout", "client": "here:1"},
        {"name": "handshake_rejected", "reason": "timeout", "source": "here:2"},
        {"name": "handshake_rejected", "reason": "left", "client": "here:3"},
        {"name": "line_rejected", "reason": "left", "source": "here:4"},
    ]
    assert [suppressed(passed(limit, **kind)) for kind in kinds] == [0] * 6
    assert [passed(limit, **kind) for kind in kinds] == [None] * 6


def test_other_lines_at_debug_are_not_limited() -> None:
    limit = RateLimit(1, Clock())
    assert all(passed(limit, "a", "debug") for _ in range(5))


def test_the_last_line_of_a_burst_reports_the_suppressed_ones() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    with capture_logs([limit]) as lines:
        for number in range(5):
            log.warning("a", number=number, reason="x")
        limit.report_suppressed()  # its second is not over
        assert len(lines) == 1
        clock.now += 1
        for _ in range(3):
            limit.report_suppressed()
            clock.now += 1
    about = {"event": "a", "reason": "x", "log_level": "warning"}
    assert lines == [about | {"number": 0}, about | {"number": 4, "suppressed": 3}]


def test_what_a_later_line_reported_is_not_reported_again() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    with capture_logs([limit]) as lines:
        log.info("a")
        log.info("a")
        clock.now += 1
        log.info("a")
        clock.now += 1
        limit.report_suppressed()
    assert [suppressed(line) for line in lines] == [0, 1]


def test_at_the_end_all_kinds_are_reported_at_once() -> None:
    limit = RateLimit(1, Clock())
    with capture_logs([limit]) as lines:
        for name in ("a", "b", "a", "b", "c"):
            log.error(name)
        limit.report_suppressed(is_end=True)
    assert [line["event"] for line in lines] == ["a", "b", "c", "a", "b"]


def test_a_suppressed_line_keeps_no_frames_alive() -> None:
    limit = RateLimit(1, Clock())
    with capture_logs([limit]) as lines:
        for _ in range(2):
            try:
                raise ValueError
            except ValueError:
                log.exception("a")
        limit.report_suppressed(is_end=True)
    assert ["exc_info" in line for line in lines] == [True, False]


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
def test_lines_below_warning_are_not_kept(level: str) -> None:
    recent = Recent()
    recent(None, level, {"event": "a"})
    assert not recent.lines
