"""The outbox in use: the compiled version if the compiled core is in use, else the pure one."""

from typing import TYPE_CHECKING

from maze.core import IMPLEMENTATION
from maze.pipeline.outbox import Outbox, QueuedMemory, flush_all, push_all

if not TYPE_CHECKING and IMPLEMENTATION == "compiled":
    from maze.core._compiled.outbox import Outbox, QueuedMemory, flush_all, push_all

__all__ = ["Outbox", "QueuedMemory", "flush_all", "push_all"]
