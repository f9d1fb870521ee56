"""Logging of uncaught exceptions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import gevent
import pytest
from structlog.testing import capture_logs

from maze.log.excepthooks import log_uncaught
from maze.log.processors import RateLimit


class Provoked(Exception):  # noqa: N818
    """An exception that nothing catches."""


def fail() -> None:
    raise Provoked


@pytest.fixture(autouse=True)
def _logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the hooks, and restore the process's own after the test."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    log_uncaught()
    yield
    del gevent.get_hub().print_exception


def test_a_failed_greenlet_is_logged_with_its_exception() -> None:
    with capture_logs() as entries:
        gevent.spawn(fail).join()
    (entry,) = entries
    assert (entry["event"], entry["log_level"]) == ("greenlet_failed", "error")
    assert entry["exc_info"][0] is Provoked
    assert "fail" in entry["context"]


def test_a_failed_callback_is_logged_and_the_event_loop_goes_on() -> None:
    with capture_logs() as entries:
        gevent.get_hub().loop.run_callback(fail)
        gevent.sleep(0)
        gevent.spawn(lambda: None).join()
    assert [entry["event"] for entry in entries] == ["greenlet_failed"]


def test_repeated_failures_are_logged_once_a_second() -> None:
    now = 1000.0
    with capture_logs([RateLimit(clock=lambda: now)]) as entries:
        gevent.joinall([gevent.spawn(fail) for _ in range(3)])
        now += 1
        gevent.spawn(fail).join()
    assert [entry.get("suppressed") for entry in entries] == [None, 2]


def test_a_killed_greenlet_is_no_failure() -> None:
    with capture_logs() as entries:
        greenlet = gevent.spawn(gevent.sleep, 60)
        gevent.sleep(0)
        greenlet.kill()
    assert entries == []


def test_a_failed_native_thread_is_logged_with_its_name() -> None:
    with capture_logs() as entries:
        thread = threading.Thread(target=fail, name="unlucky")
        thread.start()
        thread.join(10)
    (entry,) = entries
    assert entry["event"] == "thread_failed"
    assert "unlucky" in entry["context"]
    assert entry["exc_info"][0] is Provoked


def test_a_failed_destructor_is_logged() -> None:
    class Destroyed:
        def __del__(self) -> None:
            raise Provoked

    with capture_logs() as entries:
        Destroyed()
    (entry,) = entries
    assert entry["event"] == "exception_ignored"
    assert entry["exc_info"][0] is Provoked
