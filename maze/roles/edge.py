"""An edge: serves clients with what an ingest's feed tells it."""

import os
import socket
from types import ModuleType

from maze.feed.following import ANSWER_SECONDS, Following
from maze.feed.messages import Greeting
from maze.feed.reader import FeedReader
from maze.feed.redis_follower import RedisFollower
from maze.pipeline.journal_store import redis_place
from maze.server import Report, Server
from maze.settings.options import Settings


class EdgeServer(Server):
    """A server with a client port, whose events come from a feed."""

    def __init__(self, settings: Settings) -> None:
        """Create the parts.

        Raise SettingsError if TLS options or files cannot be used or options contradict each other.
        """
        super().__init__(settings)
        self.following = Following(settings, self.router, self._open_reader, self.fail)
        self.add_client_port()

    def recover(self, report: Report) -> None:
        """Rebuild the follow graph from the feed. Raise JournalUnusableError."""
        self.state = "replaying"
        self.following.recover(report)
        self.following.start()

    @property
    def trouble(self) -> str | None:
        """Why no more events come at present; None if they can."""
        return self.following.trouble

    def feed_status(self) -> dict[str, object]:
        """Return what is known of the feed."""
        return {
            "address": str(self.settings.feed),
            "position": self.following.position and str(self.following.position),
            "lag_events": self.following.lag_events,
            "trouble": self.trouble,
        }

    def expect_end(self) -> None:
        """Drain only once everything has arrived that the ingest has."""
        self.following.expect_end()

    def close_upstream(self) -> None:
        """Stop following the feed."""
        self.following.close()

    def _open_reader(self, sockets: ModuleType = socket) -> FeedReader | RedisFollower:
        settings = self.settings
        if place := settings.is_in_redis and redis_place(settings):
            return RedisFollower(place.reader(settings.journal_timeout))
        address, token = self.settings.feed, self.settings.feed_token
        assert address
        name = f"{socket.gethostname()}:{os.getpid()}"
        return FeedReader(
            address,
            Greeting(token, name),
            timeout=ANSWER_SECONDS,
            sockets=sockets,
            tls=lambda: self.contexts.ingest,
        )
