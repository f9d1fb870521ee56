"""structlog processors, applied to every log line.

They add the number of the connection that a line is about, limit the lines of each kind per
second, and keep the last warnings for the live page. The process has one log, and so one instance
of each.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog
from structlog.typing import EventDict

from maze.net.peer import Peer

LINES_PER_SECOND = 100
"""Maximum lines of one kind per second; nobody can read more."""
ONCE_A_SECOND = {
    *("accepting_paused", "client_refused", "handshake_rejected", "source_refused"),
    *("line_rejected", "numbers_skipped", "follow_not_kept"),
    *("rejects_dropped", "rejects_not_written", "reject_file_not_reopened"),
    *("greenlet_failed", "thread_failed", "exception_ignored"),
}
"""Events logged at most once a second per kind: they are also counted, or their lines are alike."""
KEPT_WARNINGS = 50
"""Warnings and errors kept for the live page."""
_WARNINGS = {"warning", "error", "critical"}

log = structlog.get_logger()


def number_connection(_: object, __: str, event: EventDict) -> EventDict:
    """Add the number of the connection to a line that names a peer."""
    for key, value in event.items():
        if isinstance(value, Peer):
            return {**_before(event, key), "connection": value.connection, **event}
    return event


def name_process(process: str, _: object, __: str, event: EventDict) -> EventDict:
    """Add the name of this process: several write the same log."""
    return {"process": process, **event}


def _before(event: EventDict, key: str) -> EventDict:
    """Return the values before ``key``, so that the number can stand directly before the peer."""
    keys = list(event)
    return {name: event[name] for name in keys[: keys.index(key)]}


Key = tuple[str, str | None, str | None, bool]


@dataclass(slots=True)
class Window:
    """The lines of one kind within the second that begins with its first line."""

    ends_at: float = 0.0
    lines: int = 0
    unreported: int = 0
    """Lines suppressed since the last line of this kind that was written."""
    last: tuple[str, EventDict] | None = None
    """Level and values of the last suppressed line."""


class RateLimit:
    """Limit on the lines of one kind per second; the excess is suppressed and counted.

    Lines are of one kind if their event, reason and port are the same. The next line of the kind
    reports the number of suppressed lines as ``suppressed``. If no line follows,
    ``report_suppressed`` writes the last suppressed one. A caller that logs one line for several
    passes the number of the others as ``suppressed``. Lines at debug are not limited, so that one
    event can be followed; only those in ``ONCE_A_SECOND`` are.
    """

    def __init__(
        self, lines: int = LINES_PER_SECOND, clock: Callable[[], float] = monotonic
    ) -> None:
        self.suppressed = 0
        """Suppressed lines of all kinds."""
        self._lines = lines
        self._clock = clock
        self._windows: defaultdict[Key, Window] = defaultdict(Window)

    def __call__(self, _: object, level: str, event: EventDict) -> EventDict:
        """Return the line, or raise DropEvent to suppress it."""
        name = event["event"]
        once_a_second = name in ONCE_A_SECOND
        if level == "debug" and not once_a_second:
            return event
        # "source" in the key keeps the two ports apart: a handshake_rejected line has no port.
        window = self._windows[name, event.get("reason"), event.get("port"), "source" in event]
        now = self._clock()
        if now >= window.ends_at:
            window.ends_at = now + 1.0
            window.lines = 0
        window.lines += 1
        others = event.pop("suppressed", 0)
        self.suppressed += others
        window.unreported += others
        if window.lines > (1 if once_a_second else self._lines):
            self.suppressed += 1
            window.unreported += 1
            event.pop("exc_info", None)  # a traceback keeps its frames' objects alive
            window.last = level, event
            raise structlog.DropEvent
        if window.unreported:
            event["suppressed"] = window.unreported
        window.unreported = 0
        window.last = None
        return event

    def report_suppressed(self, *, is_end: bool = False) -> None:
        """Log the last suppressed line of each kind whose second is over; at the end, of all."""
        now = self._clock()
        for window in list(self._windows.values()):
            if window.last and (is_end or now >= window.ends_at):
                level, event = window.last
                window.last = None
                window.unreported -= 1
                window.ends_at = 0.0
                getattr(log, level)(**event)


class Recent:
    """The last warnings and errors, and their number by level."""

    def __init__(self, kept: int = KEPT_WARNINGS) -> None:
        self.lines: deque[dict[str, Any]] = deque(maxlen=kept)
        self.counts: Counter[str] = Counter()
        """Number of warnings, errors and critical lines since the start, by level."""

    def __call__(self, _: object, level: str, event: EventDict) -> EventDict:
        """Keep the line if it is a warning or an error; return it in any case."""
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
