"""Listening sockets that a supervisor such as systemd has opened and passes on.

The protocol is that of sd_listen_fds(3): the descriptors from 3 on, their number in ``LISTEN_FDS``,
the process that they are for in ``LISTEN_PID``, and their names in ``LISTEN_FDNAMES``.
"""

import os
import socket
from collections.abc import MutableMapping

from maze.errors import SettingsError
from maze.net.peer import endpoint_name, endpoint_of
from maze.settings.combinations import is_local
from maze.settings.options import Settings

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START in <systemd/sd-daemon.h>."""

NAMES = ("source", "client", "admin")
"""The names that sockets may have: those of the ports for which they are."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_HOW_TO_NAME = "set FileDescriptorName= in the .socket unit to source, client or admin"


def take_sockets(environment: MutableMapping[str, str], settings: Settings) -> dict[str, int]:
    """Return the descriptors of the passed sockets by port, and remove the variables about them.

    Return none if there are none for this process. Raise SettingsError if they cannot be used.
    """
    count = environment.pop("LISTEN_FDS", "")
    process = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    if process != str(os.getpid()) or count == "0":
        return {}
    ports = names.split(":") if names else []
    if str(len(ports)) != count:
        raise SettingsError(
            f"LISTEN_FDS is {count or 'missing'}, but LISTEN_FDNAMES has {len(ports)} names: "
            f"{_HOW_TO_NAME}"
        )
    sockets: dict[str, int] = {}
    for descriptor, port in enumerate(ports, FIRST_DESCRIPTOR):
        if fault := _name_fault(port, sockets, settings) or _fault(descriptor, port, settings):
            raise SettingsError(fault)
        os.set_inheritable(descriptor, False)
        sockets[port] = descriptor
    return sockets


def _name_fault(port: str, sockets: MutableMapping[str, int], settings: Settings) -> str | None:
    """Describe what is wrong with the name of a socket, if anything is."""
    if port not in NAMES:
        return f"a socket was passed with the name {port!r}: {_HOW_TO_NAME}"
    if port in sockets:
        return f"two sockets were passed with the name {port}: the port takes only one"
    if port == "admin" and not settings.admin_port:
        return "a socket was passed with the name admin, but --admin-port 0 disables that port"
    if (settings.role, port) in {("ingest", "client"), ("edge", "source")}:
        return (
            f"a socket was passed with the name {port}, but --role {settings.role} has no such port"
        )
    return None


def _fault(descriptor: int, port: str, settings: Settings) -> str | None:
    """Describe what is wrong with a socket, if anything is."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return f"the descriptor passed with the name {port} is not a socket"
    try:
        if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
            return f"the socket with the name {port} is not a stream socket: use ListenStream="
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"the socket with the name {port} does not listen: use Accept=no"
        address = sock.getsockname()
    finally:
        sock.detach()
    if isinstance(address, bytes):
        return f"the socket with the name {port} is an abstract Unix socket: use a path"
    endpoint = endpoint_of(address)
    if port == "admin" and not settings.admin_token and not is_local(endpoint[0]):
        return (
            f"the socket with the name admin, {endpoint_name(endpoint)}, can be reached from other "
            "machines: set MAZE_ADMIN_TOKEN to a secret of 16 characters or more"
        )
    return None
