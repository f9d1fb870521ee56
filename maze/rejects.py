"""What becomes of a reject: counted by reason, and logged, at most once a second a reason."""

from collections import Counter
from collections.abc import Iterable

import structlog

from maze.core import Reason, Reject
from maze.logs import Throttle, shown

log = structlog.get_logger()

QUIET = {Reason.DUPLICATE, Reason.STALE}
"""expected wherever a source repeats itself: logged at debug only"""

NAMES = {Reason.SKIPPED: "numbers_skipped", Reason.GRAPH_FULL: "follow_not_kept"}
"""of the log lines that are not about a line that was rejected"""


class RejectLog:
    """Counts rejects; a skipped range counts as many as its numbers."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self._throttle = Throttle()

    def record(self, rejects: Iterable[Reject], peer: str) -> None:
        """Count and log what a source sent that is not routed."""
        for reject in rejects:
            self.counts[reject.reason] += reject.count
            suppressed = self._throttle.admit(reject.reason)
            if suppressed is not None:
                self._log(reject, peer, suppressed)

    @staticmethod
    def _log(reject: Reject, peer: str, suppressed: int) -> None:
        details: dict[str, object] = {"reason": reject.reason.value, "source": peer}
        if reject.reason is Reason.SKIPPED:
            assert reject.sequence is not None
            details |= {"first": reject.sequence, "last": reject.sequence + reject.count - 1}
        else:
            details["line"] = shown(reject.line)
        if suppressed:
            details["suppressed"] = suppressed
        write = log.debug if reject.reason in QUIET else log.warning
        write(NAMES.get(reject.reason, "line_rejected"), **details)
