"""Cuts batches from the runs that are ready, routes each, and queues its payloads."""

from collections.abc import Callable
from time import monotonic
from typing import Protocol, cast

import structlog

from maze.core import Fanout, Payload, Recipient, Run
from maze.log.reject_log import RejectLog
from maze.pipeline.implementation import push_all
from maze.pipeline.ordering import count_events
from maze.pipeline.session import Session
from maze.pipeline.stats import Stats
from maze.settings.options import Settings

log = structlog.get_logger()

BATCH_EVENTS = 16_384
"""Events at which a batch takes no further run, and at which the sources pause while the router
works. A larger value adds latency and saves little."""

MIN_EVENTS = 64
"""Half the minimum events taken for a batch. After a batch that was cut short by a limit in bytes,
the next takes twice as many events as it routed."""

BATCH_BYTES = 16 * 1024 * 1024
"""Maximum bytes stored for one batch. Copying more takes a tenth of a second."""

FROM_GRAPH = "-"
"""Source given for a follow that exceeds a bound of the graph, and for an undelivered event: runs
do not record their source."""


class ReadyRuns(Protocol):
    """The runs that are ready to be routed, in order."""

    ready: int
    """Number of events that can be taken."""
    next_sequence: int
    """Lowest number that has not been taken."""

    def take_ready(self, limit: int) -> list[Run]:
        """Remove and return whole runs, until they have at least ``limit`` events."""

    def put_back(self, runs: list[Run]) -> None:
        """Make the last runs that were taken ready again."""


class Batches:
    """Routes one batch after the other.

    ``on_routed`` is called with the runs of each batch and the number after its last event.
    """

    def __init__(
        self,
        settings: Settings,
        fanout: Fanout,
        on_routed: Callable[[list[Run], int], None],
        *,
        rejects: RejectLog,
        stats: Stats,
    ) -> None:
        self._fanout = fanout
        self._on_routed = on_routed
        self._rejects = rejects
        self._stats = stats
        self._payload_bytes = settings.client_buffer // 2
        self._batch_bytes = min(settings.total_buffer // 2, BATCH_BYTES)
        self._batch_events = BATCH_EVENTS
        self.traces = settings.log_level == "debug"

    def route(self, ready: ReadyRuns) -> list[Session]:
        """Route one batch and queue its payloads; return the sessions that got one.

        Nothing here waits, so a batch reaches all sessions or none. It adds at most half of
        ``client-buffer`` to one session, and half of ``total-buffer`` to all of them together. A
        session that has taken the previous batch is therefore never over its bound.
        """
        began = monotonic()
        runs = ready.take_ready(self._batch_events)
        payloads, rest = self._fanout.route(runs, self._payload_bytes, self._batch_bytes)
        ready.put_back(rest)
        self._on_routed(runs, ready.next_sequence)
        self._rejects.record(self._fanout.refused, FROM_GRAPH)
        self._rejects.record_undelivered(self._fanout.undelivered, FROM_GRAPH)
        sessions = cast("list[Session]", push_all(payloads))
        events = count_events(runs) - count_events(rest)
        # Taking runs and putting them back is slow if each holds one event: take fewer next time.
        wanted_events = 2 * max(events, MIN_EVENTS) if rest else 2 * self._batch_events
        self._batch_events = min(wanted_events, BATCH_EVENTS)
        self._stats.routed(events, monotonic() - began)
        if self.traces:
            self._trace(runs[0].first, ready.next_sequence - 1, events, payloads)
        return sessions

    def _trace(
        self, first: int, last: int, events: int, payloads: list[tuple[Recipient, Payload]]
    ) -> None:
        """Log, at level debug, the batch and each payload queued."""
        batch = self._stats.batches
        log.debug(
            "batch_routed",
            batch=batch,
            first=first,
            last=last,
            routed_events=events,
            sessions=len(payloads),
        )
        for session, payload in cast("list[tuple[Session, Payload]]", payloads):
            log.debug(
                "payload_queued",
                batch=batch,
                user=session.user,
                client=session.peer,
                payload_bytes=payload.size,
                ends_at_byte=session.pushed_bytes,
            )
