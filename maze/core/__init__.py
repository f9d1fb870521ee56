"""Decodes, orders and routes events: bytes in, bytes out.

No module of this package uses sockets, gevent, clocks or logs, or imports from the rest of
``maze``. An event passes through::

    events.Decoder -> reorder.ReorderBuffer -> fanout.Fanout (on graph.FollowGraph)

``recent`` keeps what was routed last, and ``replay`` collects from it what one user missed.

``events``, ``graph``, ``fanout``, ``payload``, ``recent``, ``replay`` and ``marks``, and
``maze.pipeline.outbox``, each have a compiled version in ``_compiled``. The compiled versions are
used if all of them were built and the variable ``MAZE_PURE`` is unset or empty. The pure modules
are the specification.

``holding`` decides which sessions are too slow.

The rest of ``maze`` imports only the names listed in ``__all__``.
"""

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from maze.core.events import NUMBER_LIMIT, Decoder, Run, lines_of, parse_number
from maze.core.fanout import Fanout
from maze.core.graph import FollowGraph, Recipient
from maze.core.holding import Holding, holders
from maze.core.http_request_line import is_http_request
from maze.core.id_syntax import IdLine, parse_id_line
from maze.core.marks import mark_unchanged, unchanged_numbers
from maze.core.payload import Payload, Tape
from maze.core.positions import (
    MISSED,
    REACHED,
    Position,
    next_epoch,
    position_line,
)
from maze.core.proxy_header import (
    MAX_PROXY_HEADER_BYTES,
    ProxyHeader,
    ProxyHeaderError,
    is_proxy_header,
    parse_proxy_header,
)
from maze.core.recent import Recent
from maze.core.rejects import Reason, Reject, Undelivered
from maze.core.reorder import ReorderBuffer, ReorderBufferFullError
from maze.core.replay import BehindError, Replay, UserWalk

IMPLEMENTATION = "pure"
"""Name of the implementation in use: ``pure`` or ``compiled``."""

if not TYPE_CHECKING and not os.environ.get("MAZE_PURE"):
    with suppress(ImportError):  # not built: there was no compiler
        import_module("maze.core._compiled.outbox")
        import_module("maze.core._compiled.replay")
        import_module("maze.core._compiled.fanout")  # imports the others: all are used, or none
        from maze.core._compiled.events import Decoder, Run, lines_of
        from maze.core._compiled.fanout import Fanout
        from maze.core._compiled.graph import FollowGraph, Recipient
        from maze.core._compiled.payload import Payload, Tape
        from maze.core._compiled.replay import (
            Recent,
            Replay,
            UserWalk,
            mark_unchanged,
            unchanged_numbers,
        )

        IMPLEMENTATION = "compiled"

__all__ = [
    "IMPLEMENTATION",
    "MAX_PROXY_HEADER_BYTES",
    "MISSED",
    "NUMBER_LIMIT",
    "REACHED",
    "BehindError",
    "Decoder",
    "Fanout",
    "FollowGraph",
    "Holding",
    "IdLine",
    "Payload",
    "Position",
    "ProxyHeader",
    "ProxyHeaderError",
    "Reason",
    "Recent",
    "Recipient",
    "Reject",
    "ReorderBuffer",
    "ReorderBufferFullError",
    "Replay",
    "Run",
    "Tape",
    "Undelivered",
    "UserWalk",
    "holders",
    "is_http_request",
    "is_proxy_header",
    "lines_of",
    "mark_unchanged",
    "next_epoch",
    "parse_id_line",
    "parse_number",
    "parse_proxy_header",
    "position_line",
    "unchanged_numbers",
]
