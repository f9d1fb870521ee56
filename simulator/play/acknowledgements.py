"""Read the acknowledgements that a server writes to its sources.

A line ``A|epoch|next`` says that everything below number ``next`` is durable. The server writes one
when a source connects, and more while it commits.
"""

import re
import socket
from typing import NamedTuple

from simulator.errors import RefusedError
from simulator.play.tls import raise_if_refused, reason

ACK_TIMEOUT = 5.0
"""Maximum time until the first acknowledgement; seconds."""

MAX_LINE_BYTES = 64
"""Maximum size of an acknowledgement; it has two numbers below 2^63."""

_LINE = re.compile(rb"A\|(\d{1,19})\|(\d{1,19})\r?\n")


class Acknowledgement(NamedTuple):
    """Everything of the epoch below number ``next`` is durable."""

    epoch: int
    next: int


def parse(line: bytes) -> Acknowledgement | None:
    """Return the acknowledgement in a line with its terminator; None if it is not one."""
    found = _LINE.fullmatch(line)
    return Acknowledgement(int(found[1]), int(found[2])) if found else None


def read_first(connection: socket.socket, seconds: float | None = None) -> Acknowledgement:
    """Return the acknowledgement that the server writes at once. Raise RefusedError.

    The connection is non-blocking before and after.
    """
    line = b""
    seconds = ACK_TIMEOUT if seconds is None else seconds
    connection.settimeout(seconds)
    try:
        while not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
            byte = connection.recv(1)
            if not byte:
                raise RefusedError("the server closed the source's connection")
            line += byte
    except TimeoutError:
        raise RefusedError(
            f"the server sent no acknowledgement within {seconds:g} s, which --resend needs: "
            "see the server's option --source-acks"
        ) from None
    except OSError as error:
        raise_if_refused(error)
        raise RefusedError(f"the server closed the source's connection ({reason(error)})") from None
    finally:
        connection.setblocking(False)
    first = parse(line)
    if first is None:
        raise RefusedError(
            f"the server wrote {repr(line)[1:]} to the source, which is no acknowledgement: "
            "--resend needs a server with --source-acks on"
        )
    return first
