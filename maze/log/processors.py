"""What happens to every log line on its way out, whoever wrote it.

Of one kind, only so many a second are let through; a line gets the number of the
connection it is about; and the last warnings are kept, for the live page. The
log is one for the whole process, and so are these.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog
from structlog.typing import EventDict

from maze.net.peer import Peer

LINES_A_SECOND = 100
"""of one kind; what a person can still make use of"""
ONCE_A_SECOND = {
    *("accepting_paused", "client_refused", "handshake_rejected", "source_refused"),
    *("line_rejected", "numbers_skipped", "follow_not_kept"),
    *("rejects_dropped", "rejects_not_written"),
    *("greenlet_failed", "thread_failed", "exception_ignored"),
}
"""Events of which one line a second is enough: most are counted, and the others are all alike."""
KEPT_WARNINGS = 50
_WARNINGS = {"warning", "error", "critical"}

log = structlog.get_logger()


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


Key = tuple[str, str | None, str | None, bool]


@dataclass(slots=True)
class Window:
    """The lines of one kind in the second that its first line began."""

    ends_at: float = 0.0
    lines: int = 0
    untold: int = 0
    """lines held back since the last one that was written"""
    last: tuple[str, EventDict] | None = None
    """level and values of the last of them"""


class RateLimit:
    """Hold back what exceeds a number of lines a second, and tell how many that were.

    Lines are of one kind if event, reason and port are the same. The next line of
    the kind tells the number as ``suppressed``; if none comes, ``tell`` writes the
    last that was held back. A line that stands for several gives how many more
    there are as its own ``suppressed``. At debug everything is let through, but
    for ``ONCE_A_SECOND``: who asks for all wants to follow one event.
    """

    def __init__(self, lines: int = LINES_A_SECOND, clock: Callable[[], float] = monotonic) -> None:
        self.suppressed = 0
        """lines held back, of all kinds"""
        self._lines = lines
        self._clock = clock
        self._windows: defaultdict[Key, Window] = defaultdict(Window)

    def __call__(self, _: object, level: str, event: EventDict) -> EventDict:
        """Let the line through, or raise DropEvent."""
        name = event["event"]
        is_rare = name in ONCE_A_SECOND
        if level == "debug" and not is_rare:
            return event
        # Both ports reject handshakes for the same reasons; such a line names a peer, not a port.
        window = self._windows[name, event.get("reason"), event.get("port"), "source" in event]
        now = self._clock()
        if now >= window.ends_at:
            window.ends_at = now + 1.0
            window.lines = 0
        window.lines += 1
        alike = event.pop("suppressed", 0)
        self.suppressed += alike
        window.untold += alike
        if window.lines > (1 if is_rare else self._lines):
            self.suppressed += 1
            window.untold += 1
            event.pop("exc_info", None)  # it would keep alive what its frames hold
            window.last = level, event
            raise structlog.DropEvent
        if window.untold:
            event["suppressed"] = window.untold
        window.untold = 0
        window.last = None
        return event

    def tell(self, *, is_end: bool = False) -> None:
        """Log the last line held back of every kind whose second is over; at the end, of all."""
        now = self._clock()
        for window in list(self._windows.values()):
            if window.last and (is_end or now >= window.ends_at):
                level, event = window.last
                window.last = None
                window.untold -= 1
                window.ends_at = 0.0
                getattr(log, level)(**event)


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
