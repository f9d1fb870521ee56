"""The server of the soak: the one there is, which also writes down what it holds.

``python -m soak.server FILE [the server's arguments]`` appends a line of JSON to the file
five times a second. To ``sessions.txt`` beside it goes a line whenever a session begins or
ends: the client's port, and ``begins`` or the reason.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

import gevent
from greenlet import greenlet

from maze import serve
from maze.pipeline.session import CloseReason, Session
from maze.server import MazeServer

PERIOD = 0.2
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class SampledServer(MazeServer):
    """A server with a greenlet beside it that counts, and that tells of its sessions."""

    file = Path()

    def start(self) -> None:
        super().start()
        gevent.spawn(self._sample)
        self._tell_of_sessions()

    def _tell_of_sessions(self) -> None:
        told = self.file.with_name("sessions.txt").open("a")
        enter, leave = self.sessions.enter, self.sessions.leave

        def tell_and_enter(session: Session) -> None:
            enter(session)
            # What follows does not wait: whatever is routed after this, the session gets.
            print(session.peer.rpartition(":")[2], "begins", file=told, flush=True)

        def tell_and_leave(session: Session, reason: CloseReason) -> None:
            leave(session, reason)
            print(session.peer.rpartition(":")[2], reason.value, file=told, flush=True)

        vars(self.sessions).update(enter=tell_and_enter, leave=tell_and_leave)

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
            "greenlets": sum(isinstance(each, greenlet) for each in gc.get_objects()),
            "sessions": len(self.sessions),
            "sources": len(self.source.sources),
            "held_bytes": self.router.queued_memory.bytes,
            "routed_events": self.router.routed_events,
        }


if __name__ == "__main__":
    SampledServer.file = Path(sys.argv[1])
    vars(serve)["MazeServer"] = SampledServer
    sys.exit(serve.main(sys.argv[2:]))
