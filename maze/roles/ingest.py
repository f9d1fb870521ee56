"""The ingest: takes what sources send, and serves it to edges."""

import structlog

from maze.feed.feed_port import FeedPort
from maze.feed.ring import Ring
from maze.pipeline.intake import Intake
from maze.pipeline.source import SourcePort
from maze.server import Report, Server
from maze.settings.options import Settings

log = structlog.get_logger()

RING_BYTES = 16 * 1024 * 1024
"""Memory for the batches committed last. An edge that is further behind is served from the file."""


class IngestServer(Server):
    """A server with a source port and a feed.

    Its router has no sessions. It routes to find out which follows changed nothing, which the
    journal has to tell edges.
    """

    intake: Intake
    source: SourcePort

    def __init__(self, settings: Settings) -> None:
        """Create the parts.

        Raise SettingsError if TLS options or files cannot be used or options contradict each other,
        and JournalUnusableError if the journal cannot be opened.
        """
        super().__init__(settings)
        self.intake = Intake(settings, self.rejects, self.router, self.fail)
        assert self.intake.journaling
        journaling = self.intake.journaling
        self.feed = FeedPort(
            journaling.reader,
            Ring(journaling.position, RING_BYTES),
            lambda: journaling.position,
            settings.feed_token,
        )
        journaling.on_batches = self.feed.on_committed
        self.add_listener(settings.feed_port, self.feed.handle)
        self.source = self.add_source_port(self.intake)

    def recover(self, report: Report) -> None:
        """Continue where the journal ends. Raise JournalUnusableError."""
        super().recover(report)
        self.feed.begin()

    def feed_status(self) -> dict[str, object]:
        """Return the edges that follow."""
        return {"edges": self.feed.edges_status()}

    def finish_feed(self, timeout: float) -> None:
        """Wait until edges have got everything, for at most ``timeout`` seconds."""
        if not self.feed.finish(timeout):
            log.warning("edges_behind", edges=[edge.name for edge in self.feed.edges])

    def close_feed(self) -> None:
        """End the connections of edges."""
        self.feed.close()
