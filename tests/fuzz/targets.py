"""What is fuzzed: each target takes any bytes, and AssertionError says what does not hold.

The first bytes of an input say how the others are cut and where the limits are, so that
the fuzzer finds those too. What is right is said by the grammar of the property tests.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from socket import MSG_PEEK
from types import ModuleType
from typing import cast

from gevent.socket import socket
from property.grammar import number, parse, split
from property.proxy_grammar import STARTS as PROXY_STARTS
from property.proxy_grammar import proxy_header as proxy_header_of

from maze.core import IdLine, Position, Reject, events
from maze.listener.handshake_rejects import HandshakeError
from maze.listener.id_line import HTTP_LINE_BYTES, read_id_line, receive_id_line
from maze.listener.proxies import receive_proxy_header
from maze.net.connection import Connection

try:
    from maze.core._compiled import events as _events
except ImportError:  # not built: there was no compiler
    TWINS: list[ModuleType] = [events]
else:
    TWINS = [events, _events]

LINE_LIMITS = [64, 4096]
MAX_REJECTS = 3
"""of one feed; few, so that the steps of the decoder are looked at, too"""


def pieces(stream: bytes, size: int) -> list[bytes]:
    """The stream cut every ``size`` bytes, or in 32 if that were more; whole if that is 0."""
    step = max(size, len(stream) // 32) if size else max(1, len(stream))
    return [stream[start : start + step] for start in range(0, len(stream), step)]


def decoder(data: bytes) -> None:
    """Both twins give the same runs and rejects, which are those that the grammar gives."""
    if len(data) < 2:
        return
    limit, stream = LINE_LIMITS[data[0] & 1], data[2:]
    decoded = [_decode(twin, limit, pieces(stream, data[1])) for twin in TWINS]
    assert decoded[0] == decoded[-1], f"the twins differ: {decoded}"
    runs, rejects = decoded[0]
    delivered = Counter(event for events, void in runs if not void for event in events)
    voids = [events[0][:2] for events, void in runs if void]
    expected, expected_voids, expected_reasons = _by_the_grammar(stream, limit)
    assert delivered == expected, f"{delivered} is not {expected}"
    assert Counter(voids) == Counter(expected_voids), f"{voids} is not {expected_voids}"
    reasons = [reject.reason.value for reject in rejects]
    assert reasons == expected_reasons, f"{reasons} is not {expected_reasons}"


Event = tuple[int, bytes, bytes, int, int]
Decoded = tuple[list[tuple[list[Event], bool]], list[Reject]]


def _decode(twin: ModuleType, limit: int, chunks: list[bytes]) -> Decoded:
    decoding = twin.Decoder(limit, MAX_REJECTS)
    runs, rejects = [], []
    for chunk in chunks:
        data = chunk
        while data or decoding.unread:
            some_runs, some_rejects = decoding.feed(data)
            for run in some_runs:
                assert [event[0] for event in run.events] == list(range(run.first, run.end))
                runs.append((run.events, run.void))
            rejects += some_rejects
            data = b""
    return runs, rejects + decoding.finish()


def _by_the_grammar(
    stream: bytes, limit: int
) -> tuple[Counter[Event], list[tuple[int, bytes]], list[str]]:
    """The events, the numbers used up by malformed lines, and the reasons of all rejects."""
    lines, half_line, fits = split(stream, limit)
    valid: Counter[Event] = Counter()
    voids, reasons = [], []
    for line in lines:
        reason, sequence, kind, users = parse(line)
        if not reason:
            sender, target = [*users, 0, 0][:2]
            valid[sequence, line, kind, sender, target] += 1
            continue
        reasons.append(reason)
        if reason != "bad_sequence":
            voids.append((sequence, line))
    if not fits:
        reasons.append("line_too_long")
    elif half_line:
        reasons.append("half_line")
    return valid, voids, reasons


HTTP_REQUEST = re.compile(rb"\r*[!#-'*+.^-z|~A-Z0-9-]+ (?:.*) HTTP/\d(\.\d)?[ \t]*", re.DOTALL)

ENDINGS = [None, TimeoutError, ConnectionResetError, BlockingIOError]
"""how a client ends that has no more to say: it leaves, waits, resets"""
ENDING_REASONS = ["left", "timeout", "left", "timeout"]


class Stranger:
    """What the handshake needs of a connection."""

    def __init__(self, chunks: list[bytes], ending: type[OSError] | None) -> None:
        self.chunks = chunks
        self.ending = ending

    def settimeout(self, seconds: float) -> None:
        assert seconds >= 0

    def recv(self, size: int) -> bytes:
        if not self.chunks:
            if self.ending:
                raise self.ending
            return b""
        chunk = self.chunks.pop(0)
        if len(chunk) > size:
            self.chunks.insert(0, chunk[size:])
        return chunk[:size]


def handshake(data: bytes) -> None:
    """The handshake gives the id line or the reason that the grammar gives."""
    if len(data) < 2:
        return
    limit, ending, stream = 19 + (data[0] >> 2), data[0] & 3, data[2:]
    stranger = Stranger(pieces(stream, data[1]), ENDINGS[ending])
    received = b""
    result: IdLine | str
    try:
        received = receive_id_line(cast(Connection, stranger), limit, deadline=math.inf)
        result = read_id_line(received, limit)
    except HandshakeError as error:
        result = error.reason.value
    line, end, _ = stream.partition(b"\n")
    content = line.removesuffix(b"\r")
    expected: IdLine | str
    most = HTTP_LINE_BYTES if content[:1].isalpha() else limit
    has_line = end or len(content) > most
    if received.startswith(PROXY_STARTS) or (has_line and content.startswith(PROXY_STARTS)):
        expected = "proxy_unexpected"
    elif end and len(content) <= most and HTTP_REQUEST.fullmatch(content):
        expected = "http"
    elif len(content) > (limit if end else most):
        expected = "too_long"
    elif not end:
        expected = ENDING_REASONS[ending]
    else:
        expected = id_line(content) or "bad_user"
    assert result == expected, f"{result} is not {expected}"
    if received:
        assert received + b"".join(stranger.chunks) == stream


def id_line(content: bytes) -> IdLine | None:
    """What a line without its terminator says, None if it is malformed."""
    match = re.fullmatch(rb"([0-9]+)(\|(?:([0-9]+)-([0-9]+))?)?", content)
    if match is None or -1 in (
        numbers := [number(field) for field in match.group(1, 3, 4) if field]
    ):
        return None
    user, *position = numbers
    return IdLine(user, match[2] is not None, Position(*position) if position else None)


class Proxy(Stranger):
    """What the receipt of a PROXY header needs of a socket."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        chunk = super().recv(size)
        if flags & MSG_PEEK and chunk:
            self.chunks[:0] = [chunk]
        return chunk


def proxy_header(data: bytes) -> None:
    """The PROXY header is the one that the grammar gives, and nothing behind it is taken."""
    if len(data) < 2:
        return
    ending, stream = data[0] & 3, data[2:]
    proxy = Proxy(pieces(stream, data[1]), ENDINGS[ending])
    expected = proxy_header_of(stream)
    result: object
    try:
        result = receive_proxy_header(cast(socket, proxy), deadline=math.inf)
    except HandshakeError as error:
        result = error.reason.value
    if isinstance(expected, tuple):
        assert result == expected[1], f"{result} is not {expected}"
        assert b"".join(proxy.chunks) == stream[expected[0] :]
    else:
        reason = "proxy_header" if expected else ENDING_REASONS[ending]
        assert result == reason, f"{result} is not {reason}"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoder": decoder,
    "handshake": handshake,
    "proxy_header": proxy_header,
}
