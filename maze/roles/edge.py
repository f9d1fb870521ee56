"""An edge: serves clients with what an ingest's feed tells it."""

import socket
from types import ModuleType

from maze.errors import JournalUnusableError
from maze.feed.following import ANSWER_SECONDS, Following
from maze.feed.messages import Greeting
from maze.feed.reader import FeedReader
from maze.feed.redis_follower import RedisFollower
from maze.journal.journal import JournalError
from maze.pipeline.journal_store import redis_place
from maze.server import Report, Server
from maze.settings.options import Settings


class EdgeServer(Server):
    """A server with a client port, whose events come from a feed."""

    def __init__(self, settings: Settings, process: str = "") -> None:
        """Create the parts; see ``Server``.

        Also raise JournalUnusableError if the feed or Redis cannot be used, for example because of
        its certificate files.

        ``process`` is the name that a parent has given to this process.
        """
        super().__init__(settings)
        self._name = f"{socket.gethostname()}:{process or settings.client_port}"
        self._place = redis_place(settings) if settings.is_in_redis else None
        try:
            self.following = Following(settings, self.router, self._open_reader, self.fail)
        except JournalError as error:
            raise JournalUnusableError(str(error)) from None
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
        following = self.following
        seconds = following.answer_seconds
        return {
            "address": str(self._place.address if self._place else self.settings.feed),
            "is_connected": following.is_connected,
            "position": following.position and str(following.position),
            "lag_events": following.lag_events,
            "answer_seconds": seconds and round(seconds, 3),
            "losses": following.losses,
            "snapshots_loaded": following.snapshots_loaded,
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
        if self._place:
            return RedisFollower(self._place.reader(settings.journal_timeout))
        assert settings.feed
        return FeedReader(
            settings.feed,
            Greeting(settings.feed_token, self._name),
            timeout=ANSWER_SECONDS,
            sockets=sockets,
            tls=lambda: self.contexts.ingest,
        )
