"""The address of a feed: ``HOST:PORT`` or ``unix:PATH``."""

from typing import NamedTuple

from maze.net.peer import UNIX
from maze.settings.option_types import host, whole


class FeedAddress(NamedTuple):
    """Where an ingest serves its journal. For a Unix socket, ``host`` is ``unix:PATH``."""

    host: str
    port: int
    """The port; 0 for a Unix socket."""

    def __str__(self) -> str:
        if self.host.startswith(UNIX):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def feed_address(text: str) -> FeedAddress | None:
    """Parse an address; ``none`` is None."""
    address = text.strip()
    if address == "none":
        return None
    name, _, port = address.rpartition(":")
    try:
        if address.startswith(UNIX):
            return FeedAddress(host(address), 0)
        return FeedAddress(host(name.removeprefix("[").removesuffix("]")), whole(0, 65535)(port))
    except ValueError:
        raise ValueError(f"{text!r} is not none, HOST:PORT or unix:PATH") from None
