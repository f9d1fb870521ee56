"""What happens to every log line on its way out, whoever wrote it.

It gets the number of the connection it is about; of one name, only so many a
second are let through; and the last warnings are kept, for the live page. The
log is one for the whole process, and so are these.
"""

from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog
from structlog.typing import EventDict

from maze.peer import Peer

LINES_A_SECOND = 100
"""of one name; what a person can still make use of"""
KEPT_WARNINGS = 50
_WARNINGS = {"warning", "error", "critical"}


def number_connection(_: object, __: str, event: EventDict) -> EventDict:
    """Give a line that names a peer the number of its connection."""
    for key, value in event.items():
        if isinstance(value, Peer):
            return {**_before(event, key), "connection": value.connection, **event}
    return event


def _before(event: EventDict, key: str) -> EventDict:
    """The line's values before that one; so the number stands beside the peer."""
    keys = list(event)
    return {name: event[name] for name in keys[: keys.index(key)]}


class RateLimit:
    """Lets so many lines of a name through in a second, and tells how many it held back.

    At debug everything is let through: who asks for all wants to follow one event.
    """

    def __init__(self, lines: int = LINES_A_SECOND, clock: Callable[[], float] = monotonic) -> None:
        self.suppressed = 0
        """lines held back, of all names"""
        self._lines = lines
        self._clock = clock
        self._second = 0
        self._seen: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()

    def __call__(self, _: object, level: str, event: EventDict) -> EventDict:
        """Let the line through, or raise DropEvent."""
        if level == "debug":
            return event
        name = event["event"]
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._seen.clear()
        self._seen[name] += 1
        if self._seen[name] > self._lines:
            self._untold[name] += 1
            self.suppressed += 1
            raise structlog.DropEvent
        if untold := self._untold.pop(name, 0):
            event["suppressed"] = untold + int(event.get("suppressed", 0))
        return event


class Recent:
    """The last warnings and errors."""

    def __init__(self, kept: int = KEPT_WARNINGS) -> None:
        self.lines: deque[dict[str, Any]] = deque(maxlen=kept)
        self.counts: Counter[str] = Counter()
        """how many there were, by level"""

    def __call__(self, _: object, level: str, event: EventDict) -> EventDict:
        """Keep the line if it is one of them."""
        if level in _WARNINGS:
            self.counts[level] += 1
            plain = (str, int, float)
            self.lines.append(
                {
                    key: value if type(value) in plain else str(value)
                    for key, value in event.items()
                    if key != "exc_info"
                }
            )
        return event


RATE_LIMIT = RateLimit()
RECENT = Recent()
PROCESSORS = (number_connection, RATE_LIMIT, RECENT)
"""in this order, behind the level and the time"""
