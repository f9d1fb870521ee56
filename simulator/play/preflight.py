"""Check before the first event that the server admitted the sources and the clients.

If it did not, the address or the server's settings are wrong, and the run cannot take place. Later
failures are part of the verdict, because a late refusal looks like a crash at the first events.
"""

import socket
from collections.abc import Sequence

from simulator.errors import RefusedError
from simulator.play.acknowledgements import Acknowledgement, read_first
from simulator.play.client import Client
from simulator.play.connecting import Address
from simulator.play.source import Source
from simulator.play.unsteady import UnsteadySession


def _or_tls(tls: object) -> str:
    return "or it needs another certificate (--tls-cert)" if tls else "or it needs TLS (--tls-ca)"


def check_admitted(
    sources: Sequence[Source], clients: Sequence[Client | UnsteadySession], address: Address
) -> None:
    """Raise RefusedError if the server has closed a source or every client."""
    lost = next((source.lost for source in sources if source.lost), None)
    if lost is not None:
        raise RefusedError(
            f"{lost}: perhaps another source is connected, "
            f"{address.host}:{address.source_port} is not its source port, "
            f"{_or_tls(address.tls)}"
        )
    if all(client.closed_by for client in clients):
        raise RefusedError(
            "the server closed the connection of every user client before the first event: "
            f"perhaps {address.host}:{address.client_port} is not its client port, "
            f"it admits no more clients, {_or_tls(address.tls)}"
        )


def first_acknowledgements(
    sources: Sequence[socket.socket], address: Address
) -> list[Acknowledgement]:
    """Return the first acknowledgement of each source.

    Raise RefusedError if one receives none, or if the server has events already.
    """
    acknowledged = [read_first(source) for source in sources]
    for first in acknowledged:
        if first.next > 1:
            raise RefusedError(
                f"the server at {address.host}:{address.source_port} already has everything below "
                f"number {first.next}, and the stream begins with number 1: start it with a new "
                "journal"
            )
    return acknowledged


def unserved_hint(address: Address) -> str:
    """Return possible reasons, other than a fault, why no client received a byte."""
    host = address.host
    return (
        "no user client received a byte: unless the server failed at the first events, perhaps "
        f"another source is connected, {host}:{address.source_port} is not its source port, "
        f"{host}:{address.client_port} is not its client port, {_or_tls(address.tls)}"
    )
