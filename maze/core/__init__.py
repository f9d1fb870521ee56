"""What the project exists for: decode, order, route. Bytes in, bytes out.

Nothing in this package knows a socket, gevent, a clock or a log, and nothing
in it imports from the rest of ``maze``. The path of an event is::

    events.Decoder -> reorder.ReorderBuffer -> fanout.Fanout (on graph.FollowGraph)

``events``, ``graph``, ``fanout`` and ``payload`` have a compiled twin each
in ``_compiled``, which serves where it was
built, unless ``MAZE_PURE`` is set in the environment. The pure one is the
specification.

The shell imports the names below and no others.
"""

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from maze.core.events import Decoder, Run, parse_number
from maze.core.fanout import Fanout
from maze.core.graph import FollowGraph, Recipient
from maze.core.http_request_line import is_http_request
from maze.core.id_line import IdLine, parse_id_line
from maze.core.payload import Payload, Tape
from maze.core.positions import (
    MISSED,
    REACHED,
    Position,
    next_epoch,
    position_line,
)
from maze.core.rejects import Reason, Reject
from maze.core.reorder import ReorderBuffer, ReorderBufferFullError

IMPLEMENTATION = "pure"
"""which implementation serves: ``pure`` or ``compiled``"""

if not TYPE_CHECKING and not os.environ.get("MAZE_PURE"):
    with suppress(ImportError):  # not built: there was no compiler
        import_module("maze.core._compiled.fanout")  # which needs all others: all serve, or none
        from maze.core._compiled.events import Decoder, Run
        from maze.core._compiled.fanout import Fanout
        from maze.core._compiled.graph import FollowGraph, Recipient
        from maze.core._compiled.payload import Payload, Tape

        IMPLEMENTATION = "compiled"

__all__ = [
    "IMPLEMENTATION",
    "MISSED",
    "REACHED",
    "Decoder",
    "Fanout",
    "FollowGraph",
    "IdLine",
    "Payload",
    "Position",
    "Reason",
    "Recipient",
    "Reject",
    "ReorderBuffer",
    "ReorderBufferFullError",
    "Run",
    "Tape",
    "is_http_request",
    "next_epoch",
    "parse_id_line",
    "parse_number",
    "position_line",
]
