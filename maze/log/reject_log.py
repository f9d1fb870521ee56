"""Rejects are counted by reason, logged, and written to the reject file if there is one."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import structlog

from maze.core import Reason, Reject, Undelivered
from maze.log.reject_file import RejectFileWriter
from maze.log.text import escaped

log = structlog.get_logger()

DEBUG_REASONS = {Reason.DUPLICATE, Reason.STALE}
"""Reasons logged at debug: they are expected whenever a source repeats itself."""

NAMES = {Reason.SKIPPED: "numbers_skipped", Reason.GRAPH_FULL: "follow_not_kept"}
"""Names of log events by reason; for all other reasons the event is ``line_rejected``."""


class RejectLog:
    """Counters of rejects by reason; a skipped range counts once for each of its numbers."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self.file: RejectFileWriter | None = None

    def record(self, rejects: Sequence[Reject], peer: str) -> None:
        """Count, log and record the rejects of a source."""
        if not rejects:
            return
        if self.file is not None:
            self.file.add(rejects, peer)
        by_reason: defaultdict[Reason, list[Reject]] = defaultdict(list)
        for reject in rejects:
            by_reason[reject.reason].append(reject)
        for reason, group in by_reason.items():
            self.counts[reason] += sum([reject.count for reject in group])
            self._log(group, peer)

    def record_undelivered(self, events: Sequence[Undelivered], peer: str) -> None:
        """Record events whose recipients were not connected. They count as no rejects."""
        if events and self.file is not None:
            self.file.add(events, peer)

    @staticmethod
    def _log(group: Sequence[Reject], peer: str) -> None:
        """Log rejects with the same reason: all ranges together, or one line for all."""
        reason, others = group[0].reason, len(group) - 1
        details: dict[str, object] = {"reason": reason.value, "source": peer}
        if reason is Reason.SKIPPED:
            details |= _span(group)
            others = 0
        else:
            details["line"] = escaped(group[0].line)
        write = log.debug if reason in DEBUG_REASONS else log.warning
        write(NAMES.get(reason, "line_rejected"), **details, suppressed=others)


def _span(ranges: Sequence[Reject]) -> dict[str, object]:
    """Return the first and the last number of ascending ranges, and how many numbers they have."""
    first, last = ranges[0].sequence, ranges[-1].sequence
    assert first is not None
    assert last is not None
    numbers = sum([each.count for each in ranges])
    return {"first": first, "last": last + ranges[-1].count - 1, "numbers": numbers}
