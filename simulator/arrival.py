"""Owns the question whether the server has taken the user ids, which the protocol leaves open.

No client is told that it is known, so a source that starts at once may be ahead of the server's
handshakes. On Linux, when the server runs on this machine, the kernel's table of connections shows
it: the server's end of a connection has been accepted (it has an inode) and what was sent to it has
been read (its receive queue is empty). Elsewhere there is only waiting a little.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
BOUND = 10.0  # seconds to wait for a server that accepts slowly or never reads
BLIND_WAIT = 0.3  # seconds, where the server's ends cannot be seen
_ESTABLISHED = "01"


class _Row(NamedTuple):
    local: int
    remote: int
    unread: int
    unacknowledged: int
    accepted: bool


def wait_until_taken(
    ports: set[int],
    server_port: int,
    bound: float = BOUND,
    pause: Callable[[float], None] = time.sleep,
) -> bool | None:
    """Waits until the server has read what was sent from each of our `ports`, at most `bound` s.

    True: it has. False: it had not within the bound. None: it cannot be seen from here.
    """
    deadline = time.monotonic() + bound
    delivered = False
    while True:
        rows = list(_rows())
        theirs = [row for row in rows if row.local == server_port and row.remote in ports]
        if not theirs:
            pause(BLIND_WAIT)
            return None
        # Those that the server has closed again are not established, and not waited for.
        ours = [row for row in rows if row.remote == server_port and row.local in ports]
        if delivered and len(theirs) >= len(ours) and all(map(_is_taken, theirs)):
            return True
        # What is not acknowledged yet may not be in the server's queue either.
        delivered = not any(row.unacknowledged for row in ours)
        if time.monotonic() > deadline:
            return False
        pause(0.002)


def _is_taken(row: _Row) -> bool:
    return row.accepted and not row.unread


def _rows() -> Iterator[_Row]:
    for table in TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _ESTABLISHED:
                unacknowledged, unread = fields[4].split(":")
                yield _Row(
                    _port(fields[1]),
                    _port(fields[2]),
                    int(unread, 16),
                    int(unacknowledged, 16),
                    fields[9] != "0",
                )


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
