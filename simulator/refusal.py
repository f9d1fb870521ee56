"""Owns the question whether the server took part in a run at all.

Where it let nobody in there is nothing to judge: the address, or the server's settings, are other
than the user thinks. Once a client has got a byte, whatever goes wrong is for the verdict.
"""

import socket
from collections.abc import Iterable, Sequence

from simulator.connecting import Address
from simulator.errors import RefusedError

_TLS = "or it wants TLS, which the simulator does not speak"


def check_clients(connections: Iterable[socket.socket], address: Address) -> None:
    """Raises RefusedError if the server has closed all of them before there was an event."""
    if all(map(_is_closed, connections)):
        raise RefusedError(
            "the server closed the connection of every user client before an event was sent: "
            f"perhaps {address.host}:{address.client_port} is not its port for user clients, "
            f"it lets no more of them in, {_TLS}"
        )


def check_sources(cuts: Sequence[str | None], received: int, address: Address) -> None:
    """Raises RefusedError if all sources were cut off and no client got a byte.

    `cuts` has for each source the words for it.
    """
    if cuts[0] is not None and None not in cuts and not received:
        raise RefusedError(
            f"{cuts[0]}, and no user client got a byte: perhaps another source is connected, "
            f"{address.host}:{address.source_port} is not its port for the event source, {_TLS}"
        )


def _is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
