"""Recovery: rebuilds the follow graph, and lets the event loop go on."""

from __future__ import annotations

import threading

from maze.core import Position, Recent
from maze.journal.journal import Batch
from maze.journal.memory import MemoryJournal
from maze.pipeline.recovery import Recovery

from .freed_graph import FreedGraph


def test_the_graph_of_an_epoch_that_has_ended_is_freed_in_a_thread() -> None:
    """A million users take half a second, and an edge with clients recovers, too."""
    journal = MemoryJournal(Position(1, 1))
    batches = [Batch(1, 1, 2, b"1|F|1|2\n"), Batch(5, 1, 1, b""), Batch(5, 1, 2, b"1|F|3|4\n")]
    journal.append(batches, journal.lease())
    graph = FreedGraph()
    recovery = Recovery(journal, graph, Recent(10, 1_000), lambda position: None)
    recovery.run()
    assert [graph.following(user) for user in (1, 3)] == [set(), {4}]
    assert len(graph.freed_in) == 1
    assert threading.get_ident() not in graph.freed_in
