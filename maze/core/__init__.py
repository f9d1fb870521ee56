"""What the project exists for: decode, order, route. Bytes in, bytes out.

Nothing in this package knows a socket, gevent, a clock or a log, and nothing
in it imports from the rest of ``maze``. The path of an event is::

    events.Decoder -> reorder.ReorderBuffer -> fanout.Fanout (on graph.FollowGraph)

The shell imports the names below and no others.
"""

from maze.core.events import Decoder, Event, Run, parse_number
from maze.core.fanout import Fanout
from maze.core.graph import FollowGraph, Recipient
from maze.core.payload import Payload
from maze.core.rejects import Reason, Reject
from maze.core.reorder import ReorderBuffer, ReorderBufferFullError

__all__ = [
    "Decoder",
    "Event",
    "Fanout",
    "FollowGraph",
    "Payload",
    "Reason",
    "Recipient",
    "Reject",
    "ReorderBuffer",
    "ReorderBufferFullError",
    "Run",
    "parse_number",
]
