"""What is wrong with a combination of options, in the words of the command line."""

import ipaddress

from maze.net.peer import UNIX
from maze.settings.feed_address import FeedAddress
from maze.settings.options import Settings, flag_of


def admin_fault(settings: Settings) -> str | None:
    """Describe what is wrong with the combination of the admin port's options, if anything."""
    if not settings.admin_port or settings.admin_token or is_local(settings.admin_host):
        return None
    return (
        f"--admin-host {settings.admin_host} can be reached from other machines: set "
        "MAZE_ADMIN_TOKEN to a secret of 16 characters or more, or disable the admin port with "
        "--admin-port 0"
    )


def combination_fault(settings: Settings) -> str | None:
    """Describe a contradiction between the options of a server or of a parent, if there is one.

    It is for a start alone: a reload keeps the options that contradict each other.
    """
    roles_fault = edges_fault if settings.edges else role_fault
    return journal_fault(settings) or roles_fault(settings) or rejects_fault(settings)


def journal_fault(settings: Settings) -> str | None:
    """Describe a contradiction between the options of the journal, if there is one."""
    if settings.source_acks and settings.journal is None:
        return "--source-acks on needs --journal: without one, nothing is durable"
    return None


def rejects_fault(settings: Settings) -> str | None:
    """Describe a contradiction between the options of the reject file, if there is one."""
    if not settings.rejects_undelivered:
        return None
    if settings.rejects is None:
        return "--rejects-undelivered on needs --rejects: the file in which to record them"
    if settings.edges or settings.role != "all":
        return (
            "--rejects-undelivered on takes neither --edges nor --role: with these, no process "
            "knows all clients"
        )
    return None


def edges_fault(settings: Settings) -> str | None:
    """Describe what contradicts ``edges``, if it is set and anything does."""
    if settings.edges and (settings.role != "all" or settings.feed):
        return "--edges starts an ingest and edges itself: it takes neither --role nor --feed"
    return _feed_tls_fault(settings) if settings.edges else None


def role_fault(settings: Settings) -> str | None:
    """Describe a contradiction between the options of the role, if there is one."""
    role, feed = settings.role, settings.feed
    if fault := _feed_tls_fault(settings):
        return fault
    if role == "all":
        return "--feed needs --role ingest or --role edge" if feed else None
    if role == "edge" and settings.source_acks:
        return "--role edge takes no --source-acks: only the ingest has sources"
    if settings.is_in_redis:
        return (
            "--feed is for a journal in a file: edges read one in Redis directly" if feed else None
        )
    if not feed:
        return (
            f"--role {role} needs --feed, the address at which the ingest serves its journal, or a "
            "--journal in Redis"
        )
    return _feed_fault(settings, feed)


def _feed_tls_fault(settings: Settings) -> str | None:
    """Describe what is wrong if TLS is set for a feed that cannot use it."""
    feed = settings.feed
    if feed and not feed.host.startswith(UNIX):
        return None
    for name in ("feed_tls_cert", "feed_tls_key", "feed_tls_ca"):
        if getattr(settings, name):
            return f"{flag_of(name)} needs a --feed at HOST:PORT: no other feed can use TLS"
    return None


def _feed_fault(settings: Settings, feed: FeedAddress) -> str | None:
    """Describe what is wrong with the options of an ingest or an edge that has a feed."""
    if settings.role == "ingest" and settings.journal is None:
        return "--role ingest needs --journal: the edges are served from it"
    if settings.role == "edge" and settings.journal is not None:
        return "--role edge takes no --journal in a file: only the ingest opens it"
    if settings.role == "edge" and not feed.host.startswith(UNIX) and not feed.port:
        return f"--feed {feed} has no port: name the port on which the ingest serves its journal"
    if settings.feed_token or is_local(feed.host):
        return None
    return (
        f"--feed {feed} can be reached from other machines: set MAZE_FEED_TOKEN to a secret of "
        "16 characters or more, the same for the ingest and all edges"
    )


def port_fault(settings: Settings) -> str | None:
    """Name two of the server's ports that are the same, if there are two.

    The system's error for the second would read as if another program had the port.
    """
    seen: dict[tuple[str, int], str] = {}
    for flag, address in _ports(settings).items():
        host, port = address
        if host.startswith(UNIX):
            address, flag = (host, 0), flag.replace("-port", "-host")  # noqa: PLW2901
        elif port <= 0:
            continue
        other = seen.setdefault(address, flag)
        if other != flag:
            same, kind = (port, "ports") if address[1] else (host, "paths")
            return f"{other} and {flag} are both {same}: choose different {kind}"
    return None


def _ports(settings: Settings) -> dict[str, tuple[str, int]]:
    """Return host and port of each port that the role opens, by the flag that chooses it."""
    ports: dict[str, tuple[str, int]] = {}
    if settings.admin_port:
        ports = {"--admin-port": (settings.admin_host, settings.admin_port)}
    if settings.role != "ingest":
        ports = {"--client-port": (settings.client_host, settings.client_port)} | ports
    if settings.role != "edge":
        ports = {"--source-port": (settings.source_host, settings.source_port)} | ports
    if settings.role == "ingest" and settings.feed:
        ports["--feed"] = settings.feed
    return ports


def is_local(host: str) -> bool:
    """Return whether only this machine can reach a host: a Unix socket or a loopback address."""
    return host.startswith(UNIX) or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address; of all names, only ``localhost`` counts."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
