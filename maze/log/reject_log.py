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
            self._log(group[0], peer, len(group) - 1)

    def record_undelivered(self, events: Sequence[Undelivered], peer: str) -> None:
        """Record events whose users were not connected. They count as no rejects."""
        if events and self.file is not None:
            self.file.add(events, peer)

    @staticmethod
    def _log(reject: Reject, peer: str, others: int) -> None:
        """Log one reject that stands for ``others`` with the same reason."""
        details: dict[str, object] = {"reason": reject.reason.value, "source": peer}
        if reject.reason is Reason.SKIPPED:
            assert reject.sequence is not None
            details |= {"first": reject.sequence, "last": reject.sequence + reject.count - 1}
        else:
            details["line"] = escaped(reject.line)
        write = log.debug if reject.reason in DEBUG_REASONS else log.warning
        write(NAMES.get(reject.reason, "line_rejected"), **details, suppressed=others)
