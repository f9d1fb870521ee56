"""The outbox in use: the compiled twin if the compiled core is in use, else the pure one."""

from contextlib import suppress
from typing import TYPE_CHECKING

from maze.core import IMPLEMENTATION
from maze.pipeline.outbox import Outbox, QueuedMemory, flush_all, push_all

if not TYPE_CHECKING and IMPLEMENTATION == "compiled":
    with suppress(ImportError):  # an older build has the core alone
        from maze.core._compiled.outbox import Outbox, QueuedMemory, flush_all, push_all

__all__ = ["Outbox", "QueuedMemory", "flush_all", "push_all"]
