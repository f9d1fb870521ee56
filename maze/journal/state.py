"""The follow graph that a journal's snapshots and batches make."""

import zlib
from collections.abc import Callable, Iterable, Iterator

from maze.core import Decoder, Fanout, FollowGraph, Position, Run
from maze.core.graph import DetachedGraph
from maze.journal.journal import Batch, Bounds, JournalError, Snapshot

UNBOUNDED = Bounds(2**63 - 1, 2**63 - 1, 2**63 - 1)
"""Bounds of the graph until a snapshot or batch gives others."""

MERGED_BYTES = 256 * 1024
"""Bytes of lines at which batches are not joined any further."""

LINE_LIMIT = 2**31 - 1
"""Longest line accepted: a journal has only lines that the server's own limit let through."""


class JournalContentError(JournalError):
    """A snapshot or batch is whole, but not what a server writes."""


class GraphState:
    """The follow graph at a position, which moves on as batches are applied.

    ``graph`` has no sessions, and ``position`` is that of its follows.
    The result is exactly the graph of a server that routed the same batches.
    ``free`` frees what a reset has removed.
    """

    def __init__(
        self,
        graph: FollowGraph,
        position: Position,
        free: Callable[[DetachedGraph], object] = lambda detached: detached.free(),
    ) -> None:
        self._graph = graph
        self._free = free
        self._fanout = Fanout(graph)
        self.position = position
        """Everything below is applied."""
        self.bounds = UNBOUNDED
        """Bounds of the graph at the position."""

    def load(self, snapshot: Snapshot, pause: Callable[[], object] = lambda: None) -> None:
        """Begin with a snapshot; call ``pause`` after each chunk. Raise JournalContentError."""
        for chunk in snapshot.chunks:
            try:
                self._graph.load(zlib.decompress(chunk))
            except (zlib.error, ValueError) as error:
                raise JournalContentError(f"the snapshot {snapshot.position}: {error}") from None
            pause()
        self.position = snapshot.position
        self._set_bounds(snapshot.bounds)

    def apply(self, batch: Batch) -> list[Run]:
        """Apply a batch that follows the position; return its runs. Raise JournalContentError."""
        if batch.epoch != self.position.epoch:
            self._free(self._graph.clear())
        if batch.bounds:
            self._set_bounds(batch.bounds)
        decoder = Decoder(LINE_LIMIT)
        runs, rejects = decoder.feed(batch.body)
        if rejects or decoder.finish():
            raise JournalContentError(f"the batch {batch.position} has a line that is no event")
        self._fanout.route(runs)
        self.position = batch.position
        return runs

    def _set_bounds(self, bounds: Bounds) -> None:
        self._graph.set_bounds(*bounds)
        self.bounds = bounds


def merged(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Join contiguous batches into fewer: each costs as much to apply as a thousand events."""
    joined: list[Batch] = []
    size = 0
    for batch in batches:
        if joined and (batch.epoch != joined[0].epoch or batch.bounds or size >= MERGED_BYTES):
            yield _join(joined)
            joined, size = [], 0
        joined.append(batch)
        size += len(batch.body)
    if joined:
        yield _join(joined)


def _join(batches: list[Batch]) -> Batch:
    """Return one batch; its marks are the last ones, which cover the most."""
    if len(batches) == 1:
        return batches[0]
    unchanged = next((batch.unchanged for batch in reversed(batches) if batch.unchanged), b"")
    body = b"".join([batch.body for batch in batches])
    return batches[0]._replace(end=batches[-1].end, body=body, unchanged=unchanged)


def graph_chunks(graph: FollowGraph) -> Iterator[bytes]:
    """Return the chunks of a graph for a snapshot: compressed, fast rather than small."""
    return (zlib.compress(chunk, 1) for chunk in graph.chunks())
