"""The server of the soak: the real one, which also records what it holds.

``python -m soak.server FILE [the server's arguments]`` appends a line of JSON to the file
five times a second. It appends a line to ``sessions.txt`` beside it when a session begins or
ends: the client's port, and ``begins`` or the reason of the end.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gevent
from greenlet import greenlet

from maze import serve
from maze.pipeline.session import CloseReason, Session
from maze.server import MazeServer

PERIOD = 0.2
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class SampledServer(MazeServer):
    """A server that records samples, and when sessions begin and end."""

    file = Path()

    def start(
        self,
        report: Callable[[str], None] = lambda progress: None,
        on_recovered: Callable[[], None] = lambda: None,
    ) -> None:
        super().start(report, on_recovered)
        gevent.spawn(self._sample)
        self._record_sessions()

    def _record_sessions(self) -> None:
        record = self.file.with_name("sessions.txt").open("a")
        enter, leave = self.sessions.enter, self.sessions.leave

        def recorded_enter(session: Session) -> None:
            enter(session)
            # ``enter`` does not wait, so the session gets every event that is routed from now on.
            print(session.peer.rpartition(":")[2], "begins", file=record, flush=True)

        def recorded_leave(session: Session, reason: CloseReason) -> None:
            leave(session, reason)
            print(session.peer.rpartition(":")[2], reason.value, file=record, flush=True)

        vars(self.sessions).update(enter=recorded_enter, leave=recorded_leave)

    def _sample(self) -> None:
        begin = time.monotonic()
        with self.file.open("a") as samples:
            while True:
                sample = {"seconds": round(time.monotonic() - begin, 1), **self._counts()}
                print(json.dumps(sample), file=samples, flush=True)
                gevent.sleep(PERIOD)

    def _counts(self) -> dict[str, int]:
        resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "resident_bytes": resident_pages * PAGE_BYTES,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "greenlets": sum(isinstance(item, greenlet) for item in gc.get_objects()),
            "sessions": len(self.sessions),
            "sources": len(self.source.sources),
            "held_bytes": self.router.queued_memory.bytes,
            "routed_events": self.router.stats.routed_events,
        }


if __name__ == "__main__":
    SampledServer.file = Path(sys.argv[1])
    vars(serve)["MazeServer"] = SampledServer
    sys.exit(serve.main(sys.argv[2:]))
