"""The SIGUSR2 dump: every counter, and the stacks of all greenlets and threads, in the log.

Identical stacks are logged once with their count, so that ten thousand sessions
take a few lines. A dump must not stop a server that is already in trouble: it
reads no files, and it walks over all objects in slices, yielding between them.
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

from maze.admin.counters import Counters, Section, counters
from maze.log.line_writer import LineWriter
from maze.server import Server

log = structlog.get_logger()

MAX_STACKS = 50
"""Distinct stacks in one dump; the most frequent are kept."""
MAX_FRAMES = 30
"""Frames logged per stack; the innermost are kept."""
OBJECTS_PER_SLICE = 5_000
GREENLETS_PER_SLICE = 200
"""Greenlets inspected between two yields; like a slice of objects, about 1 ms."""
YIELD_SECONDS = 0.001
"""Sleep between slices. With 0 each other greenlet would run one step; an event needs several."""

ORDER = ("next_sequence", "missing_sequence", "ready_events", "waiting_events")
"""Counters that a dump takes from the ``order`` section."""

RESUMES = ("resuming", "recent_events", "recent_bytes", "oldest_recent_sequence")
"""Counters that a dump takes from the ``resumes`` section."""

Call = tuple[str, int, str] | str
"""A frame as (file, line, function), or one of the markers below."""
Stack = tuple[Call, ...]
NATIVE_THREAD, OUTER_FRAMES_OMITTED = "native thread", "  ..."


class Diagnostics:
    """Log a server's state on request, one dump at a time."""

    def __init__(self, server: Server, writer: LineWriter) -> None:
        self._server = server
        self._writer = writer
        self._running = False

    def write(self) -> None:
        """Log one dump; a request during a dump is ignored, since that dump answers it."""
        if self._running:
            return
        self._running = True
        try:
            dropped = self._writer.dropped
            log.info("dump_counters", **_flatten(counters(self._server)), log_lines_dropped=dropped)
            self._write_stacks()
        finally:
            self._running = False

    def _write_stacks(self) -> None:
        stacks = Counter(_stacks())
        log.info("dump_stacks", greenlets_and_threads=stacks.total(), stacks=len(stacks))
        for stack, count in stacks.most_common(MAX_STACKS):
            log.info("dump_stack", count=count, stack=_format(stack))


def _flatten(snapshot: Counters) -> dict[str, object]:
    """Return the counters under names that are unique without their section."""
    events, sources, sessions, order = (
        snapshot[part] for part in ("events", "sources", "sessions", "order")
    )
    journal, resumes = snapshot["journal"] or {}, snapshot["resumes"]
    flat: dict[str, object] = {
        "sessions": sessions["connected"],
        "sources": len(sources["connected"]),
        "routed_events": events["routed"],
        "registration_overruns": snapshot["router"]["registration_overruns"],
        **{name: order[name] for name in ORDER},
        "queued_bytes": snapshot["queues"]["memory"],
        **snapshot["graph"],
        "discarded_bytes": sessions["discarded_bytes"],
        "sources_refused": sources["refused"],
        **{name: resumes[name] for name in RESUMES},
        **_known("journal", journal),
        **_known("feed", snapshot["feed"] or {}),
    }
    for prefix, counts in (
        ("rejects", events["reject_file"] or {}),
        ("rejects", _without_zeros(events["rejected"])),
        ("clients_refused", _without_zeros(sessions["refused"])),
        ("sources", _without_zeros(sources["closed"])),
        ("clients_handshakes", _without_zeros(sessions["handshakes_rejected"])),
        ("sources_handshakes", _without_zeros(sources["handshakes_rejected"])),
        ("sessions", _without_zeros(sessions["closed"])),
        ("resumes", _without_zeros(resumes["outcomes"])),
    ):
        flat |= {f"{prefix}_{name}": count for name, count in counts.items()}
    return flat


def _known(prefix: str, section: Section) -> dict[str, object]:
    """Return the known values of a section and of the sections within it."""
    flat: dict[str, object] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            flat |= _known(f"{prefix}_{name}", value)
        elif value is not None:
            flat[f"{prefix}_{name}"] = value
    return flat


def _without_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _stacks() -> Iterator[Stack]:
    for number, frame in sys._current_frames().items():
        if number != threading.get_ident():
            yield (*_stack(frame), NATIVE_THREAD)
    for count, one in enumerate(_greenlets()):
        if count % GREENLETS_PER_SLICE == 0:
            gevent.sleep(YIELD_SECONDS)
        if one.gr_frame is not None:  # None if it has ended, has not started, or is the current one
            yield _stack(one.gr_frame)


def _greenlets() -> Iterator[greenlet]:
    """Yield every greenlet; only the garbage collector has a list of them."""
    objects = gc.get_objects()
    while objects:
        part = objects[-OBJECTS_PER_SLICE:]
        del objects[-OBJECTS_PER_SLICE:]
        yield from [each for each in part if issubclass(type(each), greenlet)]
        del part
        gevent.sleep(YIELD_SECONDS)


def _stack(frame: FrameType | None) -> Stack:
    """Return the innermost calls as plain values, without references to the frames."""
    calls: list[Call] = []
    while frame is not None:
        if len(calls) == MAX_FRAMES:
            calls.append(OUTER_FRAMES_OMITTED)
            break
        code = frame.f_code
        calls.append((code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return tuple(calls)


def _format(stack: Stack) -> str:
    """Return a stack as text, outermost call first, without source lines (they are on disk)."""
    return "\n".join(
        call if isinstance(call, str) else "  {}:{} {}".format(*call) for call in reversed(stack)
    )
