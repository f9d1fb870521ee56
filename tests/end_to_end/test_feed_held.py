"""An ingest waits for an edge that needs what is to be removed, but not for ever."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import LogCapture

from maze.pipeline import journaling

from .peers import until
from .roles import Roles, logged
from .running import shrink_buffers

BIG = [b"%04000d|B\n" % number for number in range(1, 8_001)]
"""Events of 32 MB."""


class Stuck:
    """An ingest that keeps as little as it can, and an edge whose client reads nothing yet."""

    def __init__(self, roles: Roles, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        shrink_buffers(monkeypatch)
        monkeypatch.setattr(journaling, "UPKEEP_SECONDS", 0.05)
        bounds = {"journal_retain": 0.0, "journal_retain_bytes": 2**20, "snapshot_events": 200}
        self.ingest = roles.ingest(**bounds, reorder_bytes=2**20, **settings)
        self.edge = roles.edge(
            client_buffer=8 * 1024, hold_timeout=60.0, stall_timeout=60.0, reorder_bytes=2**20
        )
        self.client = self.edge.client(7, small_buffers=True)
        self._source = self.ingest.source()
        self._source.send(b"".join(BIG[:2_000]))
        self._sent = 2_000

    def until_held(self) -> None:
        """Send more events, until the ingest waits for the edge."""

        def is_held() -> bool:
            if not self.ingest.server._is_held():
                self._source.send(BIG[self._sent])
                self._sent += 1
            return self.ingest.server._is_held()

        until(is_held, "the ingest to wait")

    def send_rest(self) -> None:
        self._source.send_in_background(b"".join(BIG[self._sent :]))


def test_an_ingest_waits_for_an_edge_that_needs_what_is_to_be_removed(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck(roles, monkeypatch)
    stuck.until_held()
    stuck.send_rest()
    intake = stuck.ingest.server.intake
    assert intake.journaling
    written = intake.journaling.committed
    until(
        lambda: intake.reorder.ready and not (written.in_flight or written.ready),
        "events to wait while nothing is being written or routed",
    )
    assert stuck.ingest.durable.next < len(BIG)
    stuck.client.expect(b"".join(BIG))
    assert stuck.ingest.position.next == len(BIG) + 1
    assert not stuck.edge.server.failed


def test_an_edge_that_does_not_go_on_is_dropped_in_the_end(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, log: LogCapture
) -> None:
    stuck = Stuck(roles, monkeypatch, stall_timeout=0.1)
    stuck.until_held()
    stuck.send_rest()
    until(lambda: stuck.ingest.durable.next == len(BIG) + 1, "everything to be written")
    assert logged(log, "edge_dropped")
