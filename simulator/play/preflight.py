"""Owns the question whether the server took part in a run at all.

If it closed the connections before an event was sent, there is nothing to judge: the address or
the server's settings differ from what the user thinks. Anything that goes wrong later is for the
verdict: a server that refuses late cannot be told from one that crashes at its first events.
"""

from collections.abc import Sequence

from simulator.errors import RefusedError
from simulator.play.client import Client
from simulator.play.connecting import Address
from simulator.play.source import Source
from simulator.play.unsteady import UnsteadySession


def _or_tls(tls: object) -> str:
    return "or it wants another certificate (--tls-cert)" if tls else "or it wants TLS (--tls-ca)"


def check_admitted(
    sources: Sequence[Source], clients: Sequence[Client | UnsteadySession], address: Address
) -> None:
    """Raise RefusedError if the server has closed a source, or every client."""
    lost = next((source.lost for source in sources if source.lost), None)
    if lost is not None:
        raise RefusedError(
            f"{lost}: perhaps another source is connected, "
            f"{address.host}:{address.source_port} is not its port for the event source, "
            f"{_or_tls(address.tls)}"
        )
    if all(client.closed_by for client in clients):
        raise RefusedError(
            "the server closed the connection of every user client before an event was sent: "
            f"perhaps {address.host}:{address.client_port} is not its port for user clients, "
            f"it lets no more of them in, {_or_tls(address.tls)}"
        )


def nobody_served(address: Address) -> str:
    """Return what else the reason may be than a fault, if no client got a byte."""
    host = address.host
    return (
        "no user client got a byte: unless the server failed at the first events, perhaps "
        f"another source is connected, {host}:{address.source_port} is not its port for the event "
        f"source or {host}:{address.client_port} for user clients, {_or_tls(address.tls)}"
    )
