"""What becomes of a reject: counted by reason, logged, and recorded in the reject file.

It is recorded only where a reject file is kept; see ``reject_file``.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import structlog

from maze.core import Reason, Reject
from maze.log.reject_file import RejectFileWriter
from maze.log.text import escaped

log = structlog.get_logger()

DEBUG_REASONS = {Reason.DUPLICATE, Reason.STALE}
"""expected wherever a source repeats itself: logged at debug only"""

NAMES = {Reason.SKIPPED: "numbers_skipped", Reason.GRAPH_FULL: "follow_not_kept"}
"""of the log lines that are not about a line that was rejected"""


class RejectLog:
    """Counts rejects; a skipped range counts as many as its numbers."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self.file: RejectFileWriter | None = None

    def record(self, rejects: Sequence[Reject], peer: str) -> None:
        """Count, log and record what a source sent that is not routed."""
        if not rejects:
            return
        if self.file is not None:
            self.file.add(rejects, peer)
        by_reason: defaultdict[Reason, list[Reject]] = defaultdict(list)
        for reject in rejects:
            by_reason[reject.reason].append(reject)
        for reason, alike in by_reason.items():
            self.counts[reason] += sum([reject.count for reject in alike])
            self._log(alike[0], peer, len(alike) - 1)

    @staticmethod
    def _log(reject: Reject, peer: str, more: int) -> None:
        details: dict[str, object] = {"reason": reject.reason.value, "source": peer}
        if reject.reason is Reason.SKIPPED:
            assert reject.sequence is not None
            details |= {"first": reject.sequence, "last": reject.sequence + reject.count - 1}
        else:
            details["line"] = escaped(reject.line)
        write = log.debug if reject.reason in DEBUG_REASONS else log.warning
        write(NAMES.get(reject.reason, "line_rejected"), **details, suppressed=more)
