"""The ingest: takes what sources send, and serves it to edges."""

import gevent
import structlog

from maze.core import Position
from maze.feed.feed_port import FeedPort
from maze.feed.ring import Ring
from maze.journal.sqlite import SQLiteJournal
from maze.listener.access import Access
from maze.listener.handshake_rejects import HandshakeReason
from maze.listener.tls_context import Contexts
from maze.pipeline.intake import Intake
from maze.pipeline.source import SourcePort
from maze.server import Report, Server
from maze.settings.options import Settings

log = structlog.get_logger()

CHECK_SECONDS = 0.5
"""Time between two looks at edges that hold up the sources."""

RING_BYTES = 16 * 1024 * 1024
"""Memory for the batches committed last. An edge that is further behind is served from the file."""


class IngestServer(Server):
    """A server with a source port, whose journal the edges read in Redis.

    Its router has no sessions. It routes to find out which follows changed nothing, which the
    journal has to tell edges.
    """

    intake: Intake
    source: SourcePort

    def __init__(self, settings: Settings) -> None:
        """Create the parts; see ``Server``. Raise JournalUnusableError, too."""
        super().__init__(settings)
        self.intake = Intake(settings, self.rejects, self.router, self.fail)
        self.source = self.add_source_port(self.intake)


class FeedServer(IngestServer):
    """An ingest that serves its journal, a file, to edges."""

    def __init__(self, settings: Settings, *, has_temporary_journal: bool = False) -> None:
        """Create the parts; see ``IngestServer``.

        A temporary journal is removed when the parent ends.
        """
        super().__init__(settings)
        if has_temporary_journal:
            self.intake.advice.forget_journal()
        journaling = self.intake.journaling
        assert journaling
        assert isinstance(journaling.journal, SQLiteJournal)
        self._journal = journaling.journal
        self._dropping: gevent.Greenlet[..., None] | None = None
        self._access = Access(settings.feed_port, settings, self.contexts.feed)
        self.feed = FeedPort(
            journaling.reader,
            Ring(journaling.position, RING_BYTES),
            lambda: journaling.position,
            settings.feed_token,
            on_move=self._on_move,
            access=self._access,
        )
        journaling.is_held = self._is_held
        journaling.on_batches = self.feed.on_committed
        self.add_listener(settings.feed_port, self.feed.handle)

    def _on_move(self, position: Position | None) -> None:
        """Keep what the edge that is furthest behind needs; go on if that held up the sources."""
        journal = self._journal
        journal.needed_from = position
        if journal.held_back and not self._is_held():
            journal.held_back = None
            self.router.wake()

    def _is_held(self) -> bool:
        """Return whether an edge needs what should be removed.

        Nothing is written then, so that the journal does not outgrow its bound, and the sources are
        paused. An edge that does not move for ``stall-timeout`` meanwhile is dropped.
        """
        if self._edge_needs_more and not self._dropping:
            self._dropping = gevent.spawn(self._drop_behind)
        return self._edge_needs_more

    @property
    def _edge_needs_more(self) -> bool:
        wanted, needed = self._journal.held_back, self._journal.needed_from
        return wanted is not None and needed is not None and needed < wanted

    def _drop_behind(self) -> None:
        """Drop edges that do not move while they hold up the sources."""
        while self._is_held():
            wanted = self._journal.held_back
            if wanted:
                self.feed.drop_behind(wanted, self.settings.stall_timeout)
            gevent.sleep(CHECK_SECONDS)
        self._dropping = None

    def use_contexts(self, contexts: Contexts) -> None:
        """Use these TLS contexts for new connections."""
        super().use_contexts(contexts)
        self._access.context = contexts.feed

    def recover(self, report: Report) -> None:
        """Continue where the journal ends. Raise JournalUnusableError."""
        super().recover(report)
        self.feed.begin()

    def feed_status(self) -> dict[str, object]:
        """Return the edges that follow, what was sent to them, and what was rejected."""
        rejected = {reason.value: self._access.rejects.counts[reason] for reason in HandshakeReason}
        return {
            "edges": self.feed.edges_status(),
            "edges_dropped": self.feed.dropped,
            "sent_bytes": dict(self.feed.sent_bytes),
            "is_held_up": self._edge_needs_more,
            "handshakes_rejected": rejected,
        }

    def finish_feed(self, timeout: float) -> None:
        """Wait until edges have got everything, for at most ``timeout`` seconds."""
        if not self.feed.finish(timeout):
            log.warning("edges_behind", edges=[edge.name for edge in self.feed.edges])

    def close_feed(self) -> None:
        """End the connections of edges."""
        self.feed.close()
