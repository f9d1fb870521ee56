"""How a play is conducted: its waits, and what sources and clients do beyond their task."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.play.restarting import Restart
from simulator.play.resuming import Leaving
from simulator.play.source import WRITE_BYTES
from simulator.play.unsteady import Habit


@dataclass(frozen=True)
class Timing:
    """The waits of a play in seconds, and the rate of each source in events per second."""

    timeout: float
    settle: float = 0.0
    linger: float = 0.0
    rate: float | None = None
    stall: float = 0.0
    away: float = 0.0  # maximum, after the server was restarted


@dataclass(frozen=True)
class Conduct:
    """How clients and sources behave, beyond sending and receiving."""

    timed: frozenset[int] = frozenset()  # users whose deliveries are timed
    habits: Mapping[int, Habit] = field(default_factory=dict)
    resuming: Mapping[int, tuple[Leaving, ...]] = field(default_factory=dict)
    cut: int = WRITE_BYTES  # maximum bytes per write of a source
    leave: bool = False  # whether sources leave when they have sent everything
    ahead: int = 0  # how far a sequence number sent may exceed the number of lines sent
    restarts: tuple[Restart, ...] = ()
    log_lines: bool = False
    last: int | None = None  # number; resending sources wait until it is acknowledged


PLAIN = Conduct()
"""Clients stay and read, and the source writes as much as it can."""
