"""Settings checked against the operating system's limits on open files and accept queues."""

import resource
from pathlib import Path

import structlog

from maze.listener.connection_limits import MAX_SOURCE_HANDSHAKES
from maze.settings.options import Settings

log = structlog.get_logger()

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
"""File that holds the maximum length of an accept queue; see listen(2)."""

RESERVED_DESCRIPTORS = 64
"""Descriptors kept for everything but clients and sources: listening sockets, admin connections,
the event loop, the log, files."""


def check_accept_queue(settings: Settings, somaxconn: Path = SOMAXCONN) -> None:
    """Warn if the system's accept queues are shorter than ``backlog``.

    When an accept queue is full, the kernel drops new connections.
    """
    try:
        limit = int(somaxconn.read_text(encoding="ascii"))
    except (OSError, ValueError):  # only Linux has the file
        return
    if limit < settings.backlog:
        log.warning("backlog_limited", backlog=settings.backlog, somaxconn=limit)


def clients_that_fit(settings: Settings) -> int:
    """Return ``max-clients``, or log and return fewer if the system allows too few descriptors."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return settings.max_clients
    # A source that is about to leave and its successor each have a descriptor.
    spare = limit - RESERVED_DESCRIPTORS - 2 * settings.max_sources
    if settings.source_tls_cert or settings.proxy_from:
        spare -= MAX_SOURCE_HANDSHAKES
    fitting = max(1, min(settings.max_clients, spare))
    if fitting < settings.max_clients:
        log.warning(
            "max_clients_lowered",
            wanted=settings.max_clients,
            max_clients=fitting,
            descriptor_limit=limit,
        )
    return fitting
