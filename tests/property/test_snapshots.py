"""A snapshot and the batches after it make the same graph as the whole stream."""

import io
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maze.core import Decoder, Fanout, FollowGraph, Position, next_epoch
from maze.journal.journal import Batch, Bounds, Snapshot
from maze.journal.marks import Marks
from maze.journal.snapshot import write_snapshot
from maze.journal.snapshot_frames import BEGIN, CHUNK, parse_begin
from maze.journal.sqlite import SQLiteJournal
from maze.journal.state import GraphState
from maze.net.frames import read_frames

USERS = range(5)
users = st.sampled_from(USERS)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("FFFFU"), users, users),
        st.sampled_from(["B", "gap", "batch", "batch", "snapshot", "reset"]),
        st.builds(Bounds, st.integers(1, 5), st.integers(1, 9), st.integers(1, 4)),
    ),
    max_size=60,
)


class Server:
    """A journal, and the graph of a server that never stopped."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.position = Position(1, 1)
        self.journal = SQLiteJournal(path, self.position, synchronous="OFF")
        self.fence = self.journal.lease()
        self.graph = FollowGraph()
        self.fanout = Fanout(self.graph)
        self.lines: list[bytes] = []
        self.number = 1
        self.bounds: Bounds | None = None

    def do(self, step: object) -> None:
        if isinstance(step, Bounds):
            self.commit()
            self.bounds = step
        elif isinstance(step, tuple):
            kind, sender, target = step
            self.lines.append(b"%d|%s|%d|%d\n" % (self.number, kind.encode(), sender, target))
            self.number += 1
        elif step == "B":
            self.lines.append(b"%d|B\r\n" % self.number)
            self.number += 1
        elif step == "gap":
            self.number += 1
        else:
            self.commit()
            if step == "snapshot":
                self.take_snapshot()
            elif step == "reset":
                self.reset()

    def commit(self) -> None:
        epoch, first = self.position
        if self.number == first:
            return
        body = b"".join(self.lines)
        marks = Marks(first, self.number, b"")
        self.append(Batch(epoch, first, self.number, body, self.bounds, marks.encode()))
        if self.bounds:
            self.graph.set_bounds(*self.bounds)
        self.fanout.route(Decoder().feed(body)[0])
        self.lines, self.bounds = [], None

    def reset(self) -> None:
        self.number = 3
        self.append(Batch(next_epoch(self.position.epoch, 0), 3, 3, b""))
        self.graph.clear()

    def append(self, batch: Batch) -> None:
        self.position = self.journal.append([batch], self.fence)

    def take_snapshot(self) -> None:
        out = io.BytesIO()
        write_snapshot(self.path, out)
        (first, *chunks, _) = read_frames(io.BytesIO(out.getvalue()))
        assert first.kind == BEGIN
        assert {chunk.kind for chunk in chunks} <= {CHUNK}
        position, bounds = parse_begin(first.content)
        assert position == self.position
        contents = [chunk.content for chunk in chunks]
        self.journal.put_snapshot(position, bounds, contents, self.fence)


@given(steps=steps)
@settings(max_examples=40)
def test_a_start_makes_the_graph_of_a_server_that_never_stopped(steps: list[object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(str(Path(folder) / "journal"))
        with closing(server.journal) as journal:
            for step in steps:
                server.do(step)
            server.commit()
            snapshot = journal.get_snapshot(pytest.fail)
            for start in [None] if snapshot is None else [None, snapshot]:
                check(server.graph, journal, start)


def check(expected: FollowGraph, journal: SQLiteJournal, snapshot: Snapshot | None) -> None:
    graph = FollowGraph()
    state = GraphState(graph, Position(1, 1))
    if snapshot:
        state.load(snapshot)
    for batch in journal.read(state.position, 10**9):
        state.apply(batch)
    assert state.position == journal.position()
    graph._check()
    assert (graph.users, graph.follows) == (expected.users, expected.follows)
    for user in USERS:
        assert graph.following(user) == expected.following(user)
    before = graph.follows
    graph.follow(99, 99)
    expected.follow(99, 99)
    assert graph.follows == expected.follows, "the bounds are the same"
    if graph.follows != before:
        expected.unfollow(99, 99)
