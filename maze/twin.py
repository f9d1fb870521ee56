"""The outbox that serves: the compiled twin where the compiled core does, else the pure one."""

from contextlib import suppress
from typing import TYPE_CHECKING

from maze.core import TWIN
from maze.outbox import Held, Outbox

if not TYPE_CHECKING and TWIN == "compiled":
    with suppress(ImportError):  # an older build has the core alone
        from maze._outbox import Held, Outbox

__all__ = ["Held", "Outbox"]
