"""The server of the soak: the one there is, which also writes down what it holds.

``python -m soak.server FILE [the server's arguments]`` appends a line of JSON to the file
five times a second.
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
from maze.server import MazeServer

PERIOD = 0.2
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class SampledServer(MazeServer):
    """A server with a greenlet beside it that counts."""

    file = Path()

    def start(self) -> None:
        super().start()
        gevent.spawn(self._sample)

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
            "sessions": len(self.clients.sessions),
            "sources": len(self.source.sources),
            "held_bytes": self.router.held.bytes,
            "routed_events": self.router.routed_events,
        }


if __name__ == "__main__":
    SampledServer.file = Path(sys.argv[1])
    vars(serve)["MazeServer"] = SampledServer
    sys.exit(serve.main(sys.argv[2:]))
