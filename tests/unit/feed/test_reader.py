"""The reader of a feed, against an ingest that says what the test has it say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer

from maze.core import Position
from maze.feed.messages import ALIVE, BATCH, Greeting, State, encode_batch, encode_error
from maze.feed.reader import FeedReader
from maze.journal.journal import AheadError, Batch, UnavailableError
from maze.journal.snapshot_frames import BEGIN, CHUNK
from maze.net.frames import encode_frame
from maze.net.unix_socket import unix_listener
from maze.settings.feed_address import FeedAddress

START = Position(1, 1)
STATE = State(Position(1, 5), START, False).encode()


class FakeIngest:
    """Greets each edge, then answers each request with the next answer; closes after the last."""

    def __init__(self, path: str) -> None:
        self.answers: list[bytes] = []
        self.greetings: list[bytes] = []
        self.address = FeedAddress(f"unix:{path}", 0)
        self.server = StreamServer(unix_listener(path, 5), self._serve)
        self.server.start()

    def _serve(self, sock: socket.socket, _: object) -> None:
        self.greetings.append(sock.recv(1000))
        sock.sendall(STATE)
        while self.answers and sock.recv(1000):
            sock.sendall(self.answers.pop(0))


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with gevent.Timeout(30.0):
        yield


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[FakeIngest]:
    running = FakeIngest(str(tmp_path / "feed"))
    yield running
    running.server.stop()


@pytest.fixture
def reader(ingest: FakeIngest) -> Iterator[FeedReader]:
    feed = FeedReader(ingest.address, Greeting("", "me"), timeout=5.0, sockets=socket)
    yield feed
    feed.close()


def read(reader: FeedReader) -> object:
    return reader.read(START, 100)


def get_snapshot(reader: FeedReader) -> object:
    return reader.get_snapshot(lambda _: None)


BATCHES = [Batch(1, 1, 3, b"1|B\n2|B\n"), Batch(1, 3, 5, b"")]


def test_batches_are_read(ingest: FakeIngest, reader: FeedReader) -> None:
    ingest.answers = [b"".join(map(encode_batch, BATCHES)) + STATE, STATE]
    assert read(reader) == BATCHES
    assert reader.state == State(Position(1, 5), START, False)
    assert reader.read(Position(1, 5), 100) == []
    assert ingest.greetings == [b"maze-feed 1 - me\n"]


@pytest.mark.parametrize("ask", [read, get_snapshot, FeedReader.position, FeedReader.kept_from])
def test_signs_of_life_are_no_part_of_an_answer(
    ingest: FakeIngest, reader: FeedReader, ask: Callable[[FeedReader], object]
) -> None:
    alive = encode_frame(ALIVE, b"")
    ingest.answers = [STATE, alive + STATE, alive + alive + STATE]
    assert ask(reader) == ask(reader) == ask(reader)


@pytest.mark.parametrize("ask", [read, get_snapshot, FeedReader.position, FeedReader.kept_from])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "it closed the connection"),
        (STATE[:-1], "it ended within a frame"),
        (b"\xff" * 20, "it wrote something that is no frame"),
        (STATE[:-1] + b"?", "it wrote a frame with a wrong checksum"),
        (encode_frame(b"E", b"short"), "a frame has another size than its kind has"),
        (encode_frame(b"?", b""), "it sent an unexpected frame"),
        (encode_frame(CHUNK, b"without a beginning") + STATE, "it sent an unexpected frame"),
    ],
)
def test_an_answer_that_is_none_counts_as_an_ingest_that_is_gone(
    ingest: FakeIngest,
    reader: FeedReader,
    ask: Callable[[FeedReader], object],
    answer: bytes,
    reason: str,
) -> None:
    ingest.answers = [answer]
    with pytest.raises(UnavailableError) as error:
        ask(reader)
    assert str(error.value) == f"the feed {ingest.address}: {reason}"
    ingest.answers = [STATE]
    assert reader.position() == Position(1, 5)


@pytest.mark.parametrize(
    ("ask", "frame"),
    [(read, encode_frame(BATCH, b"short")), (get_snapshot, encode_frame(BEGIN, b"short"))],
)
def test_a_frame_of_another_size_counts_as_an_ingest_that_is_gone(
    ingest: FakeIngest, reader: FeedReader, ask: Callable[[FeedReader], object], frame: bytes
) -> None:
    ingest.answers = [frame + STATE]
    with pytest.raises(UnavailableError, match="size"):
        ask(reader)


@pytest.mark.parametrize(
    "batches",
    [
        [Batch(1, 2, 3, b"")],
        [Batch(1, 1, 3, b""), Batch(1, 4, 5, b"")],
        [Batch(1, 1, 3, b""), Batch(1, 2, 5, b"")],
        [Batch(2, 1, 3, b"")],
        [Batch(0, 1, 1, b"")],
    ],
)
def test_batches_that_do_not_follow_are_refused(
    ingest: FakeIngest, reader: FeedReader, batches: list[Batch]
) -> None:
    ingest.answers = [b"".join(map(encode_batch, batches)) + STATE]
    with pytest.raises(UnavailableError, match="does not follow"):
        read(reader)


def test_the_ingest_s_errors_are_raised_and_the_connection_stays(
    ingest: FakeIngest, reader: FeedReader
) -> None:
    ingest.answers = [encode_error(AheadError("too far")), STATE]
    with pytest.raises(AheadError, match="too far"):
        read(reader)
    assert reader.position() == Position(1, 5)
    assert len(ingest.greetings) == 1


def test_an_ingest_that_has_gone_and_is_back_is_asked_over_a_new_connection(
    ingest: FakeIngest, reader: FeedReader
) -> None:
    """A reader that was idle meanwhile does not even notice."""
    ingest.answers = [STATE]
    assert reader.position() == Position(1, 5)  # the fake ingest then closes the connection
    sock = reader._socket
    assert sock.recv(1, socket.MSG_PEEK) == b""
    ingest.answers = [STATE]
    assert reader.position() == Position(1, 5)
    assert len(ingest.greetings) == 2


def test_an_ingest_that_does_not_answer_is_gone(ingest: FakeIngest, reader: FeedReader) -> None:
    reader._timeout = 0.01
    ingest.answers = [STATE[:10], STATE]
    with pytest.raises(UnavailableError, match="it does not answer"):
        read(reader)


def test_an_address_at_which_nobody_listens(tmp_path: Path) -> None:
    for address, reason in (
        (FeedAddress(f"unix:{tmp_path / 'none'}", 0), "No such file or directory"),
        (FeedAddress(f"unix:{tmp_path / ('n' * 108)}", 0), "AF_UNIX path too long"),
    ):
        reader = FeedReader(address, Greeting("", "me"), timeout=5.0, sockets=socket)
        with pytest.raises(UnavailableError) as error:
            reader.position()
        assert str(error.value) == f"the feed {address}: {reason}"


def test_a_call_that_waits_fails_once_the_reader_is_closed(
    ingest: FakeIngest, reader: FeedReader
) -> None:
    ingest.answers = [b"", STATE]
    waiting = gevent.spawn(reader.position)
    while ingest.answers[1:]:
        gevent.sleep(0)
    reader.close()
    with pytest.raises(UnavailableError):
        waiting.get()
