"""The follow graph that snapshots and batches make."""

import zlib

import pytest

from maze.core import FollowGraph, Position
from maze.journal.journal import Batch, Bounds, Snapshot
from maze.journal.state import UNBOUNDED, GraphState, JournalContentError, graph_chunks

BOUNDS = Bounds(100, 100, 1)


def test_batches_make_the_graph_under_the_bounds_of_their_time() -> None:
    graph = FollowGraph()
    state = GraphState(graph, Position(1, 1))
    assert state.bounds == UNBOUNDED
    state.apply(Batch(1, 1, 3, b"1|F|1|2\n2|F|1|3\r\n"))
    state.apply(Batch(1, 3, 9, b"3|F|4|5\n5|F|4|6\n8|U|1|2\n", BOUNDS))
    assert [graph.following(user) for user in (1, 4)] == [{3}, {5}]
    assert (state.position, state.bounds) == (Position(1, 9), BOUNDS)


def test_a_reset_clears_the_graph_and_the_bounds_stay() -> None:
    graph = FollowGraph()
    state = GraphState(graph, Position(1, 1))
    state.apply(Batch(1, 1, 2, b"1|F|1|2\n", BOUNDS))
    state.apply(Batch(5, 7, 7, b""))
    assert (graph.users, graph.follows) == (0, 0)
    state.apply(Batch(5, 7, 9, b"7|F|3|4\n8|F|3|5\n"))
    assert graph.following(3) == {4}
    assert state.position == Position(5, 9)


def test_a_reset_leaves_it_to_the_owner_how_the_old_graph_is_freed() -> None:
    freed: list[int] = []
    graph = FollowGraph()
    state = GraphState(graph, Position(1, 1), free=lambda _: freed.append(graph.users))
    state.apply(Batch(1, 1, 2, b"1|F|1|2\n"))
    assert not freed
    state.apply(Batch(5, 7, 8, b"7|F|3|4\n"))
    assert freed == [0]
    assert [graph.following(user) for user in (1, 3)] == [set(), {4}]


def test_a_snapshot_is_loaded_with_its_bounds() -> None:
    written = FollowGraph()
    for follow in [(1, 2), (1, 3), (4, 5)]:
        written.follow(*follow)
    graph = FollowGraph()
    state = GraphState(graph, Position(1, 1))
    state.load(Snapshot(Position(3, 4), BOUNDS, list(graph_chunks(written))))
    state.apply(Batch(3, 4, 6, b"4|F|4|6\n5|F|7|7\n"))
    assert [graph.following(user) for user in (1, 4, 7)] == [{2, 3}, {5}, {7}]


@pytest.mark.parametrize(
    "chunk", [b"no zlib", zlib.compress(b"no follows"), zlib.compress(b"")[:3]]
)
def test_a_chunk_that_is_none_is_told(chunk: bytes) -> None:
    state = GraphState(FollowGraph(), Position(1, 1))
    with pytest.raises(JournalContentError, match="the snapshot 3-4: "):
        state.load(Snapshot(Position(3, 4), BOUNDS, [chunk]))


@pytest.mark.parametrize("body", [b"1|X\n", b"1|B", b"x\n", b"1|F|1\n"])
def test_a_line_that_is_no_event_is_told(body: bytes) -> None:
    with pytest.raises(JournalContentError, match="the batch 1-2 has a line that is no event"):
        GraphState(FollowGraph(), Position(1, 1)).apply(Batch(1, 1, 2, body))
