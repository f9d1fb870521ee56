"""How the router flushes the sessions of a batch."""

from __future__ import annotations

from typing import Any, cast

import pytest
from end_to_end.peers import until
from gevent.event import Event

from maze.listener.registration_wait import Registration
from maze.log.reject_log import RejectLog
from maze.net.time_slice import yield_to_event_loop
from maze.pipeline import router
from maze.pipeline.intake import Intake
from maze.pipeline.router import FLUSH_SESSIONS, Router
from maze.pipeline.turns import Turns
from maze.settings.options import Settings


class Session:
    """The part of a session that the router uses; it has sent everything."""

    pushed_bytes = sent_bytes = 10
    queued_bytes = 0
    held_bytes = 0


@pytest.mark.parametrize("is_sampled", [False, True])
def test_measuring_the_latency_does_not_change_how_sessions_are_flushed(
    monkeypatch: pytest.MonkeyPatch, is_sampled: bool
) -> None:
    groups: list[int] = []

    def flush_all(group: list[Any], _: int) -> list[Any]:
        groups.append(len(group))
        return []

    routing = Router(Settings(), RejectLog(), Registration(), fail=pytest.fail)
    Intake(Settings(), RejectLog(), routing, fail=pytest.fail)
    sessions = [Session() for _ in range(2 * FLUSH_SESSIONS + 1)]
    monkeypatch.setattr(router, "flush_all", flush_all)
    monkeypatch.setattr(routing.batches, "route", lambda _: sessions)
    latency = routing.stats.latency
    if is_sampled:
        latency.ready(0, 1.0)
    routing._deliver()
    assert groups == [FLUSH_SESSIONS, FLUSH_SESSIONS, 1]
    assert sum(latency.histogram.counts) == (len(sessions) if is_sampled else 0)


@pytest.mark.parametrize("kind", ["turns", "journal_turns"])
def test_replays_pause_while_a_batch_waits_for_clients_to_register(kind: str) -> None:
    class Waiting(Registration):
        def wait_for_batch(self) -> None:
            no_batch_waits.wait()

    no_batch_waits = Event()
    routing = Router(Settings(), RejectLog(), Waiting(), fail=pytest.fail)
    turns: Turns = getattr(routing.resumes, kind)
    session = cast("Any", Session())
    turns.add(session)
    yield_to_event_loop()
    assert list(turns._waiting) == [session]
    no_batch_waits.set()
    until(lambda: not turns._waiting, "the replay's turn")
