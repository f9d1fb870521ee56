"""A snapshot of a server's counters as plain values.

The SIGUSR2 dump, ``/api/status`` and ``/metrics`` all render this snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from maze.core import Reason
from maze.listener.connection_limits import RefusalReason
from maze.listener.handshake_rejects import HandshakeReason
from maze.pipeline.resumes import ResumeOutcome
from maze.pipeline.session import CloseReason
from maze.pipeline.source import SourceCloseReason
from maze.server import Server

if TYPE_CHECKING:
    from maze.journal.tailed import TailedJournal
    from maze.pipeline.journal_store import Lease

Section = dict[str, Any]
Counters = dict[str, Any]
"""Sections by name; that of the journal is None without a journal."""

TYPE_NAMES = {
    b"F": "follow",
    b"U": "unfollow",
    b"B": "broadcast",
    b"P": "private",
    b"S": "status",
}


def counters(server: Server) -> Counters:
    """Return every counter of the server; counts begin at its start. O(sessions)."""
    router, graph = server.router, server.router.fanout.graph
    return {
        "role": server.settings.role,
        "events": events(server),
        "order": _order(server),
        "sources": _sources(server),
        "sessions": _sessions(server),
        "queues": queues(server),
        "accepting_pauses": server.accepting_pauses,
        "graph": {"users": graph.users, "follows": graph.follows, "listeners": graph.listeners},
        "router": {
            "batches": router.stats.batches,
            "waited_seconds": router.stats.waited_seconds,
            "registration_overruns": server.registration.overruns,
        },
        "journal": _journal(server),
        "resumes": _resumes(server),
        "feed": server.feed_status(),
    }


def _order(server: Server) -> Section:
    """Return where the sequence is; an edge gets its events in order, so none is missing."""
    next_sequence = server.router.position.next
    reorder = server.intake and server.intake.reorder
    return {
        "next_sequence": next_sequence,
        "ready_events": server.router.unrouted_events,
        "waiting_events": server.waiting_events,
        "missing_sequence": reorder.missing_sequence if reorder else next_sequence,
        "missing_seconds": server.router.stats.missing_seconds(reorder) if reorder else 0.0,
    }


def events(server: Server) -> Section:
    """Return the counts of events received, routed and rejected."""
    file = server.rejects.file
    figures = "routed", "deliveries", "delivered_bytes"
    tallies = server.router.fanout.tallies().items()
    return {
        "received": server.router.stats.received_events,
        "routed": server.router.stats.routed_events,
        "by_type": {
            TYPE_NAMES[kind]: dict(zip(figures, tally, strict=True)) for kind, tally in tallies
        },
        "rejected": _by_reason(Reason, server.rejects.counts),
        "reject_file": file and {"written": file.written, "dropped": file.dropped},
    }


def _sources(server: Server) -> Section:
    """Return the counts of the source port; an edge has none, and counts nothing."""
    source = server.source
    sources = source.sources if source else []
    return {
        "connected": [{"connection": peer.connection, "source": str(peer)} for peer in sources],
        "closed": _by_reason(SourceCloseReason, source.closed if source else {}),
        "refused": source.refused if source else 0,
        "handshakes_rejected": _by_reason(
            HandshakeReason, source.access.rejects.counts if source else {}
        ),
        "received_bytes": source.received_bytes if source else 0,
    }


def _sessions(server: Server) -> Section:
    clients, sessions = server.clients, server.sessions
    sent = sum(session.sent_bytes for session in sessions)
    return {
        "connected": len(sessions),
        "opened": len(sessions) + sessions.closed.total(),
        "closed": _by_reason(CloseReason, sessions.closed),
        "handshakes": clients.limits.handshakes,
        "handshakes_rejected": _by_reason(HandshakeReason, clients.access.rejects.counts),
        "refused": _by_reason(RefusalReason, clients.limits.refused),
        "sent_bytes": sessions.sent_bytes_of_closed + sent,
        "discarded_bytes": sessions.discarded_bytes,
    }


def queues(server: Server) -> dict[str, int]:
    """Return the bytes queued for clients; ``memory`` counts shared payloads once."""
    sizes = [session.queued_bytes for session in server.sessions]
    return {
        "total": sum(sizes),
        "largest": max(sizes, default=0),
        "memory": server.router.queued_memory.bytes,
    }


def _journal(server: Server) -> Section | None:
    """Return the counts and positions of the journal; None without one.

    Its position is None until the journal is replayed. Figures about the file are None until the
    file is first inspected, a moment later. Only a journal in Redis has a lease and a tail.
    """
    journaling = server.journaling
    if journaling is None:
        return None
    is_replayed = server.state not in ("starting", "replaying")
    file = journaling.statistics
    return {
        "position": str(journaling.position) if is_replayed else None,
        "trouble": journaling.trouble,
        "commits": journaling.commits,
        "committed_bytes": journaling.committed_bytes,
        "events_kept": file and file.events,
        "oldest_position": file and str(file.kept_from),
        "used_bytes": file and file.used_bytes,
        "snapshot_position": file and file.snapshot and str(file.snapshot),
        "lease": journaling.lease and _lease(journaling.lease),
        "tail": journaling.tailed and _tail(journaling.tailed),
    }


def _lease(lease: Lease) -> Section:
    """Return what is known of the lease; only the process that holds it has a fence."""
    seconds = lease.renewed_seconds
    return {
        "is_held": lease.fence is not None,
        "fence": lease.fence,
        "renewed_seconds": seconds and round(seconds, 3),
    }


def _tail(journal: TailedJournal) -> Section:
    """Return what Redis may still lose, and how often it has lost something."""
    tail = journal.tail
    return {
        "batches": len(tail),
        "bytes": tail.bytes,
        "limit_bytes": tail.max_bytes,
        "gaps": journal.gaps,
        "batches_again": journal.batches_again,
    }


def _resumes(server: Server) -> Section:
    resumes, recent = server.router.resumes, server.router.recent
    return {
        "resuming": len(resumes),
        "outcomes": _by_reason(ResumeOutcome, resumes.outcomes),
        "recent_events": recent.events,
        "recent_bytes": recent.bytes,
        "oldest_recent_sequence": recent.kept_from,
    }


def _by_reason(reasons: Iterable[StrEnum], counts: Mapping[Any, int]) -> dict[str, int]:
    """Return the count of every reason, zeros included."""
    return {reason.value: counts.get(reason, 0) for reason in reasons}
