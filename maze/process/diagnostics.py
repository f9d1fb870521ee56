"""What SIGUSR2 puts into the log: every counter, and where all greenlets and threads stand.

Greenlets that stand at the same place are told together, so that ten thousand
sessions are a few lines. Nothing here reads a file, and the walk over all objects
is made in pieces, lest a server in trouble be stopped by the question what ails it.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from types import FrameType

import gevent
import structlog
from greenlet import greenlet

from maze.admin.counters import Counters, counters
from maze.log.line_writer import LineWriter
from maze.server import MazeServer

log = structlog.get_logger()

STACKS = 50
"""the most stacks in one dump: those where most stand"""
FRAMES = 30
"""the most calls shown of a stack: the innermost"""
OBJECTS = 5_000
GREENLETS = 200
"""looked at before everybody else may run: some 1 ms each"""
PAUSE = 0.001
"""A sleep of 0 would let the others take one step each; an event needs several."""

ORDER = ("next_sequence", "missing_sequence", "ready_events", "waiting_events")

Call = tuple[str, int, str] | str
"""(file, line, function), or a remark"""
Stack = tuple[Call, ...]
NATIVE, MORE = "native thread", "  ..."


class Dump:
    """Puts the state of a server into the log, when told to; one dump at a time."""

    def __init__(self, server: MazeServer, writer: LineWriter) -> None:
        self._server = server
        self._writer = writer
        self._running = False

    def write(self) -> None:
        """Log it all; what is asked for meanwhile is answered by the same lines."""
        if self._running:
            return
        self._running = True
        try:
            dropped = self._writer.dropped
            log.info("dump_counters", **_flat(counters(self._server)), log_lines_dropped=dropped)
            self._write_stacks()
        finally:
            self._running = False

    def _write_stacks(self) -> None:
        stacks = Counter(_stacks())
        log.info("dump_stacks", greenlets_and_threads=stacks.total(), stacks=len(stacks))
        for stack, count in stacks.most_common(STACKS):
            log.info("dump_stack", count=count, stack=_shown(stack))


def _flat(found: Counters) -> dict[str, int]:
    """The counters that say where a server stands, by names that need no context."""
    events, sources, sessions, order = (
        found[part] for part in ("events", "sources", "sessions", "order")
    )
    flat = {
        "sessions": sessions["connected"],
        "sources": len(sources["connected"]),
        "routed_events": events["routed"],
        "registration_overruns": found["router"]["registration_overruns"],
        **{name: order[name] for name in ORDER},
        "queued_bytes": found["queues"]["memory"],
        **found["graph"],
        "discarded_bytes": sessions["discarded_bytes"],
        "sources_refused": sources["refused"],
    }
    for prefix, counts in (
        ("rejects", events["reject_file"] or {}),
        ("rejects", _not_zero(events["rejected"])),
        ("clients_refused", _not_zero(sessions["refused"])),
        ("sources", _not_zero(sources["closed"])),
        ("clients_handshakes", _not_zero(sessions["handshakes_rejected"])),
        ("sources_handshakes", _not_zero(sources["handshakes_rejected"])),
        ("sessions", _not_zero(sessions["closed"])),
    ):
        flat |= {f"{prefix}_{name}": count for name, count in counts.items()}
    return flat


def _not_zero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _stacks() -> Iterator[Stack]:
    for number, frame in sys._current_frames().items():
        if number != threading.get_ident():
            yield (*_stack(frame), NATIVE)
    for count, one in enumerate(_greenlets()):
        if count % GREENLETS == 0:
            gevent.sleep(PAUSE)
        if one.gr_frame is not None:  # else it has ended, or not begun, or it is this one
            yield _stack(one.gr_frame)


def _greenlets() -> Iterator[greenlet]:
    """Every greenlet there is; the collector knows them, nobody else does."""
    objects = gc.get_objects()
    while objects:
        piece = objects[-OBJECTS:]
        del objects[-OBJECTS:]
        yield from [each for each in piece if issubclass(type(each), greenlet)]
        del piece
        gevent.sleep(PAUSE)


def _stack(frame: FrameType | None) -> Stack:
    """The innermost calls, and nothing that would keep the frames."""
    calls: list[Call] = []
    while frame is not None:
        if len(calls) == FRAMES:
            calls.append(MORE)
            break
        code = frame.f_code
        calls.append((code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return tuple(calls)


def _shown(stack: Stack) -> str:
    """A stack, outermost call first, without the source's text, which would have to be read."""
    return "\n".join(
        call if isinstance(call, str) else "  {}:{} {}".format(*call) for call in reversed(stack)
    )
